//! One connection to an upstream server, used by one request at a time.
//!
//! The request that uses a connection drives it, not a separate task. This saves a hop between tasks, and dropping the
//! request drops its connection, so a client that disconnects cancels its call.

use std::io;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use hyper::body::{Body as _, Frame, SizeHint};

use super::error::ResponseError;
use super::head::{self, Head, Interims, MAX_HEADERS};
use super::limit::Permit;
use super::slots::Open;
use crate::body::Body;
use crate::proxy::deadline::Deadline;
use crate::proxy::http1::body_decoder::{BodyDecoder, Framing};
use crate::proxy::http1::read_buffer::ReadBuffer;
use crate::proxy::http1::writer::{MessageWriter, SendError};
use crate::proxy::stream::Stream;
use crate::state::endpoint::{ApiPermit, EndpointPermit};

/// Most bytes of a body that are read in order to keep a connection.
const DISCARDED: usize = 64 << 10;

/// A connection to an upstream server.
pub(crate) struct UpstreamConnection {
    stream: Stream,
    writer: MessageWriter,
    /// The rest of the request's body.
    body: Option<Body>,
    /// All that was written has gone to the kernel. TLS keeps some of it until it is flushed.
    flushed: bool,
    /// A copy of the request's body for a retry, when it is buffered as a whole.
    retry_body: Option<Body>,
    /// The method of the current request.
    method: Method,
    /// The current request asks for a WebSocket, so that the response may be 101.
    pub(crate) switches: bool,
    read_buffer: ReadBuffer,
    /// How much of it was there when the head was last found to be incomplete.
    looked_at: usize,
    decoder: BodyDecoder,
    /// Cleared by anything that rules out another request on this connection.
    may_go_on: bool,
    used: bool,
    /// How long the peer keeps it without a request (`Keep-Alive: timeout`), if it says so.
    pub(super) keep_alive: Option<Duration>,
    /// The interim responses to the current request.
    pub(crate) interims: Interims,
    /// When the upstream stopped accepting what is written to it.
    pub(crate) stalled: Option<Instant>,
    /// The timer for every wait on this connection.
    pub(crate) deadline: Deadline,
    /// When the current or the last request began.
    pub(crate) begun: Instant,
    /// When it was opened.
    pub(super) opened: Instant,
    /// Counts the current request.
    counted: Option<Counted>,
    /// Counts the connection until it is closed.
    _permit: Permit,
    _open: Open,
}

/// Counts a request in flight, for its address and its API.
pub(crate) type Counted = (EndpointPermit, ApiPermit);

/// Counts a connection that is no longer one of HTTP, until it is dropped.
pub(crate) struct Held {
    _counted: Option<Counted>,
    _permit: Permit,
    _open: Open,
}

impl UpstreamConnection {
    /// Wraps a stream that was just opened.
    pub(super) fn new(stream: Stream, permit: Permit, open: Open) -> Self {
        let now = Instant::now();
        Self {
            stream,
            writer: MessageWriter::default(),
            body: None,
            flushed: true,
            retry_body: None,
            method: Method::GET,
            switches: false,
            read_buffer: ReadBuffer::default(),
            looked_at: 0,
            decoder: BodyDecoder::for_responses(MAX_HEADERS),
            may_go_on: true,
            used: false,
            keep_alive: None,
            interims: Interims::default(),
            stalled: None,
            deadline: Deadline::default(),
            begun: now,
            opened: now,
            counted: None,
            _permit: permit,
            _open: open,
        }
    }

