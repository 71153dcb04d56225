//! A part of what is sent on a stream, on its way through HTTP/2.

use std::rc::Rc;

use bytes::{Buf, Bytes};

/// Learns what became of the pieces of a stream. HTTP/2 is locked while it writes and drops them, so these methods must not send
/// anything.
pub(super) trait Taken {
    /// Bytes were written.
    fn wrote(self: Rc<Self>, size: usize);

    /// Bytes will never be written.
    fn dropped(self: Rc<Self>, size: usize);
}

/// A part of what is sent on a stream, which tells what was written of it.
pub(super) struct Piece {
    bytes: Bytes,
    taken: Option<Rc<dyn Taken>>,
}

impl Piece {
    /// Creates a piece that tells `taken` what becomes of it.
    pub(super) fn new(bytes: Bytes, taken: Rc<dyn Taken>) -> Self {
        Self { bytes, taken: Some(taken) }
    }

    /// Nothing, where only the end of a stream is sent.
    pub(super) fn empty() -> Self {
        Self { bytes: Bytes::new(), taken: None }
    }

    pub(super) fn split_to(&mut self, size: usize) -> Self {
        Self { bytes: self.bytes.split_to(size), taken: self.taken.clone() }
    }

    pub(super) fn discard(&mut self) {
        let rest = std::mem::take(&mut self.bytes);
        if let Some(taken) = self.taken.as_ref().filter(|_| !rest.is_empty()) {
            Rc::clone(taken).dropped(rest.len());
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(taken) = &self.taken {
            Rc::clone(taken).wrote(count);
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.discard();
    }
}
