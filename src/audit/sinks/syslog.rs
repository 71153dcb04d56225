//! Syslog: RFC 5424 messages with octet counting (RFC 6587 §3.4.1), over TCP or TLS (RFC 5425).
//!
//! Syslog confirms nothing. When a connection breaks, what was sent last may not have arrived, so it is sent again: a receiver
//! may see a record twice, with the same `event.id`. How much that is, is known only at most: what the buffers of both sides
//! hold. It is kept in memory, and the place in the spool stays before it, for the case that this process ends as well. That all
//! has arrived is known only where the connection ends in good order ([`farewell`]).

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tower_service::Service;

use super::super::config::SyslogConfig;
use super::delivery::{Delivery, Failure};
use super::facts::{Facts, Severity};
use super::farewell::{self, Stream};
use super::lines::{lines, trimmed};
use super::shorten::shortened;
use crate::egress::Dialer;
use crate::telemetry::chain;

/// Most bytes of lines that are sent at once.
pub(super) const MAX_BATCH: usize = 256 << 10;
/// Size of the send buffer; the kernel doubles it.
const SEND_BUFFER: usize = 256 << 10;
/// Messages are kept until so many bytes were sent after them: what both buffers of the connection hold. Linux lets that of the
/// receiver grow to 6 MiB (`tcp_rmem`).
const UNCONFIRMED: usize = 8 << 20;
/// How long a receiver may take to close its side.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest HOSTNAME and MSGID (RFC 5424 §6).
const LONGEST_HOST: usize = 255;
const LONGEST_MSGID: usize = 32;

/// A receiver.
pub(in crate::audit) struct Syslog {
    config: SyslogConfig,
    dialer: Dialer,
    uri: Uri,
    /// HOSTNAME, APP-NAME and PROCID.
    origin: String,
    stream: Option<Stream>,
    unconfirmed: Unconfirmed,
}

/// What was sent last, and may not have arrived.
#[derive(Default)]
struct Unconfirmed {
    /// Whole messages of each batch, and how many lines they are of.
    batches: VecDeque<(Vec<u8>, u64)>,
    bytes: usize,
    lines: u64,
}

impl Unconfirmed {
    /// Adds what was sent, and forgets what must have arrived.
    fn push(&mut self, frames: Vec<u8>, lines: u64) {
        self.bytes += frames.len();
        self.lines += lines;
        self.batches.push_back((frames, lines));
        while let Some((first, lines)) = self.batches.front()
            && self.bytes - first.len() >= UNCONFIRMED
        {
            self.bytes -= first.len();
            self.lines -= lines;
            self.batches.pop_front();
        }
    }
}

impl Syslog {
    pub(super) fn new(config: &SyslogConfig, node: &str) -> io::Result<Self> {
        let (host, port) = (config.address.host(), config.address.port());
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let scheme = if config.trust.is_some() { "https" } else { "http" };
        let uri = format!("{scheme}://{host}:{port}/").parse().map_err(io::Error::other)?;
        let name = word(node, LONGEST_HOST);
        Ok(Self {
            origin: format!("{name} {} {}", config.app_name, std::process::id()),
            dialer: Dialer::buffering(&config.egress, Some(SEND_BUFFER)),
            config: config.clone(),
            uri,
            stream: None,
            unconfirmed: Unconfirmed::default(),
        })
    }

    pub(super) async fn deliver(&mut self, batch: &Bytes) -> Delivery {
        let frames = self.frames(batch);
        let count = memchr::memchr_iter(b'\n', batch).count() as u64;
        // Taken: a connection on which something went wrong, or that was given up amid a message, is not used again.
        let stream = match self.stream.take() {
            Some(stream) => self.unless_ended(stream).await,
            None => None,
        };
        match self.write(stream, &frames).await {
            Ok(stream) => {
                self.stream = Some(stream);
                self.unconfirmed.push(frames, count);
                Delivery::Sent { unconfirmed: self.unconfirmed.lines }
            }
            Err(error) => Delivery::Failed(Failure::new(error.to_string())),
        }
    }

    /// The connection, if the receiver has not ended it. If it has done so in good order, as receivers do after a while without
    /// messages, nothing is sent again.
    async fn unless_ended(&mut self, mut stream: Stream) -> Option<Stream> {
        match end_of(&mut stream).await {
            None => return Some(stream),
            Some(Ok(())) if self.dialer.is_direct(&self.uri) && farewell::is_acknowledged(&stream, FAREWELL).await => {
                self.unconfirmed = Unconfirmed::default();
            }
            Some(_) => {}
        }
        None
    }