    /// Begins a request, now. `fields` writes the header fields, each as a line with its CRLF. The fields that frame the
    /// body are added here. Nothing is sent before `poll_head`.
    pub(crate) fn begin(
        &mut self,
        method: &Method,
        target: &str,
        fields: impl FnOnce(&mut Vec<u8>),
        body: Body,
        now: Instant,
    ) {
        let (ended, length) = (body.is_end_stream(), body.size_hint().exact());
        let bytes = self.writer.begin();
        bytes.extend_from_slice(method.as_str().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(target.as_bytes());
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        fields(bytes);
        match length {
            // RFC 9110 §8.6: announce an empty body only for methods that usually have one.
            Some(0) if ended && !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {}
            Some(length) => {
                bytes.extend_from_slice(b"content-length: ");
                bytes.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
            None => bytes.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        bytes.extend_from_slice(b"\r\n");
        (self.writer.chunked, self.writer.ended) = (length.is_none(), ended);
        self.flushed = false;
        self.retry_body = body.copy();
        self.body = Some(body).filter(|_| !ended);
        (self.method, self.switches) = (method.clone(), false);
        self.read_buffer.input.clear();
        (self.interims, self.stalled, self.looked_at) = (Interims::default(), None, 0);
        self.begun = now;
    }

    /// Sends the request and waits for the head of the response.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, ResponseError>> {
        self.push(cx)?;
        loop {
            let input = &mut self.read_buffer.input;
            let head = match head::may_go_on(input, self.looked_at) {
                true => head::read(input, &self.method, self.switches, &mut self.interims)?,
                false => None,
            };
            self.looked_at = input.len();
            if let Some(head) = head {
                self.decoder.begin(head.framing);
                self.may_go_on &= head.keep_alive && head.framing != Framing::UntilClose;
                (self.used, self.keep_alive) = (true, head.keep_alive_timeout);
                return Poll::Ready(Ok(head));
            }
            let error = match ready!(self.read_buffer.poll_fill(&mut self.stream, cx)) {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => continue,
                Err(error) => error,
            };
            let is_untouched = self.read_buffer.input.is_empty() && !self.interims.are_any();
            return Poll::Ready(Err(match is_untouched {
                true => ResponseError::Unanswered { error, reused: self.used, body: self.retry_body.take() },
                false => ResponseError::Broken(error),
            }));
        }
    }

    /// Reads the next piece of the response's body, while the rest of the request's is sent.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        if let Err(error) = self.push(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.decoder.decode(&mut self.read_buffer.input) {
                Ok(None) if self.decoder.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => return Poll::Ready(Some(Err(ResponseError::MalformedBody(error)))),
            }
            match ready!(self.read_buffer.poll_fill(&mut self.stream, cx)) {
                Ok(0) if self.decoder.close() => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(ResponseError::Broken(io::ErrorKind::UnexpectedEof.into())))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(ResponseError::Broken(error)))),
            }
        }
    }

    /// Returns how many bytes were read and are not taken yet.
    pub(super) fn read_ahead(&self) -> usize {
        self.read_buffer.input.len()
    }

    /// Reads little the next time, however much there is.
    pub(super) fn read_less(&mut self) {
        self.read_buffer.read_less();
    }

    /// Counts the current request until the connection is put back or closed.
    pub(crate) fn count(&mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    /// The current request is over.
    pub(super) fn release(&mut self) {
        (self.counted, self.retry_body) = (None, None);
    }

    /// Takes the copy of the current request's body, to send it elsewhere.
    pub(crate) fn take_request(&mut self) -> Option<Body> {
        self.retry_body.take()
    }

    /// Reads and drops the body of the response, if it has come whole and is short. Returns whether it has ended.
    pub(crate) fn discard_body(&mut self) -> bool {
        let mut left = DISCARDED;
        loop {
            match self.poll_body(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(None) => return true,
                Poll::Ready(Some(Ok(frame))) => match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(less) => left = less,
                    None => return false,
                },
                Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            }
        }
    }

    /// Takes the stream, and what was read beyond the head, of a connection that has switched protocols, and what counts it.
    pub(crate) fn into_stream(self) -> (Stream, Bytes, Held) {
        let Self { stream, mut read_buffer, counted, _permit: permit, _open: open, .. } = self;
        (stream, std::mem::take(&mut read_buffer.input), Held { _counted: counted, _permit: permit, _open: open })
    }

    /// Whether the whole body of the response has been read.
    pub(crate) fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// Whether the whole body of the response is known to have arrived.
    pub(crate) fn has_arrived(&self) -> bool {
        let here = self.read_buffer.input.len() as u64;
        self.has_ended() || self.decoder.size_hint().exact().is_some_and(|left| left <= here)
    }

    /// Returns the remaining size of the response's body.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }

    /// Whether another request may follow: the last one was sent whole, its response was read whole, and nothing
    /// followed it.
    pub(super) fn is_done(&self) -> bool {
        let sent = self.body.is_none() && self.writer.is_empty() && self.flushed;
        self.may_go_on && sent && self.has_ended() && self.read_buffer.input.is_empty()
    }

    /// Whether an idle connection can take a request now: no unexpected data came, and the peer has not closed it.
    pub(super) fn is_reusable(&mut self) -> bool {
        self.read_buffer.poll_fill(&mut self.stream, &mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends what can be sent now. A returned error ends the request. A failure to send alone does not, because there
    /// may be a response all the same (RFC 9112 §9.5).
    fn push(&mut self, cx: &mut Context<'_>) -> Result<(), ResponseError> {
        if self.body.is_none() && self.writer.is_empty() && self.flushed {
            return Ok(());
        }
        let before = self.writer.sent;
        let mut none = Body::whole(Bytes::new());
        let sent = self.writer.poll_send(&mut self.stream, self.body.as_mut().unwrap_or(&mut none), cx);
        if self.writer.ended {
            self.body = None;
        }
        self.flushed = sent.is_ready();
        match sent {
            Poll::Ready(Err(SendError::Interrupted)) => Err(ResponseError::Interrupted),
            Poll::Ready(Err(SendError::Broken)) => {
                (self.may_go_on, self.body) = (false, None);
                let writer = std::mem::take(&mut self.writer);
                // What TLS has taken of a failed write, nobody can say.
                let is_unsent = self.used && writer.sent == 0 && !matches!(self.stream, Stream::Tls(_));
                match self.retry_body.take_if(|_| is_unsent) {
                    Some(body) => Err(ResponseError::Unsent(body)),
                    None => Ok(()),
                }
            }
            Poll::Ready(Ok(())) | Poll::Pending => {
                // What waits for the rest of the body is no fault of the upstream.
                if self.writer.sent != before || self.writer.is_empty() && (self.flushed || self.body.is_some()) {
                    self.stalled = None;
                } else {
                    self.stalled.get_or_insert_with(Instant::now);
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::rc::Rc;

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
    use tokio::net::TcpStream;
    use tokio_rustls::client::TlsStream;

    use super::*;
    use crate::proxy::stream::tests::tls_pair;
    use crate::proxy::upstream::UpstreamLimit;
    use crate::telemetry::ServerMetrics;

    /// A connection whose server reads slowly, with a request of which TLS has taken all, and bytes that the server has not read.
    async fn handed_over(size: usize) -> (UpstreamConnection, TlsStream<TcpStream>, usize) {
        let (stream, mut peer) = tls_pair().await;
        let permit = UpstreamLimit::new(1).acquire(&ServerMetrics::new(&"https://a".into())).unwrap();
        let mut connection = UpstreamConnection::new(stream, permit, Open::count(&Rc::default()));
        connection.begin(&Method::POST, "/", |_| {}, Body::whole(vec![b'x'; size].into()), Instant::now());
        let mut left = connection.writer.unsent() as usize + size;
        poll_fn(|cx| {
            loop {
                assert!(connection.poll_head(cx).is_pending());
                if connection.body.is_none() && connection.writer.is_empty() {
                    return Poll::Ready(());
                }
                let mut bytes = [0; 1 << 10];
                let mut read = ReadBuf::new(&mut bytes);
                ready!(Pin::new(&mut peer).poll_read(cx, &mut read)).unwrap();
                left -= read.filled().len();
            }
        })
        .await;
        (connection, peer, left)
    }

    #[tokio::test]
    async fn the_end_of_a_body_that_tls_keeps_goes_out_all_the_same() {
        let (mut connection, mut peer, mut left) = handed_over(4 << 20).await;
        assert!(!connection.flushed && !connection.is_done(), "the kernel had room for all of it");
        let answering = async {
            while left > 0 {
                left -= peer.read(&mut [0; 8 << 10]).await.unwrap();
            }
            peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            peer.flush().await.unwrap();
        };
        let head = poll_fn(|cx| connection.poll_head(cx));
        let both = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(answering, head) });
        let (_, head) = both.await.expect("the rest is still here");
        assert_eq!(head.unwrap().status, 204);
    }
}
