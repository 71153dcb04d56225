//! The thread of each sink of this machine: takes lines and keeps them until they are written.
//!
//! A failed write is retried, from the first byte that was not written, until it succeeds; meanwhile the queue fills and
//! callers wait, or the spool keeps the lines. Only a deadline, set when the process begins to stop or the sink is removed,
//! makes the thread and the callers give up; records that are lost are counted.
//! Writes are not synced to disk one by one: a record survives a crash of this process, but not a power failure. A sink is
//! synced when it is closed, and before its place in a spool is written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use bytes::Bytes;

use super::sink_state::State;
use super::source::Source;
use super::spool::Taken;

/// Queued batches are gathered into one write up to this many bytes.
pub(super) const WRITE_MAX: usize = 256 * 1024;

/// First and longest wait before a failed write is retried.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

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

    /// Called before the first write, once nobody else writes to the sink. Makes sure that it ends with a whole line, and returns
    /// stream and sequence of that line, if they are known. With a spool, a line that is torn comes again.
    fn begin(&mut self, _spooled: bool) -> io::Result<Option<(Box<str>, u64)>> {
        Ok(None)
    }

    /// Called before each write of whole lines.
    fn prepare(&mut self) {}

    /// Syncs what was written, before the sink is closed.
    fn sync(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// One sink's writer; runs on a thread of its own.
pub(super) struct Writer<O> {
    /// The sink, as it is named in messages.
    pub(super) name: String,
    pub(super) output: O,
    pub(super) source: Source,
    pub(super) state: Arc<State>,
    /// Bytes to write.
    pub(super) pending: Bytes,
    /// How much of `pending` has been written.
    pub(super) written: usize,
    /// Records in `pending` that have not been written whole.
    pub(super) records: u64,
    /// What was written may not be on disk: a sync failed, and none has succeeded since.
    pub(super) unsynced: bool,
}

impl<O: Output> Writer<O> {
    /// Writes until the sink is closed, and everything it has is written or given up.
    pub(super) fn run(mut self) {
        if self.start() {
            self.deliver();
        }
        // A request that still waits for room must not wait for this thread.
        self.source.close();
        if let Err(error) = self.output.sync() {
            tracing::error!(sink = %self.name, %error, "the audit sink could not be synced");
        }
        // With a spool, the cursor is written when the source is dropped.
        drop(self.source);
        self.state.ended.store(true, Release);
    }

    /// Gets ready, trying for as long as it takes. Returns false if the sink is not wanted any more meanwhile.
    fn start(&mut self) -> bool {
        let (state, spooled) = (Arc::clone(&self.state), self.source.is_kept());
        loop {
            let output = &mut self.output;
            match self.source.start(|| output.begin(spooled), || !state.closing.load(Relaxed)) {
                Ok(ready) => return ready,
                Err(error) => self.failed(&error),
            }
            if state.is_given_up() {
                return false;
            }
            std::thread::park_timeout(RETRY.1);
        }
    }

    /// Writes lines until the sink is closed.
    fn deliver(&mut self) {
        loop {
            let taken = self.source.take(WRITE_MAX, self.state.closing.load(Relaxed));
            if self.state.reopen.swap(false, Relaxed) {
                self.reopen();
            }
            match taken {
                Ok(Taken::Lines(lines, records)) => {
                    // The spool keeps what another sink in its place, or the next start, goes on with.
                    let ends = self.source.is_kept() && self.state.is_given_up();
                    if !self.write(&lines, records) || ends {
                        return;
                    }
                }
                Ok(Taken::Nothing) => {}
                Ok(Taken::Ended) => return,
                Err(error) => {
                    self.failed(&error);
                    if self.state.is_given_up() {
                        return;
                    }
                    std::thread::park_timeout(RETRY.1);
                }
            }
        }
    }

    /// Writes lines. Returns false if it gave up because the sink is being closed.
    fn write(&mut self, lines: &Bytes, records: u64) -> bool {
        self.state.takes(lines);
        self.output.prepare();
        self.pending = self.output.render(lines.clone());
        self.records = records;
        if !self.write_pending() {
            return false;
        }
        let (output, mut tried) = (&mut self.output, false);
        let delivered = self.source.delivered(|| {
            tried = true;
            output.sync()
        });
        match delivered {
            Ok(()) if !tried => {}
            Ok(()) => {
                if std::mem::take(&mut self.unsynced) {
                    self.works();
                }
            }
            Err(error) => {
                self.unsynced = true;
                self.failed(&error);
            }
        }
        self.state.has_delivered();
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
            let ends = self.state.closing.load(Relaxed) && self.source.is_kept();
            if self.state.is_given_up() || ends {
                match self.source.left() {
                    Some(lines) => {
                        tracing::warn!(sink = %self.name, lines, "the audit sink cannot be written; the spool keeps its lines");
                    }
                    None => {
                        let records = self.state.waiting();
                        tracing::error!(sink = %self.name, records, "audit records were dropped: the sink cannot be written");
                    }
                }
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
            let lines =
                self.pending.get(self.written..end).map_or(0, |part| memchr::memchr_iter(b'\n', part).count() as u64);
            // Not all lines are records.
            lines.min(self.records)
        };
        self.records = self.records.saturating_sub(records);
        self.written = end;
        self.state.records_written.fetch_add(records, Relaxed);
        self.state.bytes_written.fetch_add(count as u64, Relaxed);
        if !self.unsynced {
            self.works();
        }
    }

    fn works(&self) {
        if self.state.set_error(None) {
            tracing::info!(sink = %self.name, "the audit sink can be written again");
        }
    }

    fn failed(&self, error: &io::Error) {
        self.state.failures.fetch_add(1, Relaxed);
        if self.state.set_error(Some(error.to_string())) {
            if self.source.is_kept() {
                tracing::error!(sink = %self.name, %error, "the audit sink cannot be written; the spool keeps the records");
            } else {
                tracing::error!(sink = %self.name, %error, "the audit sink cannot be written; records are queued, and requests wait once the queue is full");
            }
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
    use std::sync::Mutex;

    use super::super::chain::tests::{names, unsealed};
    use super::super::source::Pace;
    use super::super::spool::{self, SpooledSink};
    use super::super::trail::Trail;
    use super::*;
    use crate::audit::batch::Batch;

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
            assert!(trail.stats()[0].error.is_some());
            // One line and a piece of the next were taken.
            assert_eq!(trail.close(Duration::ZERO).await, 2);
            assert_eq!(files.lock().unwrap()[0].len(), 200);
        }
    }

    /// An output whose first two syncs fail, and whether the sink had an error at each.
    struct Unsynced {
        state: Arc<State>,
        failing: Arc<Mutex<Vec<bool>>>,
    }

    impl io::Write for Unsynced {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            let mut failing = self.failing.lock().unwrap();
            failing.push(self.state.error().is_some());
            if failing.len() > 2 { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
    }

    impl Output for Unsynced {}

    #[test]
    fn a_sync_that_failed_is_an_error_until_one_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let mut appender = spool::open(folder.path()).unwrap().appender;
        let sink = SpooledSink { name: "sink".to_owned(), kind: "file".to_owned() };
        appender.spool().settle(&[sink], std::time::Instant::now()).unwrap();
        let pace = Pace { linger: Duration::ZERO, keep: Duration::ZERO };
        let source = Source::spool(appender.spool(), "sink", pace);
        let (state, failing) = (Arc::<State>::default(), Arc::<Mutex<Vec<bool>>>::default());
        let output = Unsynced { state: Arc::clone(&state), failing: Arc::clone(&failing) };
        let (name, pending) = ("sink".to_owned(), Bytes::new());
        let mut writer = Writer {
            name,
            output,
            source,
            state: Arc::clone(&state),
            pending,
            written: 0,
            records: 0,
            unsynced: false,
        };
        assert!(writer.start());
        for line in ["1\n", "2\n", "3\n"] {
            appender.append(&line.into(), 1, 1 << 20).unwrap();
            let Ok(Taken::Lines(lines, records)) = writer.source.take(1, true) else { panic!("there is a line") };
            assert!(writer.write(&lines, records));
        }
        assert_eq!((failing.lock().unwrap().clone(), state.error()), (vec![false, true, true], None));
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
}
