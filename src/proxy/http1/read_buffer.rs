//! What comes over a connection: read into one place of the worker, and kept no longer than it is needed.
//!
//! Ordinary messages are small, so they are read where the last ones were, which is close at hand, and what came is copied
//! into a piece of its own size. Where there is more to come than fits, it is read into large pieces without a copy.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use crate::proxy::stream::Stream;

/// What is read at once of ordinary messages, in bytes.
const READ: usize = 8 * 1024;
/// What is read at once when there is more where it comes from.
const BULK_READ: usize = 64 * 1024;

thread_local! {
    /// Where ordinary messages are read.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// What has been read and not yet taken.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    /// The bytes.
    pub(crate) input: Bytes,
    /// The last read filled all the room there was: there may be much more.
    bulk: bool,
}

impl ReadBuffer {
    /// With what has been read already.
    pub(crate) fn new(input: Bytes) -> Self {
        Self { input, bulk: false }
    }

    /// Reads more behind what has not been taken. 0 at the end.
    pub(crate) fn poll_fill(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            // What is waited for may be long in coming, and an empty piece keeps what it was a piece of.
            self.input = Bytes::new();
        }
        if self.bulk {
            return self.poll_fill_bulk(stream, cx);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut room = ReadBuf::new(scratch);
            ready!(Pin::new(stream).poll_read(cx, &mut room))?;
            let read = room.filled();
            self.bulk = room.remaining() == 0;
            if self.input.is_empty() {
                self.input = Bytes::copy_from_slice(read);
            } else {
                // The beginning of a line: its rest must follow it in one piece.
                let mut joined =
                    std::mem::take(&mut self.input).try_into_mut().unwrap_or_else(|shared| (&*shared).into());
                joined.extend_from_slice(read);
                self.input = joined.freeze();
            }
            Poll::Ready(Ok(read.len()))
        })
    }

    fn poll_fill_bulk(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = BytesMut::with_capacity(self.input.len() + BULK_READ);
        room.extend_from_slice(&self.input);
        let before = room.len();
        let read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(stream, &mut room));
        let read = ready!(read.poll(cx))?;
        self.bulk = before + read == room.capacity();
        self.input = room.freeze();
        Poll::Ready(Ok(read))
    }
}
