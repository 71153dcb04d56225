//! Writes a message to a client or an upstream: its head, then its body as it becomes available, framed (RFC 9112 §6,
//! §7.1).

use std::cell::Cell;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};
use tokio::io::AsyncWrite;

use crate::proxy::http1::fields::write_line;

/// Pieces of a body up to this size, in bytes, are copied into the buffer.
const SMALL: usize = 16 * 1024;
/// Capacity of the buffer that is kept between messages, in bytes.
const KEPT_CAPACITY: usize = 8 * 1024;

thread_local! {
    /// A buffer for heads and small pieces that is not in use. Idle connections hold none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The data to be written: buffered bytes, then a piece that was too large to copy.
#[derive(Default)]
pub(crate) struct MessageWriter {
    /// Heads, framing, small pieces.
    bytes: Vec<u8>,
    /// How many of `bytes` have been written.
    written: usize,
    piece: Bytes,
    /// How many bytes of the current message have been written.
    pub(crate) sent: u64,
    /// The body of the current message uses chunked coding.
    pub(crate) chunked: bool,
    /// Trailers are left out.
    pub(crate) no_trailers: bool,
    /// A chunk must be ended after `piece`.
    open_chunk: bool,
    /// The body of the current message was taken whole, or there is none.
    pub(crate) ended: bool,
}

/// Why nothing more can be sent.
pub(crate) enum SendError {
    /// The body was interrupted.
    Interrupted,
    /// The connection failed.
    Broken,
}

impl MessageWriter {
    /// Begins a message. Returns the buffer for its head, which the caller ends with an empty line.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        (self.sent, self.chunked, self.no_trailers) = (0, false, false);
        (self.open_chunk, self.ended) = (false, false);
        self.buffer()
    }

    /// Returns the buffer to append to.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.take();
        }
        &mut self.bytes
    }

    /// Whether all data has been written.
    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.bytes.len() && self.piece.is_empty()
    }

    /// Returns how many bytes are waiting to be written.
    pub(crate) fn unsent(&self) -> u64 {
        (self.bytes.len() - self.written + self.piece.len()) as u64
    }

    /// Writes the buffered data, then the body to its end.
    pub(crate) fn poll_send<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        body: &mut B,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            // Pieces of the body that are available go out in one write with the data before them.
            let mut waiting = false;
            while !self.ended && !waiting && self.piece.is_empty() && self.bytes.len() < SMALL {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Pending => {
                        // The next piece may take long, and some readers process a chunk only when it is complete.
                        self.end_chunk();
                        waiting = true;
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(SendError::Interrupted)),
                    Poll::Ready(Some(Ok(frame))) => {
                        self.ended = self.append(frame) || (!self.chunked && body.is_end_stream());
                    }
                    Poll::Ready(None) => {
                        self.append_end(&[]);
                        self.ended = true;
                    }
                }
            }
            ready!(self.poll_write(stream, cx)).map_err(|_| SendError::Broken)?;
            if self.ended || waiting {
                ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(|_| SendError::Broken)?;
                return if waiting { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
        }
    }

    fn poll_write(&mut self, stream: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let bytes = self.bytes.get(self.written..).unwrap_or_default();
            let sent = if self.piece.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?
            } else {
                let slices = [IoSlice::new(bytes), IoSlice::new(&self.piece)];
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices))?
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent as u64;
            let of_bytes = sent.min(bytes.len());
            self.written += of_bytes;
            self.piece.advance(sent - of_bytes);
        }
        // An empty rest still keeps the whole body in memory, as long as the connection is idle.
        self.piece = Bytes::new();
        if self.bytes.capacity() > 0 {
            let mut spare = std::mem::take(&mut self.bytes);
            spare.clear();
            spare.shrink_to(KEPT_CAPACITY);
            SPARE.set(spare);
        }
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Appends a piece of the body. Returns true if it was the last, as trailers are.
    fn append(&mut self, frame: Frame<Bytes>) -> bool {
        match frame.into_data() {
            Ok(data) => {
                if self.chunked && !data.is_empty() {
                    self.end_chunk();
                    // Writing to a Vec does not fail.
                    let _ = write!(self.buffer(), "{:x}\r\n", data.len());
                    self.open_chunk = true;
                }
                if data.len() <= SMALL {
                    self.buffer().extend_from_slice(&data);
                } else {
                    self.piece = data;
                }
                false
            }
            Err(frame) => {
                let mut lines = Vec::new();
                for (name, value) in frame.trailers_ref().into_iter().flatten().filter(|_| !self.no_trailers) {
                    write_line(&mut lines, name.as_str(), value.as_bytes());
                }
                self.append_end(&lines);
                true
            }
        }
    }

    /// Ends a chunked body with these trailer lines.
    fn append_end(&mut self, trailers: &[u8]) {
        if self.chunked {
            self.end_chunk();
            let buffer = self.buffer();
            buffer.extend_from_slice(b"0\r\n");
            buffer.extend_from_slice(trailers);
            buffer.extend_from_slice(b"\r\n");
        }
    }

    fn end_chunk(&mut self) {
        if std::mem::take(&mut self.open_chunk) {
            self.buffer().extend_from_slice(b"\r\n");
        }
    }
}
