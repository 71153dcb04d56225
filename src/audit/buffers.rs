//! Buffers that are used again. Records pass through buffers of a few hundred kilobytes, which one thread fills and another one
//! empties: an allocator gives such pieces back to the system, and takes new ones, which the system clears, page by page.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Most bytes that are kept for later.
const KEPT: usize = 2 * 1024 * 1024;
/// Smaller ones are not kept: allocators have them at hand, and many of them would leave no room for those that are worth it.
const LEAST: usize = 32 * 1024;
/// Sizes are multiples of this, so that a buffer fits more often.
const STEP: usize = 64 * 1024;

/// Buffers that are not in use.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Spare>);

#[derive(Default)]
struct Spare {
    /// The one that was used last comes last: it is the most likely to be in the caches of a processor.
    buffers: Vec<Vec<u8>>,
    /// Sum of their capacities.
    bytes: usize,
}

/// A buffer that returns when the last owner of its bytes has dropped them.
struct Lent {
    buffer: Vec<u8>,
    buffers: Arc<Buffers>,
}

impl Buffers {
    fn lock(&self) -> MutexGuard<'_, Spare> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer with room for `size` bytes. If none of those that are kept is large enough, the one that was used first is
    /// dropped in favour of a new one.
    pub(super) fn take(&self, size: usize) -> Vec<u8> {
        if size < LEAST {
            return Vec::with_capacity(size);
        }
        let mut spare = self.lock();
        let fits = spare.buffers.iter().rposition(|buffer| buffer.capacity() >= size);
        let taken = fits.or((!spare.buffers.is_empty()).then_some(0)).map(|place| spare.buffers.remove(place));
        spare.bytes -= taken.as_ref().map_or(0, Vec::capacity);
        drop(spare);
        taken.filter(|_| fits.is_some()).unwrap_or_else(|| Vec::with_capacity(size.next_multiple_of(STEP)))
    }

    /// The bytes of a buffer, which is used again when nobody has them any more.
    pub(super) fn lend(self: &Arc<Self>, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, buffers: Arc::clone(self) })
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.lock();
        if buffer.capacity() >= LEAST && spare.bytes + buffer.capacity() <= KEPT {
            spare.bytes += buffer.capacity();
            spare.buffers.push(buffer);
        }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_has_its_bytes() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take(LEAST);
        buffer.extend_from_slice(b"lines\n");
        let place = buffer.as_ptr();
        let lines = buffers.lend(buffer);
        let part = lines.slice(2..);
        drop(lines);
        let other = buffers.take(LEAST);
        assert_ne!(other.as_ptr(), place);
        assert_eq!(part, "nes\n");
        drop(part);
        let again = buffers.take(LEAST);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        drop(buffers.lend(again));
        assert!(buffers.take(2 * STEP).capacity() >= 2 * STEP, "one that is too small is not taken");
        assert_eq!(buffers.lock().bytes, 0);
        drop(buffers.lend(Vec::with_capacity(LEAST - 1)));
        assert_eq!(buffers.lock().bytes, 0, "small ones are not kept");
    }

    #[test]
    fn small_and_large_buffers_in_turn_are_the_same_ones() {
        let buffers = Arc::new(Buffers::default());
        let [large, small] = [200_000, 60_000].map(|size| buffers.take(size));
        let places = [large.as_ptr(), small.as_ptr()];
        // The one that was used last is the small one.
        drop(buffers.lend(large));
        drop(buffers.lend(small));
        for size in [150_000, 210_000, 170_000] {
            let [large, small] = [size, 40_000].map(|size| buffers.take(size));
            assert_eq!([large.as_ptr(), small.as_ptr()], places, "for {size} bytes");
            drop(buffers.lend(large));
            drop(buffers.lend(small));
        }
    }

    #[test]
    fn what_is_kept_for_later_is_bounded() {
        let buffers = Arc::new(Buffers::default());
        let all: Vec<_> = (0..5).map(|_| buffers.lend(Vec::with_capacity(KEPT / 4))).collect();
        drop(all);
        drop(buffers.lend(Vec::with_capacity(KEPT + 1)));
        let spare = buffers.lock();
        assert_eq!((spare.buffers.len(), spare.bytes), (4, KEPT));
    }
}
