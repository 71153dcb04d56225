//! Shares out the file descriptors that the process may have, so that no part of it takes those of another.
//!
//! Without bounds, clients that do nothing would take all of them, and then no upstream, no issuer and no operator could be
//! reached, and no record rotated.

/// Descriptors for everything but client and upstream connections: listeners, operators, the record, the store, issuers.
const RESERVE: usize = 128;
/// Descriptors of a worker's event loop.
const PER_WORKER: usize = 4;

/// How many connections the process can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// From clients.
    pub(crate) clients: usize,
    /// To upstreams, idle ones included.
    pub(crate) upstreams: usize,
}

impl Budget {
    /// Shares out this many descriptors. Returns `None` if they are fewer than [`least`].
    pub(crate) fn of(descriptors: usize, workers: usize) -> Option<Self> {
        let half = descriptors.checked_sub(reserve(workers))? / 2;
        // Every client may wait for an upstream of its own.
        (descriptors >= least(workers)).then_some(Self { clients: half, upstreams: half })
    }
}

/// The fewest descriptors a process with this many workers can serve with.
pub(crate) fn least(workers: usize) -> usize {
    reserve(workers).saturating_mul(2)
}

fn reserve(workers: usize) -> usize {
    workers.saturating_mul(PER_WORKER).saturating_add(RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S6: however few descriptors there are, a reserve is left.
    #[test]
    fn descriptors_are_shared_out_and_a_reserve_is_left() {
        for (descriptors, workers, expected) in [
            (0, 1, None),
            (263, 1, None),
            (264, 1, Some(66)),
            (1024, 2, Some(444)),
            (1024, 64, Some(320)),
            (1024, 128, None),
            (1 << 20, 2, Some(524_220)),
            (1024, usize::MAX, None),
        ] {
            let budget = Budget::of(descriptors, workers);
            assert_eq!(
                budget,
                expected.map(|half| Budget { clients: half, upstreams: half }),
                "{descriptors} {workers}"
            );
            assert!(budget.is_none_or(|budget| budget.clients + budget.upstreams + reserve(workers) <= descriptors));
        }
    }
}