    /// Waits for something that the receiver has to let happen.
    async fn in_time<T>(&self, waiting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let timeout = self.config.timeout;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("the receiver took nothing within {timeout:?}"));
        tokio::time::timeout(timeout, waiting).await.map_err(late)?
    }

    /// Writes bytes for as long as the receiver takes some.
    async fn write_all(&self, stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.in_time(stream.write(bytes)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
        self.in_time(stream.flush()).await
    }

    /// Writes messages, after those that may have been lost with the last connection.
    async fn write(&self, stream: Option<Stream>, frames: &[u8]) -> io::Result<Stream> {
        let mut stream = match stream {
            Some(stream) => stream,
            None => {
                let mut stream = self.in_time(self.connect()).await?;
                for (frames, _) in &self.unconfirmed.batches {
                    self.write_all(&mut stream, frames).await?;
                }
                stream
            }
        };
        self.write_all(&mut stream, frames).await?;
        Ok(stream)
    }

    async fn connect(&self) -> io::Result<Stream> {
        let stream = match &self.config.trust {
            None => MaybeHttpsStream::Http(self.dialer.clone().connect(self.uri.clone()).await?),
            Some(trust) => {
                let mut connector = HttpsConnector::from((self.dialer.clone(), Arc::clone(&trust.config)));
                connector.call(self.uri.clone()).await.map_err(|error| io::Error::other(chain(&*error)))?
            }
        };
        Ok(TokioIo::new(stream))
    }

    /// Ends the connection: over TLS with `close_notify`, without which a receiver reports an error. Returns whether everything
    /// that was sent has arrived.
    pub(super) async fn close(&mut self) -> bool {
        let Some(mut stream) = self.stream.take() else { return self.unconfirmed.lines == 0 };
        let ending = async {
            stream.shutdown().await?;
            // Closed at once, a connection with unread bytes would be reset, and what it carried be lost.
            tokio::io::copy(&mut (&mut stream).take(MAX_BATCH as u64), &mut tokio::io::sink()).await?;
            io::Result::Ok(farewell::is_acknowledged(&stream, FAREWELL).await)
        };
        let ended = tokio::time::timeout(FAREWELL, ending).await;
        if let Ok(Ok(true)) = ended
            && self.dialer.is_direct(&self.uri)
        {
            self.unconfirmed = Unconfirmed::default();
            return true;
        }
        if !matches!(ended, Ok(Ok(_))) {
            tracing::warn!(
                receiver = %self.config.address,
                "a syslog receiver did not close its connection; what was sent last may not have arrived, and is sent again"
            );
        }
        false
    }

    /// The messages of a batch, each with its length before it.
    fn frames(&self, batch: &[u8]) -> Vec<u8> {
        let mut frames = Vec::with_capacity(batch.len() + batch.len() / 4);
        for line in lines(batch) {
            let message = self.message(trimmed(line));
            // Writing to a `Vec` cannot fail.
            let _ = write!(frames, "{} ", message.len());
            frames.extend_from_slice(&message);
        }
        frames
    }

    /// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID - MSG` (RFC 5424 §6).
    fn message(&self, line: &[u8]) -> Vec<u8> {
        let facts = Facts::of(line);
        let severity = match facts.severity() {
            Severity::Error => 3,
            Severity::Alert => 4,
            // Not above an alert: requests are refused all day.
            Severity::Denied => 5,
            Severity::Info => 6,
        };
        let priority = u16::from(self.config.facility) * 8 + severity;
        let timestamp = facts.at().map_or("-", |_| &*facts.timestamp);
        let (origin, id) = (&self.origin, word(&facts.event.action, LONGEST_MSGID));
        let cookie = if self.config.cee { "@cee: " } else { "" };
        let mut message = format!("<{priority}>1 {timestamp} {origin} {id} - {cookie}").into_bytes();
        let room = self.config.max_message.saturating_sub(message.len());
        if line.len() <= room {
            message.extend_from_slice(line);
        } else {
            message.extend_from_slice(&shortened(line, room));
        }
        message
    }
}

/// A field of the header: visible ASCII, or `-` for nothing.
fn word(text: &str, most: usize) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// How the receiver has ended the connection, if so. It is not read to its end: receivers say nothing.
async fn end_of(stream: &mut Stream) -> Option<io::Result<()>> {
    let mut bytes = [0; 1024];
    poll_fn(|context| {
        let mut buffer = ReadBuf::new(&mut bytes);
        Poll::Ready(match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => buffer.filled().is_empty().then_some(Ok(())),
            Poll::Ready(Err(error)) => Some(Err(error)),
            Poll::Pending => None,
        })
    })
    .await
}
