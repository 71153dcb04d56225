//! The input of a connection: read through a scratch buffer that the worker's connections share, and kept only while
//! needed.
//!
//! Ordinary messages are small. They are read into the scratch buffer, which stays in the CPU's cache, and copied into
//! an allocation of their own size. When a read fills the buffer, the next ones go to large allocations without a copy.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// Size of a read of ordinary messages, in bytes.
const READ: usize = 8 * 1024;
/// Size of a read after one that filled its buffer, in bytes.
const BULK_READ: usize = 64 * 1024;

thread_local! {
    /// The buffer that ordinary messages are read into.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// Input that was read and not yet taken.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    /// The bytes not yet taken.
    pub(crate) input: Bytes,
    /// The last read filled its buffer, so there may be much more.
    bulk: bool,
}

impl ReadBuffer {
    /// Creates a buffer that contains `input`, which has been read already.
    pub(crate) fn new(input: Bytes) -> Self {
        Self { input, bulk: false }
    }

    /// Reads no more than of an ordinary message the next time.
    pub(crate) fn read_less(&mut self) {
        self.bulk = false;
    }

    /// Reads, and appends to `input`. Returns 0 at the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        mut stream: impl AsyncRead + Unpin,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            // An empty slice keeps its whole allocation alive, and the wait may be long.
            self.input = Bytes::new();
        }
        if self.bulk {
            return self.poll_fill_bulk(stream, cx);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut room = ReadBuf::new(scratch);
            ready!(Pin::new(&mut stream).poll_read(cx, &mut room))?;
            let read = room.filled();
            self.bulk = room.remaining() == 0;
            if self.input.is_empty() {
                self.input = Bytes::copy_from_slice(read);
            } else {
                // An unfinished line: it must be contiguous with its rest.
                let mut joined =
                    std::mem::take(&mut self.input).try_into_mut().unwrap_or_else(|shared| (&*shared).into());
                joined.extend_from_slice(read);
                self.input = joined.freeze();
            }
            Poll::Ready(Ok(read.len()))
        })
    }

    fn poll_fill_bulk(&mut self, mut stream: impl AsyncRead + Unpin, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = BytesMut::with_capacity(self.input.len() + BULK_READ);
        room.extend_from_slice(&self.input);
        let before = room.len();
        let read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(&mut stream, &mut room));
        let read = ready!(read.poll(cx))?;
        self.bulk = before + read == room.capacity();
        self.input = room.freeze();
        Poll::Ready(Ok(read))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn much_is_read_at_once_where_there_is_much_and_little_is_wanted_of_it_once() {
        let bytes = vec![0; 200 * 1024];
        let mut buffer = ReadBuffer::default();
        for (little, expected) in [(false, READ), (false, BULK_READ), (true, READ), (true, READ), (false, BULK_READ)] {
            if little {
                buffer.read_less();
            }
            buffer.input.clear();
            let read = buffer.poll_fill(bytes.as_slice(), &mut Context::from_waker(Waker::noop()));
            assert!(
                matches!(read, Poll::Ready(Ok(size)) if size == expected && buffer.input.len() == size),
                "{read:?}"
            );
        }
    }
}
