//! Syslog: RFC 5424 messages with octet counting (RFC 6587 §3.4.1), over TCP or TLS (RFC 5425).
//!
//! Syslog confirms nothing. When a connection breaks, what was sent last may not have arrived, so it is sent again: a receiver
//! may see a record twice, with the same `event.id`.

use std::future::poll_fn;
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
use super::lines::{lines, trimmed};
use super::shorten::shortened;
use crate::egress::{Connection, Dialer};
use crate::telemetry::chain;

/// Most bytes of lines that are sent at once; as much is kept until more was sent after it.
pub(super) const MAX_BATCH: usize = 256 << 10;
/// How long a receiver may take to close its side.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest HOSTNAME and MSGID (RFC 5424 §6).
const LONGEST_HOST: usize = 255;
const LONGEST_MSGID: usize = 32;

/// TLS in it is that with the receiver.
type Stream = TokioIo<MaybeHttpsStream<Connection>>;

/// A receiver.
pub(in crate::audit) struct Syslog {
    config: SyslogConfig,
    dialer: Dialer,
    uri: Uri,
    /// HOSTNAME, APP-NAME and PROCID.
    origin: String,
    stream: Option<Stream>,
    /// What was sent last on `stream`, and may not have arrived.
    unconfirmed: Vec<u8>,
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
            dialer: Dialer::new(&config.egress),
            config: config.clone(),
            uri,
            stream: None,
            unconfirmed: Vec::new(),
        })
    }

    pub(super) async fn deliver(&mut self, batch: &Bytes) -> Delivery {
        let frames = self.frames(batch);
        let timeout = self.config.timeout;
        // Taken: a connection on which something went wrong, or that was given up amid a message, is not used again.
        let stream = self.stream.take();
        match tokio::time::timeout(timeout, self.write(stream, &frames)).await {
            Ok(Ok(stream)) => {
                self.stream = Some(stream);
                self.unconfirmed = frames;
                Delivery::Done { rejected: 0 }
            }
            Ok(Err(error)) => Delivery::Failed(Failure::new(error.to_string())),
            Err(_) => Delivery::Failed(Failure::new(format!("the receiver took nothing within {timeout:?}"))),
        }
    }

    /// Writes messages, after those that may have been lost with the last connection.
    async fn write(&self, stream: Option<Stream>, frames: &[u8]) -> io::Result<Stream> {
        let mut open = stream;
        if let Some(stream) = &mut open
            && has_ended(stream).await
        {
            open = None;
        }
        let mut stream = match open {
            Some(stream) => stream,
            None => {
                let mut stream = self.connect().await?;
                stream.write_all(&self.unconfirmed).await?;
                stream
            }
        };
        stream.write_all(frames).await?;
        stream.flush().await?;
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

    /// Ends the connection: over TLS with `close_notify`, without which a receiver reports an error.
    pub(super) async fn close(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        let farewell = async {
            stream.shutdown().await?;
            // Closed at once, a connection with unread bytes would be reset, and what it carried be lost.
            tokio::io::copy(&mut (&mut stream).take(MAX_BATCH as u64), &mut tokio::io::sink()).await
        };
        match tokio::time::timeout(FAREWELL, farewell).await {
            Ok(Ok(_)) => self.unconfirmed.clear(),
            _ => tracing::debug!(receiver = %self.config.address, "a syslog receiver did not close its connection"),
        }
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
            Severity::Denied => 4,
            Severity::Alert => 5,
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

/// Whether the receiver has closed the connection. It is not read to its end: receivers say nothing.
async fn has_ended(stream: &mut Stream) -> bool {
    let mut bytes = [0; 1024];
    poll_fn(|context| {
        let mut buffer = ReadBuf::new(&mut bytes);
        Poll::Ready(match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => buffer.filled().is_empty(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        })
    })
    .await
}
