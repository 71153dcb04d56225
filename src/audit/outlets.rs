//! Where sealed lines go, and what the sealer shares with those that give it lines.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::broadcast;

use super::buffers::Buffers;
use super::checkpoint_key::CheckpointKey;
use super::config::SpoolConfig;
use super::sink::Sink;
use super::thread::DIED;

/// Where sealed lines go, and how they are signed: what a policy says.
#[derive(Default)]
pub(super) struct Outlets {
    /// The open sinks.
    pub(super) sinks: Vec<Arc<Sink>>,
    /// Signs checkpoints; without one there are none.
    pub(super) key: Option<Arc<CheckpointKey>>,
    /// Longest time from a record to the checkpoint that covers it.
    pub(super) checkpoint: Duration,
    /// How the spool is used; its folder is that of the process.
    pub(super) spool: Option<SpoolConfig>,
}

/// Batches that a follower of the record may be behind before it misses some.
const FOLLOWED: usize = 16;

/// Those who follow the record.
pub(super) struct Live(pub(super) broadcast::Sender<Bytes>);

impl Default for Live {
    fn default() -> Self {
        Self(broadcast::channel(FOLLOWED).0)
    }
}

/// What the sealer shares with those that give it lines.
#[derive(Default)]
pub(super) struct Shared {
    /// Records that were dropped, in the life of the process.
    pub(super) dropped: AtomicU64,
    /// Records that were handed over.
    pub(super) handed: AtomicU64,
    /// Records that were passed on.
    pub(super) passed_on: AtomicU64,
    /// Held while records go from the count of the sealer to those of the sinks, so that none is counted twice, or not at all.
    passing: Mutex<()>,
    /// The end of the process is near: what cannot be passed on by then is given up.
    pub(super) deadline: Mutex<Option<Instant>>,
    /// Where lines go from now on, until the sealer has seen it.
    pub(super) next: Mutex<Option<Arc<Outlets>>>,
    /// Sinks that are not in the policy any more, and have not ended.
    pub(super) retired: Mutex<Vec<Arc<Sink>>>,
    /// Records that such sinks had when they ended, and had not written.
    pub(super) unwritten: AtomicU64,
    /// What lines pass through.
    pub(super) buffers: Arc<Buffers>,
    /// Lines as they are passed on, for those who follow the record.
    pub(super) live: Live,
    /// Requests are to be refused, because their records could not be kept.
    pub(super) refuses: AtomicBool,
    /// Requests have to wait for the same reason.
    pub(super) holds: AtomicBool,
    /// Why nothing can be appended to the spool, while that lasts.
    pub(super) error: Mutex<Option<String>>,
    /// Records are dropped meanwhile, and requests are served.
    pub(super) drops: AtomicBool,
    /// A fault has ended the thread of the sealer: nothing is kept any more.
    pub(super) died: AtomicBool,
}

impl Shared {
    /// Why nothing can be kept, while that lasts.
    pub(super) fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A fault ends the thread of the sealer.
    pub(super) fn dies(&self) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(DIED.to_owned());
        self.died.store(true, Relaxed);
    }

    /// Counts records as those of the sinks, which are about to get them.
    pub(super) fn pass_on(&self, records: u64, sinks: &[Arc<Sink>]) {
        let _passing = self.counts();
        sinks.iter().for_each(|sink| sink.count(records));
        self.passed_on.fetch_add(records, Relaxed);
    }

    /// While the guard lives, no record goes from one count to another.
    pub(super) fn counts(&self) -> MutexGuard<'_, ()> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outlets that are to come, if there are any.
    pub(super) fn next(&self) -> Option<Arc<Outlets>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sinks that are not in the policy any more, and have not ended.
    pub(super) fn retired(&self) -> Vec<Arc<Sink>> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        for ended in retired.extract_if(.., |sink| sink.has_ended()) {
            self.unwritten.fetch_add(ended.at_risk(), Relaxed);
        }
        retired.clone()
    }

    /// This sink is not in the policy any more.
    pub(super) fn retire(&self, sink: &Arc<Sink>) {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(sink));
    }

    /// The time after which nobody waits any longer.
    pub(super) fn is_over(&self) -> bool {
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}
