//! The socket of a client that speaks HTTP/1.x, as the connection and the body of its present request share it.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::AsyncWrite;

use super::End;
use super::read_buffer::ReadBuffer;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::http1::reader::{Flaw, HeadLimits, Reader, RequestHead};
use crate::proxy::stream::Stream;

/// What a client that expects it is told before its body is read (RFC 9110 §15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// What is read at most of a body that nobody wants, so that the next request can be.
const UNWANTED: usize = 64 * 1024;

/// The socket, and how far it has been read.
pub(crate) struct Wire {
    stream: Stream,
    read_buffer: ReadBuffer,
    reader: Reader,
    client: Rc<ClientConnection>,
    /// Which request is the present one.
    number: u64,
    /// What is still to be said before its body is sent; empty when nothing is.
    interim: &'static [u8],
    aborted: bool,
}

/// Why a body ended early.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// Its framing is flawed.
    Flawed(Flaw),
    /// The client closed, or its connection broke.
    Closed(Option<io::ErrorKind>),
    /// Another request has begun: what is asked for is gone.
    Past,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flawed(flaw) => f.write_str(flaw.detail()),
            Self::Closed(None) => f.write_str("the connection closed before the end of the body"),
            Self::Closed(Some(kind)) => write!(f, "the connection broke: {kind}"),
            Self::Past => f.write_str("the body was not taken in time"),
        }
    }
}

impl Error for Unreadable {}

impl Wire {
    /// `prefix` has been read already.
    pub(crate) fn new(stream: Stream, client: Rc<ClientConnection>, prefix: Bytes, limits: HeadLimits) -> Self {
        let (read_buffer, reader) = (ReadBuffer::new(prefix), Reader::new(limits));
        Self { stream, read_buffer, reader, client, number: 0, interim: &[], aborted: false }
    }

    /// The socket, to be closed; none where it is to be dropped.
    pub(crate) fn into_stream(self) -> Option<Stream> {
        (!self.aborted).then_some(self.stream)
    }

    /// Breaks the connection off, so that an answer which ends with it does not look whole (RFC 9112 §8).
    pub(super) fn abort(&mut self) {
        self.aborted = true;
        self.stream.abort();
    }

    /// The next request's head.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<RequestHead, End>> {
        loop {
            match self.reader.head(&mut self.read_buffer.input) {
                Ok(Some(head)) => {
                    if let Err(flaw) = self.reader.check_ahead(&self.read_buffer.input) {
                        return Poll::Ready(Err(End::Flawed(flaw)));
                    }
                    self.number += 1;
                    self.interim = if head.expects_continue { CONTINUE } else { &[] };
                    return Poll::Ready(Ok(head));
                }
                Ok(None) => {}
                Err(flaw) => return Poll::Ready(Err(End::Flawed(flaw))),
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

    /// Whether a head has begun, and not ended.
    pub(super) fn is_mid_head(&self) -> bool {
        self.reader.mid_head(&self.read_buffer.input)
    }

    /// Ready when the client has gone, as far as that can be seen without reading more than belongs to this request.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.reader.between_messages() || !self.read_buffer.input.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.read_buffer.poll_fill(&mut self.stream, cx)) {
            // The next request came early.
            Ok(1..) => Poll::Pending,
            Ok(0) | Err(_) => Poll::Ready(()),
        }
    }

    /// The answer begins: whoever waits for 100 is told nothing more. Returns what is to be sent before it, and whether the
    /// body can be expected to come all the same.
    pub(super) fn answers(&mut self) -> (&'static [u8], bool) {
        match std::mem::take(&mut self.interim) {
            CONTINUE => (&[], !self.read_buffer.input.is_empty()),
            rest => (rest, true),
        }
    }

    /// Whether the body of the present request has been taken whole, or what is left of it could be thrown away.
    pub(super) fn is_done(&mut self) -> bool {
        let mut unwanted = 0;
        while !self.reader.between_messages() && unwanted < UNWANTED {
            match self.reader.body(&mut self.read_buffer.input) {
                Ok(Some(frame)) => unwanted += frame.data_ref().map_or(0, Bytes::len),
                Ok(None) if self.reader.between_messages() => {}
                Ok(None) => {
                    let read = self
                        .read_buffer
                        .poll_fill(&mut self.stream, &mut Context::from_waker(std::task::Waker::noop()));
                    if !matches!(read, Poll::Ready(Ok(1..))) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        self.reader.between_messages()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unreadable>>> {
        loop {
            match self.reader.body(&mut self.read_buffer.input) {
                Ok(Some(frame)) => {
                    // Whoever sends already does not wait.
                    if self.interim == CONTINUE {
                        self.interim = &[];
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(None) if self.reader.between_messages() => return Poll::Ready(None),
                Ok(None) => {}
                Err(flaw) => return Poll::Ready(Some(Err(Unreadable::Flawed(flaw)))),
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
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim = self.interim.get(written..).unwrap_or_default();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// The body of a request, read off the wire as it is asked for.
pub(super) struct RequestBody {
    wire: Rc<RefCell<Wire>>,
    number: u64,
}

impl RequestBody {
    /// Of the present request.
    pub(super) fn new(wire: &Rc<RefCell<Wire>>) -> Self {
        Self { wire: Rc::clone(wire), number: wire.borrow().number }
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
            return Poll::Ready(Some(Err(Unreadable::Past.into())));
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

/// The way out of a wire that is shared.
pub(super) struct Tap<'a>(pub(super) &'a RefCell<Wire>);

impl AsyncWrite for Tap<'_> {
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
        Pin::new(&mut self.0.borrow_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_shutdown(cx)
    }
}
