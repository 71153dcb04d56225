//! Shares out the file descriptors that the process may have, so that no part of it takes those of another.
//!
//! Without bounds, clients that do nothing would take all of them, and then no upstream, no issuer and no operator could be
//! reached, and no record rotated.

/// Descriptors for everything but client and upstream connections: workers, listeners, operators, the record, the store,
/// issuers.
const RESERVE: usize = 128;
/// The fewest descriptors a process can serve with.
pub(crate) const LEAST: usize = 2 * RESERVE;

/// How many connections the process can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// From clients.
    pub(crate) clients: usize,
    /// To upstreams, idle ones included.
    pub(crate) upstreams: usize,
}

impl Budget {
    /// Shares out this many descriptors. Returns `None` if they are too few.
    pub(crate) fn of(descriptors: usize) -> Option<Self> {
        let half = descriptors.checked_sub(RESERVE)? / 2;
        // Every client may wait for an upstream of its own.
        (descriptors >= LEAST).then_some(Self { clients: half, upstreams: half })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S6: however few descriptors there are, a reserve is left.
    #[test]
    fn descriptors_are_shared_out_and_a_reserve_is_left() {
        for (descriptors, expected) in
            [(0, None), (255, None), (256, Some(64)), (1024, Some(448)), (1 << 20, Some(524_224))]
        {
            let budget = Budget::of(descriptors);
            assert_eq!(budget, expected.map(|half| Budget { clients: half, upstreams: half }), "{descriptors}");
            assert!(budget.is_none_or(|budget| budget.clients + budget.upstreams + RESERVE <= descriptors));
        }
    }
}
