//! The socket of an HTTP/1.x client, shared by the connection and the body of its current request.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::read_buffer::ReadBuffer;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::http1::fields::HeadLimits;
use crate::proxy::http1::framing_error::FramingError;
use crate::proxy::http1::reader::{Reader, RequestHead};
use crate::proxy::stream::Stream;

/// The interim response to a client that expects it before it sends its body (RFC 9110 §15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// How many bytes of an unused body are read and discarded to reach the next request.
const DISCARD_LIMIT: u64 = 64 * 1024;

/// The socket and the state of its reader.
pub(crate) struct Wire {
    stream: Stream,
    read_buffer: ReadBuffer,
    reader: Reader,
    client: Rc<ClientConnection>,
    /// The number of the current request on this connection.
    number: u64,
    /// Cloned for every body, so that it is known whether somebody may still read the current one.
    reading: Rc<()>,
    /// The rest of the interim responses to send before the response; empty when there is none.
    interim: Bytes,
    aborted: bool,
    /// How many bytes of the body of the current request have been discarded.
    discarded: u64,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Between two requests, with a response that announced it, or because the client disconnected.
    Closed,
    /// In the middle of a head.
    CutShort,
    /// With a head that is refused.
    Malformed(FramingError),
}

/// Why a request's body ended early.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// Its framing is invalid.
    Malformed(FramingError),
    /// The client closed the connection (`None`), or it failed.
    Closed(Option<io::ErrorKind>),
    /// The next request has begun, so this body is no longer available.
    Superseded,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => f.write_str(error.detail()),
            Self::Closed(None) => f.write_str("the connection closed before the end of the body"),
            Self::Closed(Some(kind)) => write!(f, "the connection failed: {kind}"),
            Self::Superseded => f.write_str("the body was not read in time"),
        }
    }
}

impl Error for Unreadable {}

impl Wire {
    /// Wraps `stream`, of which `prefix` has already been read.
    pub(crate) fn new(stream: Stream, client: Rc<ClientConnection>, prefix: Bytes, limits: HeadLimits) -> Self {
        let (read_buffer, reader) = (ReadBuffer::new(prefix), Reader::new(limits));
        let (number, reading, interim, aborted, discarded) = (0, Rc::default(), Bytes::new(), false, 0);
        Self { stream, read_buffer, reader, client, number, reading, interim, aborted, discarded }
    }

    /// Returns the socket to be closed in order, or `None` after an abort.
    pub(crate) fn into_stream(self) -> Option<Stream> {
        (!self.aborted).then_some(self.stream)
    }

    /// Aborts the connection, so that a response delimited by its close does not look complete (RFC 9112 §8).
    pub(crate) fn abort(&mut self) {
        self.aborted = true;
        self.stream.abort();
    }

    /// Takes what was read beyond the last request, once no further request follows.
    pub(in crate::proxy) fn take_input(&mut self) -> Bytes {
        std::mem::take(&mut self.read_buffer.input)
    }

