//! The sealer: the thread that gives every line its place in the hash chain, and passes it on to the sinks.
//!
//! There is one for the life of the process. Workers queue batches of lines for it; policies that are loaded later replace its
//! outlets. Hashing is off the path of requests, and lines of all workers come into one order.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::batch::Batch;
use super::chain::Hash;
use super::outlets::{Outlets, Shared};
use super::queue::Queue;
use super::record::Follows;
use super::sealing::Sealing;
use super::spool::{Appender, Spool};
use super::thread;

/// Capacity of the queue of batches that are not sealed yet; workers wait when it is full.
pub(super) const QUEUE: usize = 64;

/// How long batches wait for those of other workers. Under load, one turn of the sealer then seals a hundred lines, and the
/// sinks are woken as seldom.
const LINGER: Duration = Duration::from_millis(2);

/// The handle on the sealer.
pub(super) struct Sealer {
    queue: Arc<Queue<Batch>>,
    pub(super) shared: Arc<Shared>,
    /// Where lines are kept for the sinks, if the policy says so.
    pub(super) spool: Option<Arc<Spool>>,
    /// Closed when the thread has ended.
    done: watch::Receiver<()>,
}

impl Sealer {
    /// Starts the thread. `stream` is the name of the stream as JSON writes it, without quotes; it goes on where `follows`
    /// ended.
    pub(super) fn start(
        node: &Arc<str>,
        stream: &str,
        follows: Option<(Follows, Hash)>,
        outlets: Arc<Outlets>,
        appender: Option<Appender>,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(QUEUE, LINGER));
        let shared = Arc::new(Shared::default());
        let spool = appender.as_ref().map(|appender| Arc::clone(appender.spool()));
        let mut sealing = Sealing::new(node, stream, follows, outlets, Arc::clone(&shared));
        sealing.appender = appender;
        let (lines, closed, died) = (Arc::clone(&queue), Arc::clone(&queue), Arc::clone(&shared));
        let died = move || {
            died.dies();
            // Workers must not wait for room in it.
            closed.close();
        };
        let (_, done) = thread::spawn("audit-seal", move || sealing.run(&lines), died)?;
        Ok(Self { queue, shared, spool, done })
    }

    /// Queues lines, waiting for room.
    pub(super) async fn send(&self, batch: Batch) {
        self.shared.handed.fetch_add(batch.records, Relaxed);
        if let Err(refused) = self.queue.send(batch).await {
            self.lost(&refused);
        }
    }

    /// Queues lines if there is room.
    pub(super) fn offer(&self, batch: Batch) {
        self.shared.handed.fetch_add(batch.records, Relaxed);
        if let Err(refused) = self.queue.offer(batch) {
            self.lost(&refused);
        }
    }

    /// Records that were handed over and not passed on.
    pub(super) fn left(&self) -> u64 {
        // Load `passed_on` first: it never exceeds `handed`.
        let passed_on = self.shared.passed_on.load(Relaxed);
        self.shared.handed.load(Relaxed).saturating_sub(passed_on)
    }

    #[cold]
    fn lost(&self, Batch { records, .. }: &Batch) {
        if self.shared.died.load(Relaxed) {
            // That has been logged.
            self.shared.dropped.fetch_add(*records, Relaxed);
        } else {
            tracing::error!(records, "audit records were lost: the record is closed or full");
        }
    }

    /// Replaces where lines go. Does not wait.
    pub(super) fn replace(&self, outlets: Arc<Outlets>) {
        *self.shared.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(outlets);
        self.queue.wake();
        if let Some(spool) = &self.spool {
            spool.wake();
        }
    }

    /// Sets when nobody waits any longer for what cannot be passed on, unless an earlier time is set.
    pub(super) fn give_up_at(&self, instant: Instant) {
        let mut deadline = self.shared.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        *deadline = Some(deadline.map_or(instant, |earlier| earlier.min(instant)));
        drop(deadline);
        if let Some(spool) = &self.spool {
            spool.wake();
        }
    }

    /// Takes no more lines; those that are queued are still sealed and passed on.
    pub(super) fn close(&self, deadline: Instant) {
        self.give_up_at(deadline);
        self.queue.close();
    }

    /// Waits until the thread has ended.
    pub(super) async fn ended(&self) {
        let mut done = self.done.clone();
        // Nothing is ever sent: the channel closes when the thread ends.
        while done.changed().await.is_ok() {}
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.queue.close();
    }
}
