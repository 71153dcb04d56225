//! A message on its way out, to either side: its head, then its body as it comes, framed (RFC 9112 §6, §7.1).

use std::cell::Cell;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};
use tokio::io::AsyncWrite;

use crate::proxy::headers::write_line;

/// Up to this, a piece of a body is copied behind what is to be written before it, in bytes.
const SMALL: usize = 16 * 1024;
/// What is kept of the room for small pieces, in bytes.
const KEPT: usize = 8 * 1024;

thread_local! {
    /// Room for heads and small pieces that nothing is written from now. Connections hold none when they are idle.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is to be written: bytes, then a piece that was too large to copy.
#[derive(Default)]
pub(crate) struct MessageWriter {
    /// Heads, framing, small pieces.
    bytes: Vec<u8>,
    /// How much of `bytes` is written.
    written: usize,
    piece: Bytes,
    /// How much of the present message has been written.
    pub(crate) sent: u64,
    /// The present message's body goes in chunks.
    pub(crate) chunked: bool,
    /// Trailers are left out.
    pub(crate) no_trailers: bool,
    /// There is a chunk to be ended behind `piece`.
    open_chunk: bool,
}

/// Why nothing more can be sent.
pub(crate) enum SendError {
    /// The body broke off.
    Interrupted,
    /// The connection broke.
    Broken,
}

impl MessageWriter {
    /// Begins a message: room for its head, which is to end as it does, with an empty line.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        (self.sent, self.chunked, self.no_trailers, self.open_chunk) = (0, false, false, false);
        self.room()
    }

    /// Room behind what has been put here.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.take();
        }
        &mut self.bytes
    }

    /// Whether all that was put here is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.bytes.len() && self.piece.is_empty()
    }

    /// Writes what there is, then what comes of the body, to its end.
    pub(crate) fn poll_send<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        body: &mut Option<B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            // What is there already of a body goes with what is before it.
            let mut waiting = false;
            while let Some(source) = body
                && !waiting
                && self.piece.is_empty()
                && self.bytes.len() < SMALL
            {
                match Pin::new(&mut *source).poll_frame(cx) {
                    Poll::Pending => {
                        // What follows may be long in coming, and a chunk is read only when it is whole.
                        self.end_chunk();
                        waiting = true;
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(SendError::Interrupted)),
                    Poll::Ready(Some(Ok(frame))) => {
                        let ended = self.put(frame) || (!self.chunked && source.is_end_stream());
                        *body = body.take().filter(|_| !ended);
                    }
                    Poll::Ready(None) => {
                        self.put_end(&[]);
                        *body = None;
                    }
                }
            }
            ready!(self.poll_write(stream, cx)).map_err(|_| SendError::Broken)?;
            if body.is_none() || waiting {
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
        if self.bytes.capacity() > 0 {
            let mut spare = std::mem::take(&mut self.bytes);
            spare.clear();
            spare.shrink_to(KEPT);
            SPARE.set(spare);
        }
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Puts a piece of the body behind what is to be written. True when it was the last: trailers are.
    fn put(&mut self, frame: Frame<Bytes>) -> bool {
        match frame.into_data() {
            Ok(data) => {
                if self.chunked && !data.is_empty() {
                    self.end_chunk();
                    // Writing to a Vec does not fail.
                    let _ = write!(self.room(), "{:x}\r\n", data.len());
                    self.open_chunk = true;
                }
                if data.len() <= SMALL {
                    self.room().extend_from_slice(&data);
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
                self.put_end(&lines);
                true
            }
        }
    }

    /// Ends a body in chunks, with these trailers.
    fn put_end(&mut self, trailers: &[u8]) {
        if self.chunked {
            self.end_chunk();
            let room = self.room();
            room.extend_from_slice(b"0\r\n");
            room.extend_from_slice(trailers);
            room.extend_from_slice(b"\r\n");
        }
    }

    fn end_chunk(&mut self) {
        if std::mem::take(&mut self.open_chunk) {
            self.room().extend_from_slice(b"\r\n");
        }
    }
}
