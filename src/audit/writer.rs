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

use super::sealed_line::SealedLine;
use super::sink_state::State;
use super::source::{Present, Source};
use super::spool::{Reader, Taken};

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

    /// Reopens the sink after a rotation. On error the old one stays open.
    fn reopen(&mut self) -> io::Result<Reopened> {
        Ok(Reopened::Same)
    }

    /// Called once nobody else writes in its place. Makes sure that it ends with a whole line, and returns which of the next lines it has.
    /// With a spool, `next` are those; it is called again after a sync that failed.
    fn begin(&mut self, _next: Option<&mut Reader>) -> io::Result<Present> {
        Ok(Present::default())
    }

    /// Called before each write of whole lines. With a spool, `synced` is called where all that was written is on disk, before it is put
    /// aside.
    ///
    /// # Errors
    /// With a spool: what was written may not be on disk.
    fn prepare(&mut self, _synced: Option<&mut dyn FnMut()>) -> io::Result<()> {
        Ok(())
    }

    /// Syncs what was written, before the sink is closed.
    fn sync(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// What became of a sink that was reopened.
pub(super) enum Reopened {
    /// It is the same.
    Same,
    /// It is another one. What was written to the old one is on disk, or may not be.
    Other(io::Result<()>),
}

/// What became of lines that were to be written.
enum Wrote {
    /// All are written.
    All,
    /// Those since the last sync come again.
    Part,
    /// It gave up because the sink is being closed.
    GaveUp,
}

/// One sink's writer; runs on a thread of its own.
pub(super) struct Writer<O> {
    /// The sink, as it is named in messages.
    name: String,
    output: O,
    source: Source,
    state: Arc<State>,
    /// Bytes to write.
    pending: Bytes,
    /// How much of `pending` has been written.
    written: usize,
    /// Records in `pending` that have not been written whole.
    records: u64,
    /// What was written may not be on disk: a sync failed, and it was not written again.
    unsynced: bool,
    /// Which of the lines that come it has already.
    present: Present,
}

impl<O: Output> Writer<O> {
    pub(super) fn new(name: &str, output: O, source: Source, state: &Arc<State>) -> Self {
        let (name, state) = (name.to_owned(), Arc::clone(state));
        Self {
            name,
            output,
            source,
            state,
            pending: Bytes::new(),
            written: 0,
            records: 0,
            unsynced: false,
            present: Present::default(),
        }
    }

    /// Writes until the sink is closed, and everything it has is written or given up.
    pub(super) fn run(mut self) {
        if self.start() {
            self.deliver();
        }
        self.end();
    }

    fn end(mut self) {
        // A request that still waits for room must not wait for this thread.
        self.source.close();
        if let Err(error) = self.output.sync() {
            tracing::error!(sink = %self.name, %error, "the audit sink could not be synced");
            self.source.go_back();
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
            match self.source.start(|next| output.begin(next), || state.is_wanted()) {
                Ok(Some(present)) => {
                    self.present = present;
                    return true;
                }
                Ok(None) => {
                    let records = state.waiting();
                    if !spooled && records > 0 {
                        tracing::error!(sink = %self.name, records, "audit records were dropped: who wrote there before has not ended");
                    }
                    return false;
                }
                Err(error) => self.failed(&error),
            }
            if state.is_given_up() || (spooled && state.closing.load(Relaxed)) {
                return false;
            }
            std::thread::park_timeout(RETRY.1);
        }
    }

    /// Writes lines until the sink is closed.
    fn deliver(&mut self) {
        loop {
            if self.unsynced && !self.begin_again() {
                return;
            }
            let taken = self.source.take(WRITE_MAX, self.state.closing.load(Relaxed));
            if self.state.reopen.swap(false, Relaxed) && self.reopen() {
                // These lines come again, too.
                continue;
            }
            match taken {
                Ok(Taken::Lines(lines, records)) => {
                    // The spool keeps what another sink in its place, or the next start, goes on with.
                    let ends = self.source.is_kept() && self.state.is_given_up();
                    if !self.write(&lines, records) || ends {
                        return;
                    }
                }
                // Somebody may want to know that it has them all.
                Ok(Taken::Nothing) => {
                    let settled = self.source.settle(|| self.output.sync());
                    settled.unwrap_or_else(|error| self.not_synced(&error));
                }
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
        let prepared = if !self.present.is_empty() {
            // Until these have come, the next start has to find them in this file.
            Ok(())
        } else if self.source.is_kept() {
            self.output.prepare(Some(&mut || self.source.keep()))
        } else {
            self.output.prepare(None)
        };
        if let Err(error) = prepared {
            // These lines come again, too.
            self.source.go_back();
            self.not_synced(&error);
            return true;
        }
        let (lines, records) = self.missing(lines, records);
        self.pending = self.output.render(lines);
        self.records = records;
        match self.write_pending() {
            Wrote::All => {}
            Wrote::Part => return true,
            Wrote::GaveUp => return false,
        }
        match self.source.delivered(|| self.output.sync()) {
            Ok(()) => self.state.has_delivered(),
            Err(error) => self.not_synced(&error),
        }
        true
    }

    /// The lines that it does not have.
    fn missing(&mut self, lines: &Bytes, mut records: u64) -> (Bytes, u64) {
        if self.present.is_empty() {
            return (lines.clone(), records);
        }
        let mut missing = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let sealed = line.strip_suffix(b"\n").and_then(SealedLine::parse);
            if sealed.is_some_and(|sealed| self.present.remove(&sealed.hash)) {
                records = records.saturating_sub(1);
            } else {
                missing.extend_from_slice(line);
            }
        }
        (missing.into(), records)
    }

    fn not_synced(&mut self, error: &io::Error) {
        self.unsynced = true;
        self.failed(error);
    }

    /// After a sync that failed, waits until one succeeds, and then for the lines again: Linux takes pages that it could not write
    /// for written (<https://lwn.net/Articles/752063/>). Returns false if it gave up because the sink is being closed.
    fn begin_again(&mut self) -> bool {
        loop {
            let output = &mut self.output;
            let begun = output.sync().and_then(|()| self.source.begin_again(|next| output.begin(next)));
            match begun {
                Ok(present) => {
                    (self.present, self.unsynced) = (present, false);
                    self.works();
                    return true;
                }
                Err(error) => self.failed(&error),
            }
            if self.state.is_given_up() || self.state.closing.load(Relaxed) {
                let lines = self.source.left();
                tracing::warn!(sink = %self.name, lines, "the audit sink cannot be synced; the spool keeps its lines");
                return false;
            }
            std::thread::park_timeout(RETRY.1);
            if self.state.reopen.swap(false, Relaxed) {
                self.reopen();
            }
        }
    }

    /// Writes all of `pending`, retrying for as long as it takes.
    fn write_pending(&mut self) -> Wrote {
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
                return Wrote::GaveUp;
            }
            std::thread::park_timeout(wait);
            wait = (wait * 2).min(RETRY.1);
            // Reopening is also the way out when the old file can never be written again.
            if self.state.reopen.swap(false, Relaxed) && self.reopen() {
                (self.pending, self.written) = (Bytes::new(), 0);
                return Wrote::Part;
            }
        }
        (self.pending, self.written) = (Bytes::new(), 0);
        Wrote::All
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

    /// Reopens the sink. Returns whether lines since the last sync come again, also those that were taken and not written.
    fn reopen(&mut self) -> bool {
        let mut goes_back = false;
        if self.source.is_kept() && self.source.settle(|| self.output.sync()).is_err() {
            // Once more, while what the file has can be written again.
            goes_back = true;
            let output = &mut self.output;
            let begun = self.source.begin_again(|next| output.begin(next));
            match begun.and_then(|present| self.output.sync().map(|()| present)) {
                Ok(present) => (self.present, self.unsynced) = (present, false),
                Err(error) => self.not_synced(&error),
            }
        }
        match self.output.reopen() {
            // A line that was partly written to the old file is written again, whole, to the new one.
            Ok(Reopened::Other(synced)) => {
                let done = self.pending.get(..self.written).unwrap_or_default();
                self.written = memchr::memrchr(b'\n', done).map_or(0, |end| end + 1);
                if let Err(error) = synced {
                    tracing::error!(sink = %self.name, %error, "the rotated audit file could not be synced");
                    if self.source.is_kept() {
                        self.source.go_back();
                        self.not_synced(&error);
                        goes_back = true;
                    }
                } else if !goes_back {
                    self.source.keep();
                }
            }
            Ok(Reopened::Same) => {}
            Err(error) => {
                tracing::error!(sink = %self.name, %error, "the audit sink could not be reopened; the old one is kept");
            }
        }
        goes_back
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::super::chain::Chain;
    use super::super::chain::tests::{names, unsealed};
    use super::super::file::FileOutput;
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
        fn reopen(&mut self) -> io::Result<Reopened> {
            let Some(act) = self.reopened.take() else { return Ok(Reopened::Same) };
            (self.acts, self.rest) = (VecDeque::new(), act);
            self.files.lock().unwrap().push(Vec::new());
            Ok(Reopened::Other(Ok(())))
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

    /// A file whose syncs fail so many times, and what they were told of before each.
    struct Unsynced {
        file: FileOutput,
        fails: usize,
        state: Arc<State>,
        failing: Arc<Mutex<Vec<bool>>>,
    }

    impl io::Write for Unsynced {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.file.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output for Unsynced {
        fn begin(&mut self, next: Option<&mut Reader>) -> io::Result<Present> {
            self.file.begin(next)
        }

        fn reopen(&mut self) -> io::Result<Reopened> {
            self.file.reopen()
        }

        fn sync(&mut self) -> io::Result<()> {
            self.failing.lock().unwrap().push(self.state.error().is_some());
            let Some(left) = self.fails.checked_sub(1) else { return self.file.sync() };
            self.fails = left;
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    impl Writer<Unsynced> {
        /// Writes all that it can; then it ends, as when the process stops.
        fn write_rest(mut self) {
            self.state.closing.store(true, Relaxed);
            self.deliver();
            self.end();
        }
    }

    /// A spool with one file, and a writer of that file whose first syncs fail.
    struct SpooledFile {
        folder: tempfile::TempDir,
        appender: spool::Appender,
        lines: Vec<u8>,
    }

    impl SpooledFile {
        fn new(lines: u32) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut appender = spool::open(&folder.path().join("spool")).unwrap().appender;
            let sink = SpooledSink { name: "sink".to_owned(), kind: "file".to_owned() };
            appender.spool().settle(&[sink], std::time::Instant::now()).unwrap();
            let mut sealed = Vec::new();
            let lines_of: String = (0..lines).map(|number| unsealed(&number.to_string())).collect();
            Chain::new("a/1", None).seal(lines_of.as_bytes(), &mut sealed);
            for line in sealed.split_inclusive(|byte| *byte == b'\n') {
                appender.append(&Bytes::copy_from_slice(line), 1, 1 << 20).unwrap();
            }
            Self { folder, appender, lines: sealed }
        }

        /// A writer that has started, whose first syncs fail, and which syncs so often.
        fn writer(&self, fails: usize, keep: Duration) -> Writer<Unsynced> {
            let pace = Pace { linger: Duration::ZERO, keep };
            let source = Source::spool(self.appender.spool(), "sink", pace);
            let (state, failing) = (Arc::<State>::default(), Arc::<Mutex<Vec<bool>>>::default());
            let file = FileOutput::open(&self.path(), None).unwrap();
            let output = Unsynced { file, fails, state: Arc::clone(&state), failing };
            let mut writer = Writer::new("sink", output, source, &state);
            assert!(writer.start());
            writer
        }

        /// Writes all lines, and whether there was an error at each sync.
        fn write(&self, fails: usize) -> Vec<bool> {
            let writer = self.writer(fails, Duration::ZERO);
            let failing = Arc::clone(&writer.output.failing);
            writer.write_rest();
            failing.lock().unwrap().clone()
        }

        fn path(&self) -> std::path::PathBuf {
            self.folder.path().join("audit")
        }

        fn written(&self) -> Vec<String> {
            names(&std::fs::read(self.path()).unwrap())
        }
    }

    #[test]
    fn a_file_gets_the_lines_that_it_lacks_whatever_it_has() {
        let spooled = SpooledFile::new(5);
        let lines: Vec<Vec<u8>> = spooled.lines.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let mut others = Vec::new();
        Chain::new("b/2", None).seal((unsealed("x") + &unsealed("y")).as_bytes(), &mut others);
        let (zeros, half) = (vec![0; lines[1].len()], lines[3][..40].to_vec());
        for (has, expected) in [
            (vec![], "0 1 2 3 4"),
            (vec![&lines[0], &lines[1], &lines[2]], "0 1 2 3 4"),
            (vec![&lines[0], &lines[1], &lines[2], &half], "0 1 2 3 4"),
            (vec![&lines[0], &zeros, &lines[2]], "0 1 2 3 4"),
            // Another process writes to it, too: nothing is cut.
            (vec![&lines[0], &others], "0 x y 1 2 3 4"),
            (vec![&lines[0], &others, &lines[1]], "0 x y 1 2 3 4"),
            (vec![&others, &lines[0], &lines[1], &lines[2], &lines[3], &lines[4]], "x y 0 1 2 3 4"),
        ] {
            // With a failed sync before, and without one.
            for doubtful in [false, true] {
                let spooled = SpooledFile::new(5);
                std::fs::write(spooled.path(), has.iter().copied().flatten().copied().collect::<Vec<u8>>()).unwrap();
                if doubtful {
                    spooled.appender.spool().doubt("sink");
                }
                spooled.write(0);
                assert_eq!(spooled.written().join(" "), expected);
            }
        }
    }

    #[test]
    fn lines_in_a_file_that_was_put_aside_are_not_written_again() {
        for aside in ["audit-20261129T000000.000Z", "audit.1", "audit-20261129"] {
            let spooled = SpooledFile::new(5);
            let cut = spooled.lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(2).unwrap().0 + 1;
            std::fs::write(spooled.path().with_file_name(aside), &spooled.lines[..cut]).unwrap();
            spooled.write(0);
            assert_eq!(spooled.written(), sent(3..5), "{aside}");
        }
    }

    #[test]
    fn a_file_that_is_reopened_is_synced_before_or_its_lines_come_again() {
        for (fails, (in_old, in_new)) in [(0, (0..3, 3..9)), (1, (0..3, 3..9)), (2, (0..3, 0..9))] {
            let spooled = SpooledFile::new(9);
            let mut writer = spooled.writer(fails, PATIENCE);
            for _ in 0..3 {
                let Ok(Taken::Lines(lines, 1)) = writer.source.take(1, true) else { panic!("there are more") };
                assert!(writer.write(&lines, 1));
            }
            let moved = spooled.path().with_file_name("moved");
            std::fs::rename(spooled.path(), &moved).unwrap();
            assert_eq!(writer.reopen(), fails > 0);
            writer.write_rest();
            assert_eq!(
                (names(&std::fs::read(moved).unwrap()), spooled.written()),
                (sent(in_old), sent(in_new)),
                "{fails}"
            );
        }
    }

    #[test]
    fn lines_of_a_sync_that_failed_are_written_again_and_none_is_there_twice() {
        for fails in 0..3 {
            let spooled = SpooledFile::new(20);
            let failing = spooled.write(fails);
            if fails > 1 {
                // The sink was to end: what the file has may not be on disk, and the next start writes it again.
                assert_eq!(failing[..2], [false, true]);
                assert_eq!(spooled.appender.spool().left("sink"), 20);
                spooled.write(0);
            }
            assert_eq!((spooled.written(), spooled.appender.spool().left("sink")), (sent(0..20), 0), "{fails}");
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
}
