//! The thread of each sink: takes batches from the workers and keeps them until they are written.
//!
//! A failed write is retried, from the first byte that was not written, until it succeeds; meanwhile the channel fills and
//! callers wait. Only a deadline, set when the process begins to stop or the sink is removed, makes the thread and the callers
//! give up; the lost records are counted.
//! Batches are not synced to disk one by one: a record survives a crash of this process, but not a power failure. A sink is
//! synced when it is closed.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::queue::{Queue, Received};

/// Queued batches are gathered into one write up to this many bytes.
pub(super) const WRITE_MAX: usize = 256 * 1024;

/// First and longest wait before a failed write is retried.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Whole lines on their way to the sealer or a sink.
#[derive(Clone, Default)]
pub(super) struct Batch {
    /// The lines, each with its line break.
    pub(super) lines: Bytes,
    /// Number of records in `lines`.
    pub(super) records: u64,
}

/// Where a writer writes to.
pub(super) trait Output: io::Write + Send + 'static {
    /// Renders lines for the sink; by default unchanged.
    fn render(&self, lines: Bytes) -> Bytes {
        lines
    }

    /// Reopens the sink after a rotation; returns whether it is a different file now. On error the old one stays open.
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Syncs what was written, before the sink is closed.
    fn sync(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// State that a writer shares with the handles on its sink.
#[derive(Default)]
pub(super) struct State {
    /// Records handed to this sink, written or not.
    pub(super) handed: AtomicU64,
    /// Records written.
    pub(super) records_written: AtomicU64,
    /// Bytes written.
    pub(super) bytes_written: AtomicU64,
    /// The sink is to be reopened before the next write.
    pub(super) reopen: AtomicBool,
    /// When failing writes, and waiting for room in the queue, are given up. Absent while the sink is in use.
    deadline: Mutex<Option<Instant>>,
    /// Why the sink cannot be written.
    error: Mutex<Option<String>>,
}

impl State {
    /// Records handed to this sink and not written yet.
    pub(super) fn waiting(&self) -> u64 {
        // Load `written` first: it never exceeds `handed`, so the difference is never negative.
        let written = self.records_written.load(Relaxed);
        self.handed.load(Relaxed).saturating_sub(written)
    }

    /// Sets the instant at which failing writes are given up, unless an earlier one is set.
    pub(super) fn give_up_at(&self, instant: Instant) {
        let mut deadline = self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        *deadline = Some(deadline.map_or(instant, |earlier| earlier.min(instant)));
    }

    /// The instant at which failing writes are given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that instant has come.
    pub(super) fn is_given_up(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns why the sink cannot be written, while that lasts.
    pub(super) fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or clears the error; returns whether the sink started or stopped failing.
    fn set_error(&self, error: Option<String>) -> bool {
        let mut current = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = current.is_some() != error.is_some();
        *current = error;
        changed
    }
}

/// One sink's writer; runs on a thread of its own.
pub(super) struct Writer<O> {
    /// The sink, as it is named in messages.
    pub(super) name: String,
    pub(super) output: O,
    pub(super) batches: Arc<Queue<Batch>>,
    pub(super) state: Arc<State>,
    /// Dropped with the writer, which notifies the handles that it has ended.
    pub(super) done: watch::Sender<()>,
    /// Bytes to write.
    pub(super) pending: Bytes,
    /// How much of `pending` has been written.
    pub(super) written: usize,
    /// Records in `pending` that have not been written whole.
    pub(super) records: u64,
}

impl<O: Output> Writer<O> {
    /// Writes until the queue is closed, and everything queued is written or given up.
    pub(super) fn run(mut self) {
        loop {
            let batches = match self.batches.receive(None) {
                Received::Items(batches) => batches,
                Received::Nothing => VecDeque::new(),
                Received::Closed => break,
            };
            if self.state.reopen.swap(false, Relaxed) {
                self.reopen();
            }
            if !self.write_all(batches) {
                break;
            }
        }
        // Whoever still waits for room must not wait for this thread.
        self.batches.close();
        if let Err(error) = self.output.sync() {
            tracing::error!(sink = %self.name, %error, "the audit sink could not be synced");
        }
        drop(self.done);
    }

    /// Writes batches, several in one write. Returns false if it gave up because the sink is being closed.
    fn write_all(&mut self, mut batches: VecDeque<Batch>) -> bool {
        while let Some(first) = batches.pop_front() {
            self.pending = self.output.render(first.lines);
            self.records = first.records;
            // Usually there is one batch, and nothing is copied.
            while self.pending.len() < WRITE_MAX
                && let Some(next) = batches.pop_front()
            {
                let mut joined = Vec::from(std::mem::take(&mut self.pending));
                joined.extend_from_slice(&self.output.render(next.lines));
                self.pending = joined.into();
                self.records += next.records;
            }
            if !self.write_pending() {
                return false;
            }
        }
        true
    }

    /// Writes all of `pending`, retrying for as long as it takes. Returns false if it gave up because the sink is being
    /// closed.
    fn write_pending(&mut self) -> bool {
        let mut wait = RETRY.0;
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.output.write(rest) {
                Ok(0) => self.failed(&io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.wrote(count);
                    wait = RETRY.0;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A slow reader of a non-blocking pipe is not a fault.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.failed(&error),
            }
            if self.state.is_given_up() {
                let records = self.state.waiting();
                tracing::error!(sink = %self.name, records, "audit records were dropped: the sink cannot be written");
                return false;
            }
            std::thread::park_timeout(wait);
            wait = (wait * 2).min(RETRY.1);
            // Reopening is also the way out when the old file can never be written again.
            if self.state.reopen.swap(false, Relaxed) {
                self.reopen();
            }
        }
        self.pending = Bytes::new();
        self.written = 0;
        true
    }

    /// Accounts for `count` more bytes written.
    fn wrote(&mut self, count: usize) {
        let end = self.written.saturating_add(count).min(self.pending.len());
        let records = if end == self.pending.len() {
            self.records
        } else {
            self.pending.get(self.written..end).map_or(0, |part| memchr::memchr_iter(b'\n', part).count() as u64)
        };
        self.records = self.records.saturating_sub(records);
        self.written = end;
        self.state.records_written.fetch_add(records, Relaxed);
        self.state.bytes_written.fetch_add(count as u64, Relaxed);
        if self.state.set_error(None) {
            tracing::info!(sink = %self.name, "the audit sink can be written again");
        }
    }

    fn failed(&self, error: &io::Error) {
        if self.state.set_error(Some(error.to_string())) {
            tracing::error!(sink = %self.name, %error, "the audit sink cannot be written; records are queued, and requests wait once the queue is full");
        }
    }

    fn reopen(&mut self) {
        match self.output.reopen() {
            // A line that was partly written to the old file is written again, whole, to the new one.
            Ok(true) => {
                let done = self.pending.get(..self.written).unwrap_or_default();
                self.written = memchr::memrchr(b'\n', done).map_or(0, |end| end + 1);
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(sink = %self.name, %error, "the audit sink could not be reopened; the old one is kept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::chain::tests::{names, unsealed};
    use super::super::trail::Trail;
    use super::*;

    /// Longer than any test waits for anything.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// What one write does.
    #[derive(Clone, Copy)]
    enum Act {
        Fail(io::ErrorKind),
        Take(usize),
    }
    use Act::{Fail, Take};

    /// An output that follows a script, then `rest` for ever. Each element of `files` is what came between two
    /// reopenings.
    struct Scripted {
        acts: VecDeque<Act>,
        rest: Act,
        files: Arc<Mutex<Vec<Vec<u8>>>>,
        /// What writes do after the first reopening.
        reopened: Option<Act>,
    }

    impl Scripted {
        fn new(acts: &[Act], rest: Act, reopened: Option<Act>) -> (Self, Arc<Mutex<Vec<Vec<u8>>>>) {
            let files = Arc::new(Mutex::new(vec![Vec::new()]));
            (Self { acts: acts.iter().copied().collect(), rest, files: Arc::clone(&files), reopened }, files)
        }
    }

    impl io::Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.acts.pop_front().unwrap_or(self.rest) {
                Fail(kind) => Err(kind.into()),
                Take(most) => {
                    let taken = &bytes[..most.min(bytes.len())];
                    self.files.lock().unwrap().last_mut().unwrap().extend_from_slice(taken);
                    Ok(taken.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output for Scripted {
        fn reopen(&mut self) -> io::Result<bool> {
            let Some(act) = self.reopened.take() else { return Ok(false) };
            (self.acts, self.rest) = (VecDeque::new(), act);
            self.files.lock().unwrap().push(Vec::new());
            Ok(true)
        }
    }

    /// Sends a line for each number, all in one batch.
    async fn send(trail: &Trail, numbers: std::ops::Range<u64>) {
        let records = numbers.end - numbers.start;
        let lines: String = numbers.map(|number| unsealed(&number.to_string())).collect();
        trail.send(Batch { lines: lines.into(), records }).await;
    }

    /// The names of the lines that [`send`] sends.
    fn sent(numbers: std::ops::Range<u64>) -> Vec<String> {
        numbers.map(|number| number.to_string()).collect()
    }

    #[tokio::test]
    async fn failed_and_partial_writes_lose_and_double_nothing() {
        use io::ErrorKind::{BrokenPipe, Interrupted, StorageFull, WouldBlock};
        let all = [
            Fail(StorageFull),
            Take(3),
            Fail(BrokenPipe),
            Take(0),
            Take(17),
            Fail(Interrupted),
            Fail(WouldBlock),
            Take(1),
        ];
        for start in 0..all.len() {
            let (output, files) = Scripted::new(&all[start..], Take(5), None);
            let trail = Trail::over(output);
            for first in (0..200).step_by(4) {
                send(&trail, first..first + 4).await;
            }
            assert_eq!(trail.close(PATIENCE).await, 0);
            let written = files.lock().unwrap()[0].clone();
            assert_eq!(names(&written), sent(0..200));
            let stats = trail.stats().remove(0);
            assert_eq!((stats.records_written, stats.bytes_written, stats.waiting), (200, written.len() as u64, 0));
        }
    }

    #[tokio::test]
    async fn what_can_never_be_written_is_given_up_at_the_deadline_and_counted() {
        for rest in [Fail(io::ErrorKind::StorageFull), Take(0)] {
            let (output, files) = Scripted::new(&[Take(200)], rest, None);
            let trail = Trail::over(output);
            send(&trail, 0..3).await;
            while trail.failing().is_none() {
                tokio::task::yield_now().await;
            }
            assert!(trail.stats()[0].failing);
            // One line and a piece of the next were taken.
            assert_eq!(trail.close(Duration::ZERO).await, 2);
            assert_eq!(files.lock().unwrap()[0].len(), 200);
        }
    }

    #[tokio::test]
    async fn reopening_is_a_way_out_and_a_torn_line_is_written_whole_again() {
        let (output, files) = Scripted::new(&[Take(200)], Fail(io::ErrorKind::StorageFull), Some(Take(usize::MAX)));
        let trail = Trail::over(output);
        send(&trail, 0..3).await;
        while trail.failing().is_none() {
            tokio::task::yield_now().await;
        }
        trail.reopen();
        send(&trail, 3..6).await;
        assert_eq!(trail.close(PATIENCE).await, 0);
        assert_eq!(trail.stats()[0].records_written, 6);
        let files: Vec<_> = files.lock().unwrap().iter().map(|file| String::from_utf8(file.clone()).unwrap()).collect();
        assert_eq!(files[0].len(), 200, "the old file ends in the middle of the second line");
        let (whole, _torn) = files[0].split_at(files[0].rfind('\n').map_or(0, |end| end + 1));
        assert_eq!(names(format!("{whole}{}", files[1]).as_bytes()), sent(0..6));
    }

    #[tokio::test]
    async fn the_earliest_time_to_give_up_holds() {
        let state = State::default();
        let now = Instant::now();
        for (set, expected) in [(20, 20), (30, 20), (10, 10)] {
            state.give_up_at(now + Duration::from_secs(set));
            assert_eq!(state.deadline(), Some(now + Duration::from_secs(expected)));
        }
    }
}
