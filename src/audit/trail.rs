//! The trail: the open sinks that every record goes to. Shared by all workers; a reload makes a new one that carries
//! over what did not change.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::config::SinkConfig;
use super::sink::{GRACE, Sink};
use super::writer::Batch;
#[cfg(test)]
use super::writer::Output;
use crate::error_text;

/// The open sinks.
pub(crate) struct Trail {
    sinks: Vec<Arc<Sink>>,
    /// The last `event.sequence`; it counts for the life of the process.
    sequence: Arc<AtomicU64>,
    /// Records that were dropped before they reached a sink, in the life of the process.
    dropped: Arc<AtomicU64>,
    node: Arc<str>,
}

/// A sink that could not be opened.
#[derive(Debug)]
pub(crate) struct OpenError {
    /// Its path, if it is a file.
    pub(crate) path: Option<PathBuf>,
    /// Why.
    pub(crate) error: io::Error,
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = error_text::system(&self.error);
        match &self.path {
            Some(path) => write!(f, "cannot open the audit file {}: {why}", path.display()),
            None => write!(f, "cannot open standard output for the audit: {why}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// What one sink has done since it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SinkStats {
    /// `stdout`, or the path.
    pub(crate) sink: String,
    /// Records written.
    pub(crate) records_written: u64,
    /// Bytes written.
    pub(crate) bytes_written: u64,
    /// Records handed to the sink and not written yet.
    pub(crate) waiting: u64,
    /// Whether the sink cannot be written at the moment.
    pub(crate) failing: bool,
}

impl Trail {
    /// Opens `sinks`. Those that `previous` also has are carried over, with their threads and queues, and the sequence
    /// continues. A duplicate is opened once. Without sinks, the trail is silent.
    ///
    /// # Errors
    /// The first sink that cannot be opened. The sinks opened before it are closed again, and `previous` is unchanged.
    pub(crate) fn open(sinks: &[SinkConfig], previous: Option<&Self>) -> Result<Self, OpenError> {
        let carried = previous.map(|trail| trail.sinks.as_slice()).unwrap_or_default();
        let mut opened: Vec<Arc<Sink>> = Vec::with_capacity(sinks.len());
        for config in sinks {
            if opened.iter().any(|sink| sink.config == *config) {
                continue;
            }
            opened.push(match carried.iter().find(|sink| sink.config == *config) {
                Some(sink) => Arc::clone(sink),
                None => Arc::new(Sink::open(config).map_err(|error| OpenError {
                    path: match config {
                        SinkConfig::File { path, .. } => Some(path.clone()),
                        _ => None,
                    },
                    error,
                })?),
            });
        }
        Ok(match previous {
            Some(trail) => Self {
                sinks: opened,
                sequence: Arc::clone(&trail.sequence),
                dropped: Arc::clone(&trail.dropped),
                node: Arc::clone(&trail.node),
            },
            None => Self { sinks: opened, ..Self::silent() },
        })
    }

    /// A trail without sinks.
    pub(crate) fn silent() -> Self {
        Self { sinks: Vec::new(), sequence: Arc::default(), dropped: Arc::default(), node: host_name().into() }
    }

    /// A trail over one output that is no configured sink.
    #[cfg(test)]
    pub(super) fn over(output: impl Output) -> Self {
        let sink = Sink::start(&SinkConfig::Stdout { readable: None }, output).unwrap();
        Self { sinks: vec![Arc::new(sink)], sequence: Arc::default(), dropped: Arc::default(), node: "test".into() }
    }

    /// Returns whether there is no sink, so that records need not be made.
    pub(crate) fn is_silent(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Name of this host.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Makes every file sink reopen its path, after it was rotated. Does not wait. Queued records go to the old or the new
    /// file, in order and whole.
    pub(crate) fn reopen(&self) {
        for sink in &self.sinks {
            sink.reopen();
        }
    }

    /// Returns the error of a sink that cannot be written at the moment, if any.
    pub(crate) fn failing(&self) -> Option<String> {
        self.sinks.iter().find_map(|sink| Some(format!("audit sink {}: {}", sink.config, sink.error()?)))
    }

    /// Returns statistics of each sink.
    pub(crate) fn stats(&self) -> Vec<SinkStats> {
        let stats = |sink: &Arc<Sink>| SinkStats {
            sink: sink.config.to_string(),
            records_written: sink.state.records_written.load(Relaxed),
            bytes_written: sink.state.bytes_written.load(Relaxed),
            waiting: sink.state.waiting(),
            failing: sink.error().is_some(),
        };
        self.sinks.iter().map(stats).collect()
    }

    /// Sets when sinks that cannot be written are given up, so that nobody waits for them any longer. Set it when the process
    /// begins to stop: those that have to hand records over first wait for the sinks.
    pub(crate) fn give_up_at(&self, instant: Instant) {
        for sink in &self.sinks {
            sink.give_up_at(instant);
        }
    }

    /// Gives the sinks that `next` does not have a limited time to write what is queued: a sink that was replaced because it
    /// cannot be written must not hold up the records for its successor.
    pub(crate) fn retire(&self, next: &Self) {
        let deadline = Instant::now() + GRACE;
        for sink in self.sinks.iter().filter(|sink| !next.sinks.iter().any(|kept| Arc::ptr_eq(kept, sink))) {
            sink.give_up_at(deadline);
        }
    }

    /// Counts a record that is dropped. Its number is missing in the record.
    pub(super) fn drop_record(&self) {
        self.next_sequence();
        self.dropped.fetch_add(1, Relaxed);
    }

    /// Records that were dropped before they reached a sink.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Closes the sinks, in every trail that has them: waits until everything handed over is written and synced, but at most
    /// `within`. Returns how many records could not be written, counted per sink. Needs a runtime with time.
    pub(crate) async fn close(&self, within: Duration) -> u64 {
        let deadline = Instant::now() + within;
        for sink in &self.sinks {
            sink.close(deadline);
        }
        for sink in &self.sinks {
            // What is left shows whether it ended in time.
            let _ = tokio::time::timeout_at(deadline.into(), sink.ended()).await;
        }
        self.sinks.iter().map(|sink| sink.state.waiting()).sum()
    }

    /// The next `event.sequence`, from 1.
    pub(super) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Relaxed) + 1
    }

    /// Hands a batch to every sink, waiting while its queue is full, until the sink is given up.
    pub(super) async fn send(&self, batch: &Batch) {
        for sink in &self.sinks {
            sink.state.handed.fetch_add(batch.records, Relaxed);
            if !sink.send(batch.clone()).await {
                sink.lost(batch);
            }
        }
    }

    /// Hands a batch to every sink whose queue has room, without waiting.
    pub(super) fn offer(&self, batch: &Batch) {
        for sink in &self.sinks {
            sink.state.handed.fetch_add(batch.records, Relaxed);
            if !sink.offer(batch.clone()) {
                sink.lost(batch);
            }
        }
    }
}

/// Returns the host's name from the kernel, or else from the environment.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::audit::sink::QUEUE;

