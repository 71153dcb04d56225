//! The recorder: one per worker. Takes records without waiting or failing, and hands them over in batches.
//!
//! No record of an admitted request is lost and memory stays bounded because a worker awaits [`Recorder::ready`] before it
//! admits a request: while the sinks cannot keep up, callers wait. The buffer then holds at most [`HIGH_WATER_MARK`] bytes and
//! the records of requests already in flight. Requests that end without having been admitted (the client gave up, or the
//! head was malformed) can come without end: past [`DROP_MARK`] bytes their records are dropped and counted. When idle, a record is handed over within a turn of the event loop; under load, the
//! records of a few turns share a batch.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::batch::Batch;
use super::record::{self, Clock, Record};
use super::trail::Trail;

/// Number of bytes recorded but not handed over at which new requests have to wait.
const HIGH_WATER_MARK: usize = 1024 * 1024;

/// Number of bytes recorded but not handed over at which records of requests that were not admitted are dropped.
const DROP_MARK: usize = 2 * HIGH_WATER_MARK;

/// Size in bytes at which a batch is sealed.
const BATCH_SIZE: usize = 240 * 1024;

/// How often those who wait ask whether they still have to.
const ASK: Duration = Duration::from_millis(100);

/// How many turns of a busy event loop share a batch.
const TURNS: usize = 4;

/// The worker's end of the trail. What it holds is handed over even after it is dropped, as long as the worker's event
/// loop runs.
pub(crate) struct Recorder {
    shared: Rc<Shared>,
}

/// State that the recorder shares with the task that hands records over.
struct Shared {
    buffer: RefCell<Buffer>,
    /// Bytes recorded but not handed over.
    waiting: Cell<usize>,
    /// Records taken.
    taken: Cell<u64>,
    /// Records handed over.
    handed: Cell<u64>,
    /// Records dropped since the sinks could last keep up.
    dropped: Cell<u64>,
    /// The recorder is gone: hand over what is left and end.
    ended: Cell<bool>,
    /// There is something to hand over, or the end.
    work: Notify,
    /// Something was handed over.
    progress: Notify,
}

/// Records to be handed over, oldest first: sealed batches, then the open one.
struct Buffer {
    /// Batches that take no more records, each with the trail it was recorded for.
    sealed: VecDeque<(Arc<Trail>, Batch)>,
    /// Lines of the open batch.
    lines: Vec<u8>,
    /// Number of records in `lines`.
    records: u64,
    /// The trail that the open batch is for.
    trail: Arc<Trail>,
    clock: Clock,
}

impl Recorder {
    /// Makes a recorder for the worker whose event loop this is called on; it must run local tasks.
    pub(crate) fn new(trail: Arc<Trail>) -> Rc<Self> {
        let buffer = Buffer { sealed: VecDeque::new(), lines: Vec::new(), records: 0, trail, clock: Clock::default() };
        let shared = Rc::new(Shared {
            buffer: RefCell::new(buffer),
            waiting: Cell::new(0),
            taken: Cell::new(0),
            handed: Cell::new(0),
            dropped: Cell::new(0),
            ended: Cell::new(false),
            work: Notify::new(),
            progress: Notify::new(),
        });
        tokio::task::spawn_local(hand_over(Rc::clone(&shared)));
        Rc::new(Self { shared })
    }

    /// Adds a record. Never waits or fails.
    pub(crate) fn record(&self, record: &Record<'_>) {
        let shared = &*self.shared;
        let mut buffer = shared.buffer.borrow_mut();
        let buffer = &mut *buffer;
        if buffer.trail.is_silent() {
            return;
        }
        let before = buffer.lines.len();
        record::write(&mut buffer.lines, record, buffer.trail.node(), &mut buffer.clock);
        buffer.records += 1;
        shared.taken.set(shared.taken.get() + 1);
        shared.waiting.set(shared.waiting.get() + buffer.lines.len() - before);
        if buffer.lines.len() >= BATCH_SIZE {
            buffer.seal();
        }
        if before == 0 {
            shared.work.notify_one();
        }
    }