    /// Reads until the head of the next request is here, to be taken by `take_head`.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            if self.reader.find_head(&self.read_buffer.input).map_err(End::Malformed)? {
                return Poll::Ready(Ok(()));
            }
            if self.is_mid_head() {
                self.client.head_begins();
            }
            let read = ready!(self.read_buffer.poll_fill(&mut self.stream, cx));
            if !matches!(read, Ok(1..)) {
                return Poll::Ready(Err(if self.is_mid_head() { End::CutShort } else { End::Closed }));
            }
        }
    }

    /// Takes the head that is here, and begins its request.
    pub(super) fn take_head(&mut self, head: &mut RequestHead) -> Result<(), End> {
        self.reader.take_head(&mut self.read_buffer.input, head).map_err(End::Malformed)?;
        self.reader.check_ahead(&self.read_buffer.input).map_err(End::Malformed)?;
        self.number += 1;
        self.discarded = 0;
        self.interim = Bytes::from_static(if head.expects_continue { CONTINUE } else { &[] });
        Ok(())
    }

    /// Whether a head has begun and is incomplete.
    pub(super) fn is_mid_head(&self) -> bool {
        self.reader.mid_head(&self.read_buffer.input)
    }

    /// Is ready when the client has disconnected. This is only detected between messages with no input left, because
    /// detection must not read beyond the request. Meanwhile a body that nobody reads is discarded: many clients read
    /// the response only after they have sent it all.
    pub(super) fn poll_disconnected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.client.yields() {
            // The next wait comes at once.
            return Poll::Pending;
        }
        if self.is_abandoned() && ready!(self.poll_discard(cx)).is_err() {
            return Poll::Pending;
        }
        if !self.reader.between_messages() || !self.read_buffer.input.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.read_buffer.poll_fill(&mut self.stream, cx)) {
            // A pipelined request.
            Ok(1..) => Poll::Pending,
            Ok(0) | Err(_) => Poll::Ready(()),
        }
    }

    /// Begins the response: an interim response not yet begun is skipped. Returns the rest of one that was begun, to be
    /// sent first, and whether the client can be expected to send its body all the same.
    pub(super) fn begin_response(&mut self) -> (Bytes, bool) {
        self.take_interims();
        let rest = std::mem::take(&mut self.interim);
        if rest == CONTINUE { (Bytes::new(), !self.read_buffer.input.is_empty()) } else { (rest, true) }
    }

    /// Sends what there is of interim responses, as far as the client takes it. A failure shows with the response.
    pub(super) fn send_interims(&mut self, cx: &mut Context<'_>) {
        if self.take_interims() {
            let _ = self.poll_interim(cx);
        }
    }

    /// Returns whether there were any of the upstream's.
    fn take_interims(&mut self) -> bool {
        let added = self.client.take_interims();
        if added.is_empty() {
            return false;
        }
        let mut interim = self.interim.to_vec();
        added.iter().for_each(|(status, fields)| fields.write_interim(&mut interim, *status));
        self.interim = interim.into();
        true
    }

    /// Whether another request can follow the response that begins now: the body of the current one has ended, or so
    /// little is left of it that it will be read.
    pub(super) fn ends_soon(&mut self) -> bool {
        if self.is_abandoned() {
            // What has arrived already may be all of it, even if its length is not known.
            let _ = self.poll_discard(&mut Context::from_waker(std::task::Waker::noop()));
        }
        let left = self.reader.size_hint().exact();
        self.is_between_messages() || left.is_some_and(|left| left.saturating_add(self.discarded) <= DISCARD_LIMIT)
    }

    /// Reads and discards the rest of the body of the current request. Fails if that is too much, or the client has
    /// disconnected.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        while !self.is_between_messages() && self.discarded < DISCARD_LIMIT {
            match self.reader.body(&mut self.read_buffer.input) {
                Ok(Some(frame)) => self.discarded += frame.data_ref().map_or(0, Bytes::len) as u64,
                Ok(None) if self.is_between_messages() => {}
                Ok(None) => match ready!(self.read_buffer.poll_fill(&mut self.stream, cx)) {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Poll::Ready(Err(End::Closed)),
                },
                Err(_) => return Poll::Ready(Err(End::Closed)),
            }
        }
        Poll::Ready(if self.is_between_messages() { Ok(()) } else { Err(End::Closed) })
    }

    /// Whether the body of the current request has been read whole.
    pub(super) fn is_between_messages(&self) -> bool {
        self.reader.between_messages()
    }

    /// Whether nobody will read the rest of the body of the current request.
    fn is_abandoned(&self) -> bool {
        !self.is_between_messages() && Rc::strong_count(&self.reading) == 1
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unreadable>>> {
        loop {
            match self.reader.body(&mut self.read_buffer.input) {
                Ok(Some(frame)) => {
                    // The client sends its body without waiting for 100.
                    if self.interim == CONTINUE {
                        self.interim = Bytes::new();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(None) if self.reader.between_messages() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(Unreadable::Malformed(error)))),
            }
            if self.read_buffer.input.is_empty()
                && let Poll::Ready(Err(error)) = self.poll_interim(cx)
            {
                return Poll::Ready(Some(Err(Unreadable::Closed(Some(error.kind())))));
            }
            match ready!(self.read_buffer.poll_fill(&mut self.stream, cx)) {
                Ok(1..) => {}
                Ok(0) => return Poll::Ready(Some(Err(Unreadable::Closed(None)))),
                Err(error) => return Poll::Ready(Some(Err(Unreadable::Closed(Some(error.kind()))))),
            }
        }
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(written.min(self.interim.len()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// The body of a request, read from the wire on demand.
pub(super) struct RequestBody {
    wire: Rc<RefCell<Wire>>,
    number: u64,
    _reading: Rc<()>,
}

impl RequestBody {
    /// Creates the body of the current request.
    pub(super) fn new(wire: &Rc<RefCell<Wire>>) -> Self {
        let Wire { number, reading, .. } = &*wire.borrow();
        Self { wire: Rc::clone(wire), number: *number, _reading: Rc::clone(reading) }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Box<dyn Error>>>> {
        let mut wire = self.wire.borrow_mut();
        if wire.number != self.number {
            return Poll::Ready(Some(Err(Unreadable::Superseded.into())));
        }
        wire.poll_body(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        let wire = self.wire.borrow();
        wire.number != self.number || wire.reader.between_messages()
    }

    fn size_hint(&self) -> SizeHint {
        self.wire.borrow().reader.size_hint()
    }
}

/// A wire that is shared, as a stream: what was read beyond the last request is not in it.
pub(in crate::proxy) struct SharedWire<'a>(pub(in crate::proxy) &'a RefCell<Wire>);

impl AsyncRead for SharedWire<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, room)
    }
}

impl AsyncWrite for SharedWire<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = &mut *self.0.borrow_mut();
        wire.client.track_write(Pin::new(&mut wire.stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &mut *self.0.borrow_mut();
        wire.client.track_write(Pin::new(&mut wire.stream).poll_write_vectored(cx, slices))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self.0.borrow_mut();
        wire.client.track_flush(Pin::new(&mut wire.stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_shutdown(cx)
    }
}
