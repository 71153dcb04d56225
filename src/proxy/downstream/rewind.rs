//! The client stream that hyper serves HTTP/2 on: it first replays the bytes that were already read, and counts the
//! requests in what it reads.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::ClientConnection;
use super::stream_counter::StreamCounter;
use crate::proxy::stream::Stream;

/// A client stream that replays its first bytes.
pub(crate) struct Rewind {
    stream: Stream,
    client: Rc<ClientConnection>,
    /// Bytes that were read to distinguish HTTP/1 from HTTP/2.
    prefix: Bytes,
    counter: Rc<RefCell<StreamCounter>>,
}

impl Rewind {
    /// Wraps `stream`, of which `prefix` has already been read.
    pub(super) fn new(
        stream: Stream,
        client: Rc<ClientConnection>,
        prefix: Bytes,
        counter: Rc<RefCell<StreamCounter>>,
    ) -> Self {
        Self { stream, client, prefix, counter }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let size = self.prefix.len().min(buffer.remaining());
        buffer.put_slice(&self.prefix.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Rewind {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.poll_bytes(cx, buffer))?;
        let mut counter = self.counter.borrow_mut();
        counter.take(buffer.filled().get(before..).unwrap_or_default());
        if counter.is_after_preface() {
            self.client.preface_ends();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewind {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.client.track_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.client.track_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.client.track_flush(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