    /// Whether the record of a request that was not admitted is dropped, because too many wait already. Counts it.
    pub(crate) fn drops(&self) -> bool {
        let shared = &*self.shared;
        if shared.waiting.get() < DROP_MARK && !shared.buffer.borrow().trail.refuses() {
            return false;
        }
        if shared.dropped.replace(shared.dropped.get() + 1) == 0 {
            tracing::error!("audit records of requests that were not admitted are dropped: the sinks cannot keep up");
        }
        shared.buffer.borrow().trail.drop_record();
        true
    }

    /// Returns whether there is no sink, so that records need not be made.
    pub(crate) fn is_silent(&self) -> bool {
        self.shared.buffer.borrow().trail.is_silent()
    }

    /// Returns whether a request can be admitted without waiting.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        let trail = &self.shared.buffer.borrow().trail;
        self.shared.waiting.get() < HIGH_WATER_MARK && !trail.holds() && !trail.refuses()
    }

    /// Waits while too much is recorded but not handed over. Await it before admitting a request. Returns false if the request
    /// is to be refused instead, because its record could not be kept.
    #[inline]
    #[must_use]
    pub(crate) async fn ready(&self) -> bool {
        let is_full = |shared: &Shared| shared.waiting.get() >= HIGH_WATER_MARK;
        let refuses = |shared: &Shared| shared.buffer.borrow().trail.refuses();
        // While the spool takes nothing, what is admitted would be in memory alone.
        let waits = |shared: &Shared| is_full(shared) || shared.buffer.borrow().trail.holds();
        while waits(&self.shared) && !refuses(&self.shared) && !self.is_silent() {
            // It is asked again now and then, because a reload, or room in the spool, may end the wait as well.
            let handed_over = self.shared.until(|shared| !waits(shared));
            let _ = tokio::time::timeout(ASK, handed_over).await;
        }
        !refuses(&self.shared)
    }

    /// Switches to another trail. Earlier records still go to the previous trail, and go first.
    pub(crate) fn switch(&self, trail: Arc<Trail>) {
        let mut buffer = self.shared.buffer.borrow_mut();
        buffer.seal();
        buffer.trail = trail;
    }

    /// Waits until everything recorded so far is in the sinks' queues. Call it when a worker ends, and on all workers
    /// before [`Trail::close`].
    pub(crate) async fn close(&self) {
        let target = self.shared.taken.get();
        self.shared.until(|shared| shared.handed.get() >= target).await;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.ended.set(true);
        self.shared.work.notify_one();
    }
}

/// The task of each recorder: hands records over until the recorder is dropped and nothing is left.
async fn hand_over(shared: Rc<Shared>) {
    while !shared.ended.get() {
        shared.work.notified().await;
        // Requests that end in this turn of the event loop go in the same batch, and while it is busy, those of the
        // next.
        for _ in 0..TURNS {
            let before = shared.taken.get();
            tokio::task::yield_now().await;
            if shared.taken.get() == before || shared.is_sealed() {
                break;
            }
        }
        while let Some((trail, batch)) = shared.take() {
            let (bytes, records) = (batch.lines.len(), batch.records);
            trail.send(batch).await;
            shared.waiting.set(shared.waiting.get().saturating_sub(bytes));
            shared.handed.set(shared.handed.get() + records);
            if shared.waiting.get() < HIGH_WATER_MARK && shared.dropped.get() > 0 {
                tracing::warn!(
                    records = shared.dropped.take(),
                    "audit records were dropped; the sinks can keep up again"
                );
            }
            shared.progress.notify_waiters();
        }
    }
}

impl Shared {
    fn take(&self) -> Option<(Arc<Trail>, Batch)> {
        self.buffer.borrow_mut().take()
    }

    /// Whether a batch takes no more records.
    fn is_sealed(&self) -> bool {
        !self.buffer.borrow().sealed.is_empty()
    }

    /// Waits until `met` returns true; checks it again whenever something was handed over.
    async fn until(&self, met: impl Fn(&Self) -> bool) {
        loop {
            // Created before the check, so that no progress in between is missed.
            let progress = self.progress.notified();
            if met(self) {
                return;
            }
            progress.await;
        }
    }
}

impl Buffer {
    /// Ends the open batch, if it has records.
    fn seal(&mut self) {
        if !self.lines.is_empty() {
            // The next batch is probably about as long as this one. With room to spare, it does not grow at its last lines:
            // that would copy all of it.
            let next = self.trail.buffer(self.lines.len() + self.lines.len() / 4 + record::LINE_ROOM);
            let batch = Batch {
                lines: self.trail.lend(std::mem::replace(&mut self.lines, next)),
                records: std::mem::take(&mut self.records),
            };
            self.sealed.push_back((Arc::clone(&self.trail), batch));
        }
    }

