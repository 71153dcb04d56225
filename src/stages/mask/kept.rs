//! Bytes that are kept while a text is read.

use bytes::Bytes;

use crate::budget::{Exhausted, MemoryBudget, Reservation};

/// What may be kept for the next text, in bytes.
const SMALL: usize = 16 * 1024;

/// Bytes that are kept, and what they take of the budget.
#[derive(Debug)]
pub(super) struct Kept {
    /// Grows by [`Self::extend`], or after [`Self::make_room`].
    pub(super) bytes: Vec<u8>,
    reserved: Reservation,
}

impl Kept {
    pub(super) fn new(memory: &MemoryBudget) -> Self {
        Self { bytes: Vec::new(), reserved: memory.reserve() }
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), Exhausted> {
        self.make_room(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes room for so many more bytes, which are taken from the budget first.
    pub(super) fn make_room(&mut self, more: usize) -> Result<(), Exhausted> {
        let needed = self.bytes.len().saturating_add(more);
        if needed > self.bytes.capacity() {
            // Doubled, so that few bytes at a time are not copied again and again.
            let capacity = needed.max(self.bytes.capacity().saturating_mul(2));
            self.reserved.grow_to(capacity)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        Ok(())
    }

    /// Forgets the bytes. What a long text took is given back.
    pub(super) fn clear(&mut self, memory: &MemoryBudget) {
        if self.bytes.capacity() > SMALL {
            *self = Self::new(memory);
        }
        self.bytes.clear();
    }

    /// Takes whole blocks of this size, and keeps what is beyond them.
    pub(super) fn take_blocks(&mut self, size: usize, memory: &MemoryBudget) -> Result<Bytes, Exhausted> {
        let whole = self.bytes.len() - self.bytes.len() % size;
        if whole == 0 {
            return Ok(Bytes::new());
        }
        let mut rest = Self::new(memory);
        rest.extend(self.bytes.get(whole..).unwrap_or_default())?;
        self.bytes.truncate(whole);
        Ok(std::mem::replace(self, rest).into_bytes())
    }

    /// Returns the bytes, which stay counted for as long as they are there.
    pub(super) fn into_bytes(self) -> Bytes {
        self.reserved.attach(self.bytes)
    }
}