    /// Longer than any test waits for anything.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn file(path: PathBuf) -> SinkConfig {
        SinkConfig::File { path, rotate: None }
    }

    fn batch(lines: &str) -> Batch {
        Batch { lines: lines.to_owned().into(), records: lines.lines().count() as u64 }
    }

    #[tokio::test]
    async fn opening_is_all_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let good = file(folder.path().join("good"));
        let trail = Trail::open(std::slice::from_ref(&good), None).unwrap();
        let bad = folder.path().join("absent/bad");
        let error =
            Trail::open(&[good, file(folder.path().join("new")), file(bad.clone())], Some(&trail)).err().unwrap();
        assert_eq!((error.path.as_ref(), error.error.kind()), (Some(&bad), io::ErrorKind::NotFound));
        assert!(error.to_string().contains("absent/bad"), "{error}");
        trail.send(&batch("one\n")).await;
        assert_eq!(trail.close(PATIENCE).await, 0);
        assert_eq!(fs::read_to_string(folder.path().join("good")).unwrap(), "one\n");
    }

    #[test]
    fn equal_sinks_are_carried_over() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (file(folder.path().join("a")), file(folder.path().join("b")));
        let old = Trail::open(std::slice::from_ref(&a), None).unwrap();
        assert_eq!(old.next_sequence(), 1);
        let new = Trail::open(&[b.clone(), a.clone(), b], Some(&old)).unwrap();
        assert_eq!(new.sinks.len(), 2, "one named twice is opened once");
        assert!(Arc::ptr_eq(&new.sinks[1], &old.sinks[0]));
        assert_eq!((new.next_sequence(), old.next_sequence()), (2, 3));
        assert!(Trail::open(&[], Some(&new)).unwrap().is_silent() && !new.is_silent());
    }

    #[tokio::test]
    async fn a_dropped_sink_is_written_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let trail = Trail::open(&[file(path.clone())], None).unwrap();
        for _ in 0..50 {
            trail.send(&batch("a\nb\n")).await;
        }
        let (mut done, state) = (trail.sinks[0].done.clone(), Arc::clone(&trail.sinks[0].state));
        drop(trail);
        done.changed().await.unwrap_err();
        assert!(state.deadline().is_some(), "a writer that nobody holds does not try for ever");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\n".repeat(50));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    }

    #[tokio::test]
    async fn files_are_appended_to_and_a_torn_line_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        for (before, after) in [("", "new\n"), ("old\n", "old\nnew\n"), ("old\nto", "old\nto\nnew\n")] {
            let path = folder.path().join("audit");
            fs::write(&path, before).unwrap();
            let trail = Trail::open(&[file(path.clone())], None).unwrap();
            trail.send(&batch("new\n")).await;
            assert_eq!(trail.close(PATIENCE).await, 0);
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[tokio::test]
    async fn what_comes_after_the_close_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let trail = Trail::open(&[file(folder.path().join("audit"))], None).unwrap();
        trail.send(&batch("a\nb\n")).await;
        assert_eq!(trail.close(PATIENCE).await, 0);
        trail.send(&batch("c\n")).await;
        trail.offer(&batch("d\ne\n"));
        assert_eq!(trail.close(PATIENCE).await, 3);
        let stats = trail.stats().remove(0);
        assert_eq!((stats.records_written, stats.bytes_written, stats.waiting, stats.failing), (2, 4, 3, true));
        assert!(trail.failing().unwrap().ends_with("audit: closed"));
    }

    #[tokio::test]
    async fn a_reopened_file_may_end_in_a_torn_line_too() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit"), folder.path().join("audit.1"));
        let trail = Trail::open(&[file(path.clone())], None).unwrap();
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "to").unwrap();
        trail.reopen();
        trail.send(&batch("new\n")).await;
        assert_eq!(trail.close(PATIENCE).await, 0);
        assert_eq!(
            (fs::read(&moved).unwrap(), fs::read_to_string(&path).unwrap()),
            (Vec::new(), "to\nnew\n".to_owned())
        );
    }

    #[tokio::test]
    async fn a_failed_reopen_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, moved) = (folder.path().join("logs"), folder.path().join("moved"));
        fs::create_dir(&inside).unwrap();
        let trail = Trail::open(&[file(inside.join("audit"))], None).unwrap();
        trail.send(&batch("one\n")).await;
        fs::rename(&inside, &moved).unwrap();
        trail.reopen();
        trail.send(&batch("two\n")).await;
        assert_eq!(trail.close(PATIENCE).await, 0);
        assert_eq!(fs::read_to_string(moved.join("audit")).unwrap(), "one\ntwo\n");
    }

    /// An output that blocks until the sender is dropped, as a pipe does that nobody reads.
    struct Stuck {
        /// Something is being written.
        writes: std::sync::mpsc::Sender<()>,
        blocked: std::sync::mpsc::Receiver<()>,
    }

    impl io::Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            let _ = self.writes.send(());
            let _ = self.blocked.recv();
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output for Stuck {}

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_sink_past_the_time_when_it_is_given_up() {
        // S7: at shutdown, workers first wait for the queue of a sink that cannot be written, before anybody closes it.
        let ((unblock, blocked), (writes, written)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let trail = Arc::new(Trail::over(Stuck { writes, blocked }));
        trail.send(&batch("a\n")).await;
        written.recv().unwrap();
        let (sent, sending) = (Arc::new(AtomicU64::new(0)), Arc::clone(&trail));
        let count = Arc::clone(&sent);
        let worker = tokio::spawn(async move {
            for _ in 0..QUEUE + 10 {
                sending.send(&batch("a\n")).await;
                count.fetch_add(1, Relaxed);
            }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(sent.load(Relaxed), QUEUE as u64, "without a deadline, it waits");
        trail.give_up_at(Instant::now());
        worker.await.unwrap();
        assert_eq!(trail.close(Duration::ZERO).await, QUEUE as u64 + 11);
        drop(unblock);
    }

    #[tokio::test]
    async fn a_sink_that_was_replaced_is_given_up_in_time_and_a_kept_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (file(folder.path().join("a")), file(folder.path().join("b")));
        let old = Trail::open(&[a, b.clone()], None).unwrap();
        let new = Trail::open(&[b], Some(&old)).unwrap();
        old.retire(&new);
        let given_up: Vec<_> = old.sinks.iter().map(|sink| sink.state.deadline().is_some()).collect();
        assert_eq!(given_up, [true, false]);
        old.send(&batch("one\n")).await;
        assert_eq!(old.close(PATIENCE).await, 0);
        assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), "one\n", "what is queued is still written");
    }
}
