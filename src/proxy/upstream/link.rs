//! One connection to an upstream server, used by one request at a time.
//!
//! It is driven by the request that uses it, not by a task of its own: no hop between tasks, and a request that is dropped
//! takes its connection with it, which is how a client that goes away cancels its call.

use std::io;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method};
use hyper::body::{Body as _, Frame, SizeHint};

use super::body::Position;
use super::head::{self, Head};
use crate::body::Body;
use crate::proxy::deadline::Deadline;
use crate::proxy::http1::read_buffer::ReadBuffer;
use crate::proxy::http1::writer::{MessageWriter, SendError};
use crate::proxy::stream::Stream;

/// One connection.
pub(crate) struct Link {
    stream: Stream,
    outgoing: MessageWriter,
    /// What is still to come of the request's body.
    body: Option<Body>,
    /// The request's body once more, where it is all there.
    again: Option<Body>,
    /// Of which method the present answer is.
    method: Method,
    read_buffer: ReadBuffer,
    position: Position,
    /// Cleared by whatever makes the connection unfit for another request.
    keep: bool,
    used: bool,
    /// Interim answers to the present request.
    interims: u8,
    /// The upstream has taken nothing of what is written to it since then.
    pub(crate) stalled: Option<Instant>,
    /// For whatever is waited for on this connection.
    pub(crate) deadline: Deadline,
    /// When the present or the last request began.
    pub(crate) asked: Instant,
}

/// Why there is no answer, or no more of one.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// Not a byte of the request was sent, and the connection had been used before: another one may take it.
    Unsent(Body),
    /// The client's own body broke off; its counter says why.
    Interrupted,
    /// The connection broke.
    Broken(io::Error),
    /// The answer is no answer of HTTP/1.1, or none that may go on.
    Invalid(&'static str),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsent(_) => f.write_str("the connection closed before the request was sent"),
            Self::Interrupted => f.write_str("the client's body broke off"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::Invalid(why) => write!(f, "the answer is not acceptable: {why}"),
        }
    }
}

impl Link {
    /// A connection that was just opened.
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            outgoing: MessageWriter::default(),
            body: None,
            again: None,
            method: Method::GET,
            read_buffer: ReadBuffer::default(),
            position: Position::End,
            keep: true,
            used: false,
            interims: 0,
            stalled: None,
            deadline: Deadline::default(),
            asked: Instant::now(),
        }
    }

    /// Begins a request: `fields` writes the request's headers, each a line with its end. What frames the body is added
    /// here. Nothing is sent before the answer is asked for.
    pub(crate) fn begin(&mut self, method: &Method, target: &str, fields: impl FnOnce(&mut Vec<u8>), body: Body) {
        let (ended, length) = (body.is_end_stream(), body.size_hint().exact());
        let bytes = self.outgoing.begin();
        bytes.extend_from_slice(method.as_str().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(target.as_bytes());
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        fields(bytes);
        match length {
            // RFC 9110 §8.6: an empty body is told where one is expected.
            Some(0) if ended && !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {}
            Some(length) => {
                bytes.extend_from_slice(b"content-length: ");
                bytes.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
            None => bytes.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        bytes.extend_from_slice(b"\r\n");
        self.outgoing.chunked = length.is_none();
        self.again = body.copy();
        self.body = Some(body).filter(|_| !ended);
        self.method = method.clone();
        self.read_buffer.input.clear();
        (self.interims, self.stalled) = (0, None);
        self.asked = Instant::now();
    }

    /// Sends, and waits for the head of the answer; `headers` holds its headers then.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>, headers: &mut HeaderMap) -> Poll<Result<Head, LinkError>> {
        self.push(cx)?;
        loop {
            if !self.read_buffer.input.is_empty()
                && let Some(head) = head::read(&mut self.read_buffer.input, &self.method, headers, &mut self.interims)?
            {
                self.position = head.framing.into();
                self.keep &= head.keep_alive && self.position != Position::UntilClose;
                (self.used, self.again) = (true, None);
                return Poll::Ready(Ok(head));
            }
            if ready!(self.read_buffer.poll_fill(&mut self.stream, cx)).map_err(LinkError::Broken)? == 0 {
                return Poll::Ready(Err(LinkError::Broken(io::ErrorKind::UnexpectedEof.into())));
            }
        }
    }

    /// The next piece of the answer's body, while what is left of the request's is sent.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, LinkError>>> {
        if let Err(error) = self.push(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.position.take(&mut self.read_buffer.input) {
                Ok(None) if self.position == Position::End => return Poll::Ready(None),
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.read_buffer.poll_fill(&mut self.stream, cx)) {
                Ok(0) if self.position == Position::UntilClose => {
                    self.position = Position::End;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(LinkError::Broken(io::ErrorKind::UnexpectedEof.into())))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(LinkError::Broken(error)))),
            }
        }
    }

    /// Whether the answer's body has been taken whole.
    pub(crate) fn has_ended(&self) -> bool {
        self.position == Position::End
    }

    /// What is still to come of the answer's body.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.position {
            Position::End => SizeHint::with_exact(0),
            Position::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::new(),
        }
    }

    /// Whether another request may follow: all of the last one was sent, all of its answer taken, and nothing came after it.
    pub(super) fn is_done(&self) -> bool {
        let sent = self.body.is_none() && self.outgoing.is_empty();
        self.keep && sent && self.has_ended() && self.read_buffer.input.is_empty()
    }

    /// Whether an idle connection can take a request now: nothing came unasked, and the other end hasn't closed.
    pub(super) fn stands(&mut self) -> bool {
        self.read_buffer.poll_fill(&mut self.stream, &mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends what can be sent now. An error to be told ends the request; when only the sending broke, there may be an
    /// answer all the same (RFC 9112 §9.5).
    fn push(&mut self, cx: &mut Context<'_>) -> Result<(), LinkError> {
        if self.body.is_none() && self.outgoing.is_empty() {
            return Ok(());
        }
        let before = self.outgoing.sent;
        match self.outgoing.poll_send(&mut self.stream, &mut self.body, cx) {
            Poll::Ready(Err(SendError::Interrupted)) => Err(LinkError::Interrupted),
            Poll::Ready(Err(SendError::Broken)) => {
                (self.keep, self.body) = (false, None);
                let outgoing = std::mem::take(&mut self.outgoing);
                match self.again.take() {
                    Some(body) if self.used && outgoing.sent == 0 => Err(LinkError::Unsent(body)),
                    _ => Ok(()),
                }
            }
            Poll::Ready(Ok(())) | Poll::Pending => {
                if self.outgoing.is_empty() || self.outgoing.sent != before {
                    self.stalled = None;
                } else {
                    self.stalled.get_or_insert_with(Instant::now);
                }
                Ok(())
            }
        }
    }
}
