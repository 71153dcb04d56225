//! One connection to an upstream server, used by one request at a time.
//!
//! It is driven by the request that uses it, not by a task of its own: no hop between tasks, and a request that is dropped
//! takes its connection with it, which is how a client that goes away cancels its call.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::io::AsyncReadExt;

use super::body::Position;
use super::head::{self, Head};
use super::outgoing::{Outgoing, SendError};
use crate::proxy::alarm::Alarm;
use crate::proxy::stream::Stream;
use crate::stages::schema::body::Body;

/// What is read at once of ordinary answers, in bytes; idle connections hold as much.
const READ: usize = 8 * 1024;
/// What is read at once when there is more where it comes from.
const BULK_READ: usize = 64 * 1024;
/// Room for a read is made when there is less than this.
const LITTLE: usize = 2 * 1024;

/// One connection.
pub(crate) struct Link {
    stream: Stream,
    outgoing: Outgoing,
    /// What is still to come of the request's body.
    body: Option<Body>,
    /// The request's body once more, where it is all there.
    again: Option<Body>,
    /// Of which method the present answer is.
    method: Method,
    /// What has been read and not yet taken.
    input: Bytes,
    /// Where the next bytes are read into.
    room: BytesMut,
    /// The last read filled all there was: there may be much more.
    bulk: bool,
    position: Position,
    /// Cleared by whatever makes the connection unfit for another request.
    keep: bool,
    used: bool,
    /// All others that were ready have had their turn since the request began. Requests are sent after that: what leaves
    /// together wakes an upstream once, and waking it is a good part of what sending costs.
    gave_way: bool,
    /// For whatever is waited for on this connection.
    pub(crate) alarm: Alarm,
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
            outgoing: Outgoing::default(),
            body: None,
            again: None,
            method: Method::GET,
            input: Bytes::new(),
            room: BytesMut::new(),
            bulk: false,
            position: Position::End,
            keep: true,
            used: false,
            gave_way: false,
            alarm: Alarm::default(),
            asked: Instant::now(),
        }
    }

    /// Begins a request: `fields` writes the request's headers, each a line with its end. What frames the body is added
    /// here. Nothing is sent before the answer is asked for.
    pub(crate) fn begin(&mut self, method: &Method, target: &str, fields: impl FnOnce(&mut Vec<u8>), body: Body) {
        let bytes = &mut self.outgoing.bytes;
        bytes.extend_from_slice(method.as_str().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(target.as_bytes());
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        fields(bytes);
        let ended = body.is_end_stream();
        (self.outgoing.chunked, self.outgoing.begun) = (false, false);
        self.again = body.copy();
        match body.size_hint().exact() {
            // RFC 9110 §8.6: an empty body is told where one is expected.
            Some(0) if ended && !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {}
            Some(length) => {
                bytes.extend_from_slice(b"content-length: ");
                bytes.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
            None => {
                bytes.extend_from_slice(b"transfer-encoding: chunked\r\n");
                self.outgoing.chunked = true;
            }
        }
        bytes.extend_from_slice(b"\r\n");
        self.body = Some(body).filter(|_| !ended);
        self.method = method.clone();
        self.input.clear();
        self.gave_way = false;
        self.asked = Instant::now();
    }

    /// Sends, and waits for the head of the answer; `headers` holds its headers then.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>, headers: &mut HeaderMap) -> Poll<Result<Head, LinkError>> {
        if !std::mem::replace(&mut self.gave_way, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.push(cx)?;
        loop {
            if !self.input.is_empty()
                && let Some(head) = head::read(&mut self.input, &self.method, headers)?
            {
                self.position = head.framing.into();
                self.keep &= head.keep_alive && self.position != Position::UntilClose;
                self.used = true;
                return Poll::Ready(Ok(head));
            }
            if ready!(self.fill(cx)).map_err(LinkError::Broken)? == 0 {
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
            match self.position.take(&mut self.input) {
                Ok(None) if self.position == Position::End => return Poll::Ready(None),
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.fill(cx)) {
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
        self.keep && sent && self.has_ended() && self.input.is_empty()
    }

    /// Gives its buffers back.
    pub(super) fn doze(&mut self) {
        (self.input, self.room, self.bulk) = (Bytes::new(), BytesMut::new(), false);
        self.outgoing = Outgoing::default();
    }

    /// Whether an idle connection can take a request now: nothing came unasked, and the other end hasn't closed.
    pub(super) fn stands(&mut self) -> bool {
        self.fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends what can be sent now. An error to be told ends the request; when only the sending broke, there may be an
    /// answer all the same (RFC 9112 §9.5).
    fn push(&mut self, cx: &mut Context<'_>) -> Result<(), LinkError> {
        if self.body.is_none() && self.outgoing.is_empty() {
            return Ok(());
        }
        match self.outgoing.poll_send(&mut self.stream, &mut self.body, cx) {
            Poll::Ready(Err(SendError::Interrupted)) => Err(LinkError::Interrupted),
            Poll::Ready(Err(SendError::Broken)) => {
                (self.keep, self.body) = (false, None);
                let outgoing = std::mem::take(&mut self.outgoing);
                match self.again.take() {
                    Some(body) if self.used && !outgoing.begun => Err(LinkError::Unsent(body)),
                    _ => Ok(()),
                }
            }
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Reads more behind what has not been taken. 0 at the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.input.is_empty() {
            // The beginning of a head or a line: its rest must follow it in one piece.
            self.room.extend_from_slice(&self.input);
            self.input.clear();
        }
        let (enough, wanted) = if self.bulk { (BULK_READ, BULK_READ) } else { (LITTLE, READ) };
        if self.room.capacity() - self.room.len() < enough {
            self.room.reserve(wanted);
        }
        let free = self.room.capacity() - self.room.len();
        let read = pin!(self.stream.read_buf(&mut self.room)).poll(cx);
        if let Poll::Ready(Ok(read)) = read {
            self.bulk = read == free;
        }
        if !self.room.is_empty() {
            self.input = self.room.split().freeze();
        }
        read
    }
}
