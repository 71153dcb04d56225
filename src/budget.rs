//! Budgets: how much work may take, all pieces of it together.
//!
//! A [`MemoryBudget`] bounds the bytes of all bodies that are held or decoded at once. Bytes are taken from it *before* they
//! are kept, and returned when the last handle on them is dropped. The state of a decoder is not counted: only as many
//! decoders exist at a time as there are threads that decode.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

/// Bytes that all requests together may hold. Clones share what is in use, but each has its own limit, so that a policy that
/// is not in force yet changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    limit: u64,
    usage: Arc<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    bytes: AtomicU64,
    refusals: AtomicU64,
}

/// There is not enough left of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl MemoryBudget {
    /// Returns a budget of this many bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, usage: Arc::default() }
    }

    /// Returns the same budget with another limit.
    pub(crate) fn limited_to(&self, limit: u64) -> Self {
        Self { limit, usage: Arc::clone(&self.usage) }
    }

    /// Returns a reservation of no bytes, which can grow.
    pub(crate) fn reserve(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }

    /// The limit in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes in use now.
    pub(crate) fn in_use(&self) -> u64 {
        self.usage.bytes.load(Relaxed)
    }

    /// How often bytes were refused.
    pub(crate) fn refusals(&self) -> u64 {
        self.usage.refusals.load(Relaxed)
    }
}

/// Bytes taken from a budget; dropping it returns them.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl Reservation {
    /// Grows the reservation to this many bytes in all. It is unchanged if that many are not left, and then somebody is refused.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.try_grow_to(bytes).inspect_err(|_| {
            self.budget.usage.refusals.fetch_add(1, Relaxed);
        })
    }

    /// The same for what can be done without.
    pub(crate) fn try_grow_to(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let (total, limit) = (bytes as u64, self.budget.limit);
        let more = total.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let usage = &self.budget.usage;
        let fits = |used: u64| used.checked_add(more).filter(|used| *used <= limit);
        usage.bytes.fetch_update(Relaxed, Relaxed, fits).map_err(|_| Exhausted)?;
        self.bytes = total;
        Ok(())
    }

    /// Returns what is reserved beyond this many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes as u64);
        self.bytes -= less;
        self.budget.usage.bytes.fetch_sub(less, Relaxed);
    }

    /// Ties the reservation to these bytes: it ends when the last clone of them is dropped.
    pub(crate) fn attach(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Reserved { bytes, _reservation: self })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

struct Reserved<B> {
    bytes: B,
    _reservation: Reservation,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Reserved<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Work that one decision may take, in steps of some tens of nanoseconds. Counted and not timed, so that the same request
/// gets the same answer whatever else the machine does, unless it comes near the bound by states of large patterns: those that were
/// made for other texts are not made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    left: u64,
}

impl Steps {
    /// Returns a budget of this many steps.
    pub(crate) const fn new(most: u64) -> Self {
        Self { left: most }
    }

    /// One of this many equal parts of what is left.
    pub(crate) const fn part(self, parts: u64) -> Self {
        Self { left: self.left / if parts == 0 { 1 } else { parts } }
    }

    /// Takes steps before they are done. Once there were too few, nothing is left.
    pub(crate) fn take(&mut self, steps: u64) -> Result<(), Exhausted> {
        let left = self.left.checked_sub(steps);
        self.left = left.unwrap_or(0);
        left.map(|_| ()).ok_or(Exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reservations_together_stay_within_the_limit_and_come_back_when_dropped() {
        let budget = MemoryBudget::new(100);
        let (mut one, mut other) = (budget.reserve(), budget.reserve());
        assert_eq!((one.grow_to(60), other.grow_to(41), budget.in_use()), (Ok(()), Err(Exhausted), 60));
        assert_eq!((other.grow_to(40), one.grow_to(50), budget.in_use()), (Ok(()), Ok(()), 100));
        one.shrink_to(10);
        assert_eq!((other.grow_to(90), other.grow_to(usize::MAX), budget.in_use()), (Ok(()), Err(Exhausted), 100));
        assert_eq!(one.try_grow_to(11), Err(Exhausted));
        drop(other);
        assert_eq!((budget.in_use(), budget.refusals()), (10, 2));
    }

    #[test]
    fn bytes_keep_their_reservation_until_the_last_clone_is_dropped() {
        let budget = MemoryBudget::new(100);
        let mut reservation = budget.reserve();
        reservation.grow_to(5).unwrap();
        let bytes = reservation.attach(b"hello".to_vec());
        let part = bytes.slice(1..2);
        drop(bytes);
        assert_eq!((&*part, budget.in_use()), (&b"e"[..], 5));
        drop(part);
        assert_eq!(budget.in_use(), 0);
    }

    #[test]
    fn another_limit_applies_to_what_is_in_use_already() {
        let budget = MemoryBudget::new(100);
        let mut held = budget.reserve();
        held.grow_to(80).unwrap();
        let smaller = budget.limited_to(50);
        assert_eq!((smaller.in_use(), smaller.reserve().grow_to(1)), (80, Err(Exhausted)));
        drop(held);
        assert_eq!(smaller.reserve().grow_to(50), Ok(()));
    }
}