    /// Takes the oldest batch.
    fn take(&mut self) -> Option<(Arc<Trail>, Batch)> {
        if self.sealed.is_empty() {
            self.seal();
        }
        self.sealed.pop_front()
    }
}

impl Drop for Shared {
    /// The last resort if the event loop ended before the recorder was closed: saves what fits into the queues.
    fn drop(&mut self) {
        while let Some((trail, batch)) = self.take() {
            trail.offer(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::{Barrier, Condvar, Mutex};
    use std::task::{Context, Poll, Waker};
    use std::{fs, io, path::Path};

    use super::super::config::{AuditConfig, SinkConfig};
    use super::super::record::tests::sample;
    use super::super::writer::Output;
    use super::*;

    fn config(sinks: &[SinkConfig]) -> AuditConfig {
        AuditConfig { sinks: sinks.to_vec(), ..AuditConfig::none() }
    }

    /// Longer than any test waits for anything.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Runs a future as workers run theirs.
    fn worker<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, future)
    }

    fn sequences(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n'));
        let sequence =
            |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"]["sequence"].as_u64().unwrap();
        text.lines().map(sequence).collect()
    }

    #[test]
    fn nothing_is_lost_over_threads_a_switch_and_a_rotation() {
        const THREADS: usize = 4;
        const HALF: u64 = 3000;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = |name: &str| SinkConfig::File { path: path(name), rotate: None };
        let old = Arc::new(Trail::open(&config(&[file("a")]), None).unwrap());
        let new = Arc::new(Trail::open(&config(&[file("a"), file("b")]), Some(&old)).unwrap());
        let middle = Barrier::new(THREADS + 1);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    worker(async {
                        let recorder = Recorder::new(Arc::clone(&old));
                        for number in 0..2 * HALF {
                            if number == HALF {
                                // Nothing of the second half is recorded before the rotation.
                                recorder.close().await;
                                middle.wait();
                                middle.wait();
                                recorder.switch(Arc::clone(&new));
                            }
                            let _ = recorder.ready().await;
                            recorder.record(&sample());
                            if number % 50 == 0 {
                                tokio::task::yield_now().await;
                            }
                        }
                        recorder.close().await;
                    });
                });
            }
            middle.wait();
            fs::rename(path("a"), path("a.1")).unwrap();
            new.install(&old);
            new.reopen();
            middle.wait();
        });
        assert_eq!(worker(new.close(PATIENCE)), 0);
        let (before, after, other) = (sequences(&path("a.1")), sequences(&path("a")), sequences(&path("b")));
        let count = THREADS as u64 * HALF;
        let all: Vec<u64> = before.into_iter().chain(after).collect();
        assert_eq!(all, (1..=2 * count).collect::<Vec<_>>());
        // What was handed over before, and not passed on yet, may go to the new sink as well.
        assert!(other.len() as u64 >= count && all.ends_with(&other), "{}", other.len());
    }

    /// An output that takes nothing until its gate is opened.
    struct Gated {
        gate: Arc<(Mutex<bool>, Condvar)>,
        lines: Arc<Mutex<Vec<u8>>>,
    }

    impl io::Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.gate.1.wait_while(self.gate.0.lock().unwrap(), |open| !*open).unwrap();
            self.lines.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output for Gated {}

    #[test]
    fn callers_wait_while_the_sink_does_and_then_all_arrives() {
        let (gate, lines) = (Arc::new((Mutex::new(false), Condvar::new())), Arc::new(Mutex::new(Vec::new())));
        let trail = Arc::new(Trail::over(Gated { gate: Arc::clone(&gate), lines: Arc::clone(&lines) }));
        worker(async {
            let recorder = Recorder::new(Arc::clone(&trail));
            let mut admitted = 0;
            // A turn of the event loop after each record, until the recorder asks to wait.
            while pin!(recorder.ready()).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                recorder.record(&sample());
                admitted += 1;
                assert!(recorder.shared.waiting.get() < HIGH_WATER_MARK + 2048);
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            assert!(lines.lock().unwrap().is_empty());
            // Requests in flight still end, and are still recorded.
            for _ in 0..10 {
                recorder.record(&sample());
            }
            let mut waiting = pin!(recorder.ready());
            assert_eq!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
            *gate.0.lock().unwrap() = true;
            gate.1.notify_all();
            waiting.await;
            recorder.close().await;
            assert_eq!(recorder.shared.waiting.get(), 0);
            assert_eq!(trail.close(PATIENCE).await, 0);
            assert_eq!(memchr::memchr_iter(b'\n', &lines.lock().unwrap()).count(), admitted + 10);
        });
    }

    #[test]
    fn requests_that_were_not_admitted_cannot_fill_the_memory_with_their_records() {
        // S8: abandoned streams and malformed heads come without end while the sink cannot be written.
        let (gate, lines) = (Arc::new((Mutex::new(false), Condvar::new())), Arc::new(Mutex::new(Vec::new())));
        let trail = Arc::new(Trail::over(Gated { gate: Arc::clone(&gate), lines: Arc::clone(&lines) }));
        worker(async {
            let recorder = Recorder::new(Arc::clone(&trail));
            let (mut taken, mut most) = (0, 0);
            for _ in 0..20_000 {
                if !recorder.drops() {
                    recorder.record(&sample());
                    taken += 1;
                }
                most = most.max(recorder.shared.waiting.get());
            }
            assert!((DROP_MARK..DROP_MARK + 4096).contains(&most), "{most}");
            assert_eq!((taken + trail.dropped(), taken > 1000), (20_000, true));
            // An admitted request is recorded all the same, and the record says how many are missing.
            recorder.record(&sample());
            *gate.0.lock().unwrap() = true;
            gate.1.notify_all();
            recorder.close().await;
            assert!(!recorder.drops());
            assert_eq!(trail.close(PATIENCE).await, 0);
            let lines = lines.lock().unwrap();
            let lines: Vec<serde_json::Value> =
                serde_json::Deserializer::from_slice(&lines).into_iter().map(Result::unwrap).collect();
            let (said, made): (Vec<_>, Vec<_>) =
                lines.iter().partition(|line| line["event"]["action"] == "records_dropped");
            let said: u64 = said.iter().map(|line| line["bartizan"]["dropped"].as_u64().unwrap()).sum();
            assert_eq!((made.len() as u64, said), (taken + 1, 20_000 - taken));
        });
    }

    #[test]
    fn records_outlive_the_recorder_and_the_event_loop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let trail =
            Arc::new(Trail::open(&config(&[SinkConfig::File { path: path.clone(), rotate: None }]), None).unwrap());
        worker(async {
            let recorder = Recorder::new(Arc::clone(&trail));
            recorder.record(&sample());
            let shared = Rc::downgrade(&recorder.shared);
            drop(recorder);
            // The task hands over what is left, and ends.
            while shared.upgrade().is_some() {
                tokio::task::yield_now().await;
            }
            // Never gets a turn.
            Recorder::new(Arc::clone(&trail)).record(&sample());
        });
        assert_eq!(worker(trail.close(PATIENCE)), 0);
        assert_eq!(sequences(&path), [1, 2]);
    }

    #[test]
    fn records_of_one_turn_share_a_batch_and_batches_are_bounded() {
        let trail = Arc::new(Trail::open(&config(&[SinkConfig::Stdout { readable: None }]), None).unwrap());
        worker(async {
            let recorder = Recorder::new(trail);
            for _ in 0..4000 {
                recorder.record(&sample());
            }
            let mut batches = Vec::new();
            while let Some((_, batch)) = recorder.shared.take() {
                assert!(batch.lines.len() < BATCH_SIZE + 4096 && batch.lines.ends_with(b"\n"));
                batches.push(batch.records);
            }
            assert_eq!(batches.iter().sum::<u64>(), 4000);
            assert!((2..12).contains(&batches.len()), "{batches:?}");
        });
    }

    #[test]
    fn without_sinks_nothing_is_kept() {
        worker(async {
            let recorder = Recorder::new(Arc::new(Trail::open(&config(&[]), None).unwrap()));
            assert!(recorder.is_silent());
            recorder.record(&sample());
            assert_eq!((recorder.shared.taken.get(), recorder.shared.buffer.borrow().lines.capacity()), (0, 0));
            recorder.close().await;
        });
    }
}
