//! The trail: the sealer and the open sinks that every record goes to. Shared by all workers; a reload makes a new one that
//! carries over what did not change.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::batch::Batch;
use super::chain::Hash;
use super::config::{AuditConfig, OnFull, SinkConfig, SpoolConfig};
use super::outlets::Outlets;
use super::record::Follows;
use super::rotation;
use super::sealed_line::FileEnd;
use super::sealer::Sealer;
use super::sink::{GRACE, Sink};
use super::spool::{self, Appender, Opened, Spool, SpooledSink};
use super::thread::DIED;
#[cfg(test)]
use super::writer::Output;
use crate::error_text;

/// The open sinks, and the sealer that passes lines on to them.
pub(crate) struct Trail {
    outlets: Arc<Outlets>,
    /// The policy wants no records. The outlets are those of an earlier policy, if there was one.
    silent: bool,
    /// One for the life of the process; absent until a policy wants records.
    sealer: Option<Arc<Sealer>>,
    node: Arc<str>,
}

/// A sink, or the spool, that could not be opened.
#[derive(Debug)]
pub(crate) struct OpenError {
    /// What it is, for messages.
    what: String,
    /// Why.
    pub(crate) error: io::Error,
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot open {}: {}", self.what, error_text::system(&self.error))
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
    /// Why the sink cannot be written at the moment.
    pub(crate) error: Option<String>,
    /// Attempts that failed.
    pub(crate) failures: u64,
    /// Records that the sink refused for good.
    pub(crate) rejected: u64,
    /// Those of them that its file of rejected records had no room for.
    pub(crate) rejected_not_kept: u64,
    /// Age of the oldest record that is on its way to the sink.
    pub(crate) lag: Duration,
}

impl Trail {
    /// Opens the sinks of `config`. Those that `previous` also has are carried over, with their threads and queues, and the chain goes on. A
    /// duplicate is opened once. Without sinks, the trail is silent.
    ///
    /// # Errors
    /// The first sink that cannot be opened. The sinks opened before it are closed again, and `previous` is unchanged.
    pub(crate) fn open(config: &AuditConfig, previous: Option<&Self>) -> Result<Self, OpenError> {
        let node = previous.map_or_else(|| host_name().into(), |trail| Arc::clone(&trail.node));
        let earlier = previous.map(|trail| Arc::clone(&trail.outlets)).unwrap_or_default();
        let retired = previous.map(Self::retired).unwrap_or_default();
        let sealer = previous.and_then(|trail| trail.sealer.clone());
        let sinks = &config.sinks;
        if sinks.is_empty() && config.spool.is_none() {
            return Ok(Self { outlets: earlier, silent: true, sealer, node });
        }
        let (sealer, spool) = match sealer {
            Some(sealer) => {
                same_folder(sealer.spool.as_deref(), config.spool.as_ref())?;
                let spool = sealer.spool.clone();
                (Err(sealer), spool)
            }
            None => {
                let beginning = Beginning::of(config)?;
                let spool = beginning.appender.as_ref().map(|appender| Arc::clone(appender.spool()));
                (Ok(beginning), spool)
            }
        };
        let mut opened: Vec<Arc<Sink>> = Vec::with_capacity(sinks.len());
        for config in sinks {
            if opened.iter().any(|sink| sink.config == *config) {
                continue;
            }
            opened.push(match earlier.sinks.iter().find(|sink| sink.config == *config && !sink.has_died()) {
                Some(sink) => Arc::clone(sink),
                None => {
                    let place = config.to_string();
                    let former =
                        earlier.sinks.iter().chain(retired.iter().rev()).find(|sink| sink.config.to_string() == place);
                    let sink = Sink::open(config, spool.as_ref(), former.map(|former| &**former), &node);
                    Arc::new(sink.map_err(|error| OpenError::of(config, error))?)
                }
            });
        }
        let outlets = Arc::new(Outlets {
            sinks: opened,
            key: config.chain.key.clone(),
            checkpoint: config.chain.checkpoint,
            spool: config.spool.clone(),
        });
        let sealer = match sealer {
            Err(sealer) => sealer,
            Ok(Beginning { follows, appender }) => {
                let sealer = Sealer::start(&node, &stream(&node), follows, Arc::clone(&outlets), appender);
                Arc::new(sealer.map_err(|error| OpenError { what: "the audit record".to_owned(), error })?)
            }
        };
        Ok(Self { outlets, silent: false, sealer: Some(sealer), node })
    }

    /// A trail without sinks.
    pub(crate) fn silent() -> Self {
        Self { outlets: Arc::default(), silent: true, sealer: None, node: host_name().into() }
    }

    /// A trail over one output that is no configured sink.
    #[cfg(test)]
    pub(super) fn over(output: impl Output) -> Self {
        let sink = Sink::start(&SinkConfig::Stdout { readable: None }, output, None, None).unwrap();
        let (node, outlets) = ("test".into(), Arc::new(Outlets { sinks: vec![Arc::new(sink)], ..Outlets::default() }));
        let sealer = Sealer::start(&node, "test", None, Arc::clone(&outlets), None).unwrap();
        Self { outlets, silent: false, sealer: Some(Arc::new(sealer)), node }
    }

    /// Returns whether there is no sink, so that records need not be made.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    fn sinks(&self) -> &[Arc<Sink>] {
        if self.silent { &[] } else { &self.outlets.sinks }
    }

    /// Name of this host.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Makes all further lines go to the sinks of this trail, whichever trail they were recorded for. Sinks that only
    /// `previous` has get a limited time to write what is queued.
    pub(crate) fn install(&self, previous: &Self) {
        let is_in = |sink: &Arc<Sink>, trail: &Self| trail.outlets.sinks.iter().any(|other| Arc::ptr_eq(sink, other));
        let retired: Vec<_> = previous.outlets.sinks.iter().filter(|sink| !is_in(sink, self)).collect();
        let sealer = self.sealer.as_ref().filter(|_| !self.silent);
        if let Some(sealer) = sealer {
            retired.iter().for_each(|sink| sealer.shared.retire(sink));
            sealer.replace(Arc::clone(&self.outlets));
        }
        self.expect(self.outlets.sinks.iter().map(|sink| &sink.config));
        let (now, spool) = (Instant::now(), sealer.and_then(|sealer| sealer.spool.as_ref()));
        for sink in retired {
            let place = sink.config.to_string();
            let new = || self.outlets.sinks.iter().filter(|sink| !is_in(sink, previous));
            let at_once = match spool {
                // One that goes on from its place in the spool waits until it has ended.
                Some(spool) => spool.has_heir(&place) || new().any(|sink| sink.config.to_string() == place),
                // One that was replaced because it cannot be written must not hold up the records for its successor.
                None => {
                    sink.state.error().is_some() && self.outlets.sinks.iter().any(|other| other.state.error().is_none())
                }
            };
            sink.retire(if at_once { now } else { now + GRACE });
        }
    }

    /// Sinks of earlier trails that have not ended.
    fn retired(&self) -> Vec<Arc<Sink>> {
        self.sealer.as_ref().map(|sealer| sealer.shared.retired()).unwrap_or_default()
    }

    /// Tells the spool, if there is one, which sinks there are: it keeps lines for each of them, whether it is open or not, and
    /// for no other.
    pub(crate) fn expect<'a>(&self, sinks: impl Iterator<Item = &'a SinkConfig>) {
        self.outlets.sinks.iter().for_each(|sink| sink.state.in_force.store(true, Relaxed));
        let Some(spool) = self.sealer.as_ref().filter(|_| !self.silent).and_then(|sealer| sealer.spool.as_ref()) else {
            return;
        };
        let spooled = |sink: &SinkConfig| SpooledSink { name: sink.to_string(), kind: sink.kind().to_owned() };
        if let Err(error) = spool.settle(&sinks.map(spooled).collect::<Vec<_>>(), Instant::now() + GRACE) {
            tracing::error!(
                %error,
                "a cursor of the audit spool could not be written; if the process ends before it is, its sink may get lines twice or miss some"
            );
        }
    }

    /// Makes every file sink reopen its path, after it was rotated. Does not wait. Queued records go to the old or the new
    /// file, in order and whole.
    pub(crate) fn reopen(&self) {
        for sink in self.sinks() {
            sink.reopen();
        }
    }

    /// Whether requests are to be refused, because their records could not be kept.
    pub(super) fn refuses(&self) -> bool {
        let refuses = |sealer: &Arc<Sealer>| sealer.shared.refuses.load(Relaxed) || self.loses(sealer);
        !self.silent && self.sealer.as_ref().is_some_and(refuses)
    }

    /// Whether a fault has ended a thread that records would have to pass, and the policy does not want them to be dropped.
    fn loses(&self, sealer: &Sealer) -> bool {
        let drops = || self.outlets.spool.as_ref().is_some_and(|spool| spool.on_full == OnFull::DropAndCount);
        (sealer.shared.died.load(Relaxed) && !drops()) || self.outlets.sinks.iter().any(|sink| sink.loses())
    }

    /// Whether requests have to wait, because their records could not be kept.
    pub(super) fn holds(&self) -> bool {
        !self.silent && self.sealer.as_ref().is_some_and(|sealer| sealer.shared.holds.load(Relaxed))
    }

    /// Why records cannot be kept at the moment, if so. With a spool, a sink that fails is no reason.
    pub(crate) fn failing(&self) -> Option<String> {
        let sealer = self.sealer.as_ref().filter(|_| !self.silent)?;
        if sealer.shared.died.load(Relaxed) {
            return Some(format!("audit record: {DIED}"));
        }
        if sealer.spool.is_some() {
            // While records are dropped, requests are served as ever.
            let error = sealer.shared.error().filter(|_| !sealer.shared.drops.load(Relaxed))?;
            return Some(format!("audit spool: {error}"));
        }
        self.sinks().iter().find_map(|sink| Some(format!("audit sink {}: {}", sink.config, sink.error()?)))
    }

    /// Batches of whole lines as they are passed on, from now on. Absent if there are none.
    pub(crate) fn follow(&self) -> Option<broadcast::Receiver<Bytes>> {
        Some(self.sealer.as_ref().filter(|_| !self.silent)?.shared.live.0.subscribe())
    }

    /// Why some records are not where they should be, though requests are served: a sink fails, or the spool takes no more.
    pub(crate) fn degraded(&self) -> Option<String> {
        let dropping = self.sealer.as_ref().filter(|_| !self.silent).and_then(|sealer| sealer.shared.error());
        dropping.or_else(|| self.sinks().iter().find_map(|sink| sink.error()))
    }

    /// Bytes in the spool, if there is one.
    pub(crate) fn spooled(&self) -> Option<u64> {
        Some(self.sealer.as_ref().filter(|_| !self.silent)?.spool.as_ref()?.bytes())
    }

    /// Returns statistics of each sink.
    pub(crate) fn stats(&self) -> Vec<SinkStats> {
        let now = Timestamp::now();
        let stats = |sink: &Arc<Sink>| SinkStats {
            sink: sink.config.to_string(),
            records_written: sink.state.records_written.load(Relaxed),
            bytes_written: sink.state.bytes_written.load(Relaxed),
            waiting: sink.waiting(),
            error: sink.error(),
            failures: sink.state.failures.load(Relaxed),
            rejected: sink.state.rejected.load(Relaxed),
            rejected_not_kept: sink.state.rejected_not_kept.load(Relaxed),
            lag: sink.state.lag(now),
        };
        self.sinks().iter().map(stats).collect()
    }

    /// Sets when what cannot be written is given up, so that nobody waits for it any longer. Set it when the process begins to
    /// stop: those that have to hand records over first wait for the sinks.
    pub(crate) fn give_up_at(&self, instant: Instant) {
        if let Some(sealer) = &self.sealer {
            sealer.give_up_at(instant);
        }
        for sink in self.outlets.sinks.iter().chain(&self.retired()) {
            sink.give_up_at(instant);
        }
    }

    /// Counts a record that is dropped. The record says how many were, once the sinks can keep up.
    pub(super) fn drop_record(&self) {
        if let Some(sealer) = &self.sealer {
            sealer.shared.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Records that were dropped before they reached a sink.
    pub(crate) fn dropped(&self) -> u64 {
        self.sealer.as_ref().map_or(0, |sealer| sealer.shared.dropped.load(Relaxed))
    }

    /// Closes the sealer and the sinks, in every trail that has them: waits until everything handed over is written and
    /// synced, but at most `within`. Returns how many records could not be written, counted per sink. Needs a runtime with
    /// time.
    pub(crate) async fn close(&self, within: Duration) -> u64 {
        let Some(sealer) = &self.sealer else { return 0 };
        let deadline = Instant::now() + within;
        sealer.close(deadline);
        // What is left shows whether each ended in time.
        let _ = tokio::time::timeout_at(deadline.into(), sealer.ended()).await;
        let retired = self.retired();
        let sinks = || self.outlets.sinks.iter().chain(&retired);
        for sink in sinks() {
            sink.close(deadline);
        }
        for sink in sinks() {
            let _ = tokio::time::timeout_at(deadline.into(), sink.ended()).await;
        }
        for sink in sinks().filter(|sink| sink.at_risk() == 0 && sink.waiting() > 0) {
            tracing::info!(sink = %sink.config, lines = sink.waiting(), "the audit spool keeps lines for the next start");
        }
        let _counts = sealer.shared.counts();
        let left = |sinks: &[Arc<Sink>]| sinks.iter().map(|sink| sink.at_risk()).sum::<u64>();
        // Of those of earlier trails, this counts the ones that have ended.
        let retired = left(&self.retired());
        left(&self.outlets.sinks) + retired + sealer.shared.unwritten.load(Relaxed) + sealer.left()
    }

    /// An empty buffer for about `size` bytes of lines.
    pub(super) fn buffer(&self, size: usize) -> Vec<u8> {
        match &self.sealer {
            Some(sealer) => sealer.shared.buffers.take(size),
            None => Vec::with_capacity(size),
        }
    }

    /// The lines in a buffer, which is used again after them.
    pub(super) fn lend(&self, lines: Vec<u8>) -> Bytes {
        match &self.sealer {
            Some(sealer) => sealer.shared.buffers.lend(lines),
            None => lines.into(),
        }
    }

    /// Hands a batch over to the sealer, waiting while its queue is full.
    pub(super) async fn send(&self, batch: Batch) {
        if let Some(sealer) = &self.sealer {
            sealer.send(batch).await;
        }
    }

    /// Hands a batch over to the sealer if its queue has room, without waiting.
    pub(super) fn offer(&self, batch: Batch) {
        if let Some(sealer) = &self.sealer {
            sealer.offer(batch);
        }
    }
}

impl OpenError {
    fn of(config: &SinkConfig, error: io::Error) -> Self {
        let what = match config {
            SinkConfig::File { path, .. } => format!("the audit file {}", path.display()),
            SinkConfig::Stdout { .. } => "standard output for the audit".to_owned(),
            other => format!("the audit sink {other}"),
        };
        Self { what, error }
    }

    fn of_spool(path: &Path, error: io::Error) -> Self {
        Self { what: format!("the audit spool {}", path.display()), error }
    }
}

/// What the chain of this process begins with.
struct Beginning {
    /// The end of the stream that was kept here before.
    follows: Option<(Follows, Hash)>,
    appender: Option<Appender>,
}

impl Beginning {
    /// Opens the spool, if there is one. Call it before files are opened, which ends a torn line.
    fn of(config: &AuditConfig) -> Result<Self, OpenError> {
        let Some(SpoolConfig { path, .. }) = &config.spool else {
            return Ok(Self { follows: follows(&config.sinks), appender: None });
        };
        let opened = spool::open(path).map_err(|error| OpenError::of_spool(path, error))?;
        let Opened { appender, last, torn, .. } = opened;
        let spooled = last.map(|(stream, sequence, hash)| (Follows { stream, sequence, torn }, hash));
        // A spool that is used for the first time: the files may have an earlier stream.
        let follows = spooled.or_else(|| follows(&config.sinks));
        Ok(Self { follows, appender: Some(appender) })
    }
}

/// The spool belongs to the process.
fn same_folder(open: Option<&Spool>, wanted: Option<&SpoolConfig>) -> Result<(), OpenError> {
    if open.map(Spool::folder) == wanted.map(|wanted| wanted.path.as_path()) {
        return Ok(());
    }
    let error = io::Error::other("another `audit.spool.path`, or none, takes effect when the process is restarted");
    let path = wanted.map(|wanted| wanted.path.as_path()).or_else(|| open.map(Spool::folder));
    Err(OpenError::of_spool(path.unwrap_or(Path::new("")), error))
}

/// The end of the stream in the first file that has one.
fn follows(sinks: &[SinkConfig]) -> Option<(Follows, Hash)> {
    sinks.iter().find_map(|sink| match sink {
        SinkConfig::File { path, rotate } => {
            let FileEnd { last, torn, .. } = rotation::end_of(path, rotate.is_some());
            last.map(|(stream, sequence, hash)| (Follows { stream, sequence, torn }, hash))
        }
        _ => None,
    })
}

/// A new stream's name: the node and, in hexadecimal digits, a time and some chance. As JSON writes it, without quotes.
fn stream(node: &str) -> String {
    let id = Uuid::now_v7().simple().to_string();
    let name = format!("{node}/{}", id.get(..20).unwrap_or(&id));
    let quoted = serde_json::Value::from(name).to_string();
    quoted.trim_matches('"').to_owned()
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
    use std::path::PathBuf;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::audit::chain::tests::{names, unsealed};
    use crate::audit::config::Rotate;
    use crate::audit::file_lock::{Access, lock};
    use crate::audit::sealer;
    use crate::audit::sink::QUEUE;
    use crate::audit::writer::WRITE_MAX;

    /// Longer than any test waits for anything.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn file(path: PathBuf) -> SinkConfig {
        SinkConfig::File { path, rotate: None }
    }

    fn config(sinks: &[SinkConfig]) -> AuditConfig {
        AuditConfig { sinks: sinks.to_vec(), ..AuditConfig::none() }
    }

    /// A line for each name.
    fn batch(names: &[&str]) -> Batch {
        let lines: String = names.iter().map(|name| unsealed(name)).collect();
        Batch { lines: lines.into(), records: names.len() as u64 }
    }

    fn read(path: &Path) -> Vec<String> {
        names(&fs::read(path).unwrap())
    }

    #[tokio::test]
    async fn opening_is_all_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let good = file(folder.path().join("good"));
        let trail = Trail::open(&config(std::slice::from_ref(&good)), None).unwrap();
        let bad = folder.path().join("absent/bad");
        let error = Trail::open(&config(&[good, file(folder.path().join("new")), file(bad.clone())]), Some(&trail))
            .err()
            .unwrap();
        assert_eq!(error.error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("absent/bad"), "{error}");
        trail.send(batch(&["one"])).await;
        assert_eq!(trail.close(PATIENCE).await, 0);
        assert_eq!(read(&folder.path().join("good")), ["one"]);
    }

    #[test]
    fn equal_sinks_are_carried_over() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (file(folder.path().join("a")), file(folder.path().join("b")));
        let old = Trail::open(&config(std::slice::from_ref(&a)), None).unwrap();
        let new = Trail::open(&config(&[b.clone(), a.clone(), b]), Some(&old)).unwrap();
        assert_eq!(new.sinks().len(), 2, "one named twice is opened once");
        assert!(Arc::ptr_eq(&new.sinks()[1], &old.sinks()[0]));
        assert!(Arc::ptr_eq(new.sealer.as_ref().unwrap(), old.sealer.as_ref().unwrap()), "the chain goes on");
        assert!(Trail::open(&config(&[]), Some(&new)).unwrap().is_silent() && !new.is_silent());
    }

    #[tokio::test]
    async fn a_dropped_sink_is_written_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let trail = Trail::open(&config(&[file(path.clone())]), None).unwrap();
        for _ in 0..50 {
            trail.send(batch(&["a", "b"])).await;
        }
        let (mut done, state) = (trail.sinks()[0].done.clone(), Arc::clone(&trail.sinks()[0].state));
        drop(trail);
        done.changed().await.unwrap_err();
        assert!(state.deadline().is_some(), "a writer that nobody holds does not try for ever");
        assert_eq!(read(&path), ["a", "b"].repeat(50));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    }

    #[tokio::test]
    async fn files_are_appended_to_and_a_torn_line_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        for (before, after) in [("", "new"), ("old\n", "old new"), ("old\nto", "old to new")] {
            let path = folder.path().join("audit");
            fs::write(&path, before).unwrap();
            let trail = Trail::open(&config(&[file(path.clone())]), None).unwrap();
            trail.send(batch(&["new"])).await;
            assert_eq!(trail.close(PATIENCE).await, 0);
            assert_eq!(read(&path).join(" "), after);
        }
    }

    #[tokio::test]
    async fn what_comes_after_the_close_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let trail = Trail::open(&config(&[file(folder.path().join("audit"))]), None).unwrap();
        trail.send(batch(&["a", "b"])).await;
        assert_eq!(trail.close(PATIENCE).await, 0);
        trail.send(batch(&["c"])).await;
        trail.offer(batch(&["d", "e"]));
        assert_eq!(trail.close(PATIENCE).await, 3);
        let stats = trail.stats().remove(0);
        assert_eq!((stats.records_written, stats.waiting, stats.error.is_some()), (2, 0, true));
        assert!(trail.failing().unwrap().ends_with("audit: closed"));
    }

    #[tokio::test]
    async fn a_reopened_file_may_end_in_a_torn_line_too() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit"), folder.path().join("audit.1"));
        let trail = Trail::open(&config(&[file(path.clone())]), None).unwrap();
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "to").unwrap();
        trail.reopen();
        trail.send(batch(&["new"])).await;
        assert_eq!(trail.close(PATIENCE).await, 0);
        assert_eq!((read(&moved), read(&path)), (Vec::new(), vec!["to".to_owned(), "new".to_owned()]));
    }

    #[tokio::test]
    async fn a_failed_reopen_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, moved) = (folder.path().join("logs"), folder.path().join("moved"));
        fs::create_dir(&inside).unwrap();
        let trail = Trail::open(&config(&[file(inside.join("audit"))]), None).unwrap();
        trail.send(batch(&["one"])).await;
        fs::rename(&inside, &moved).unwrap();
        trail.reopen();
        trail.send(batch(&["two"])).await;
        assert_eq!(trail.close(PATIENCE).await, 0);
        assert_eq!(read(&moved.join("audit")), ["one", "two"]);
    }

    /// An output that blocks until it is sent something, as a pipe does that nobody reads, and fails once the sender is dropped.
    struct Stuck {
        /// Something is being written.
        writes: std::sync::mpsc::Sender<()>,
        blocked: std::sync::mpsc::Receiver<()>,
    }

    impl io::Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.writes.send(());
            self.blocked.recv().map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output for Stuck {}

    /// An output with a fault.
    struct Faulty;

    impl io::Write for Faulty {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("a fault of this test")
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output for Faulty {}

    #[tokio::test]
    async fn a_writer_that_ends_by_a_fault_refuses_requests_and_nobody_waits_for_it() {
        let trail = Trail::over(Faulty);
        assert!(!trail.refuses());
        trail.send(batch(&["a"])).await;
        trail.sinks()[0].ended().await;
        assert!(trail.refuses() && trail.failing().unwrap().contains("restart the process"));
        for _ in 0..2 * QUEUE {
            trail.send(batch(&["b"])).await;
        }
        assert_eq!(trail.close(PATIENCE).await, 1 + 2 * QUEUE as u64);
    }

    #[cfg(debug_assertions)]
    #[tokio::test]
    async fn a_sealer_that_ends_by_a_fault_refuses_requests_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let trail = Trail::open(&config(&[file(folder.path().join("audit"))]), None).unwrap();
        // The sealer takes such lines for a fault.
        let faulty = || Batch { lines: "no marks\n".into(), records: 1 };
        trail.send(faulty()).await;
        trail.sealer.as_ref().unwrap().ended().await;
        assert!(trail.refuses() && trail.failing().unwrap().contains("restart the process"));
        for _ in 0..2 * sealer::QUEUE {
            trail.send(faulty()).await;
        }
        assert_eq!(trail.close(PATIENCE).await, 1 + 2 * sealer::QUEUE as u64);
    }

    #[tokio::test]
    async fn a_reload_replaces_a_sink_that_ended_by_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let sink = file(folder.path().join("audit"));
        let old = Trail::over(Faulty);
        let faulty = Sink::start(&sink, Faulty, None, None).unwrap();
        let outlets = Arc::new(Outlets { sinks: vec![Arc::new(faulty)], ..Outlets::default() });
        let old = Trail { outlets, ..old };
        old.sealer.as_ref().unwrap().replace(Arc::clone(&old.outlets));
        old.send(batch(&["a"])).await;
        old.sinks()[0].ended().await;
        let new = Trail::open(&config(&[sink]), Some(&old)).unwrap();
        new.install(&old);
        assert!(!new.refuses() && new.failing().is_none());
        new.send(batch(&["b"])).await;
        assert_eq!(new.close(PATIENCE).await, 1, "the first line is lost");
        assert_eq!(read(&folder.path().join("audit")), ["b"]);
    }

    #[test]
    fn only_one_process_rotates_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let rotated = |size| {
            let rotate = Rotate { size: Some(size), every: None, keep: 1, compress: false };
            config(&[SinkConfig::File { path: path.clone(), rotate: Some(rotate) }])
        };
        let other = || {
            fs::File::options()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(folder.path().join(".audit.lock"))
                .unwrap()
        };
        let rotating = other();
        assert!(lock(&rotating, Access::Rotates).unwrap());
        let error = Trail::open(&rotated(1), None).err().unwrap().to_string();
        assert!(error.contains("another process rotates it"), "{error}");
        let error = Trail::open(&config(&[file(path.clone())]), None).err().unwrap().to_string();
        assert!(error.contains("another process rotates it;"), "{error}");
        drop(rotating);
        // Those that only write share it.
        let writes = Trail::open(&config(&[file(path.clone())]), None).unwrap();
        let writer = other();
        assert!(!lock(&writer, Access::Rotates).unwrap() && lock(&writer, Access::Writes).unwrap());
        let error = Trail::open(&rotated(1), Some(&writes)).err().unwrap().to_string();
        assert!(error.contains("or writes to it"), "{error}");
        drop(writer);
        drop(writes);
        // A reload has both policies for a moment.
        let old = Trail::open(&rotated(1), None).unwrap();
        let new = Trail::open(&rotated(2), Some(&old)).unwrap();
        drop(old);
        assert!(!lock(&other(), Access::Writes).unwrap());
        drop(new);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_sink_past_the_time_when_it_is_given_up() {
        // S7: at shutdown, workers first wait for the queue of a sink that cannot be written, before anybody closes it.
        let ((unblock, blocked), (writes, written)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let trail = Arc::new(Trail::over(Stuck { writes, blocked }));
        trail.send(batch(&["a"])).await;
        written.recv().unwrap();
        let (sent, sending) = (Arc::new(AtomicU64::new(0)), Arc::clone(&trail));
        let count = Arc::clone(&sent);
        // More than both queues hold, in batches that are not joined.
        let long = "a".repeat(WRITE_MAX);
        let all = 2 * (QUEUE + sealer::QUEUE) as u64;
        let worker = tokio::spawn(async move {
            for _ in 0..all {
                sending.send(batch(&[&long])).await;
                count.fetch_add(1, Relaxed);
            }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(sent.load(Relaxed) < all, "without a deadline, it waits");
        trail.give_up_at(Instant::now());
        worker.await.unwrap();
        while trail.stats()[0].waiting < all + 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(trail.close(Duration::ZERO).await, all + 1);
        drop(unblock);
    }

    #[tokio::test]
    async fn a_sink_that_was_replaced_is_given_up_in_time_and_a_kept_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (file(folder.path().join("a")), file(folder.path().join("b")));
        let old = Trail::open(&config(&[a, b.clone()]), None).unwrap();
        let new = Trail::open(&config(&[b]), Some(&old)).unwrap();
        new.install(&old);
        let given_up: Vec<_> = old.sinks().iter().map(|sink| sink.state.deadline().is_some()).collect();
        assert_eq!(given_up, [true, false]);
        old.send(batch(&["one"])).await;
        assert_eq!(new.close(PATIENCE).await, 0);
        assert_eq!(read(&folder.path().join("b")), ["one"], "all lines go to the sinks that are in force");
    }

    /// A trail with a file in which a line is stuck: it ends when the sender has sent something.
    async fn stuck(path: PathBuf) -> (Trail, std::sync::mpsc::Sender<()>) {
        let ((unblock, blocked), (writes, written)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let sink = Sink::start(&file(path), Stuck { writes, blocked }, None, None).unwrap();
        let trail = Trail::over(io::sink());
        let outlets = Arc::new(Outlets { sinks: vec![Arc::new(sink)], ..Outlets::default() });
        trail.sealer.as_ref().unwrap().replace(Arc::clone(&outlets));
        let trail = Trail { outlets, ..trail };
        trail.send(batch(&["stuck"])).await;
        written.recv().unwrap();
        (trail, unblock)
    }

    impl Output for io::Sink {}

    #[tokio::test]
    async fn a_stop_waits_for_sinks_that_a_reload_took_away() {
        let folder = tempfile::tempdir().unwrap();
        let (old, unblock) = stuck(folder.path().join("old")).await;
        let former = Arc::clone(&old.sinks()[0]);
        let new = Trail::open(&config(&[file(folder.path().join("new"))]), Some(&old)).unwrap();
        new.install(&old);
        assert_eq!(new.close(Duration::ZERO).await, 1, "what is stuck is counted");
        unblock.send(()).unwrap();
        assert_eq!((new.close(PATIENCE).await, former.has_ended()), (0, true));
    }

    #[tokio::test]
    async fn what_a_sink_that_a_reload_took_away_could_not_write_is_counted_after_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let (old, unblock) = stuck(folder.path().join("old")).await;
        let former = Arc::clone(&old.sinks()[0]);
        former.state.set_error(Some("it fails".to_owned()));
        let new = Trail::open(&config(&[file(folder.path().join("new"))]), Some(&old)).unwrap();
        new.install(&old);
        drop(unblock);
        former.ended().await;
        assert_eq!((new.close(PATIENCE).await, new.close(PATIENCE).await), (1, 1));
    }

    #[tokio::test]
    async fn only_a_sink_that_fails_is_given_up_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let other = file(folder.path().join("other"));
        for (fails, stays) in [(false, false), (false, true), (true, false), (true, true)] {
            let (mut old, unblock) = stuck(folder.path().join("old")).await;
            let former = Arc::clone(&old.sinks()[0]);
            if stays {
                // It was there before, beside the one that fails.
                let with = Trail::open(&config(&[file(folder.path().join("old")), other.clone()]), Some(&old)).unwrap();
                with.install(&old);
                old = with;
            }
            former.state.set_error(fails.then(|| "it fails".to_owned()));
            let new = Trail::open(&config(std::slice::from_ref(&other)), Some(&old)).unwrap();
            new.install(&old);
            assert_eq!((former.state.is_given_up(), former.state.deadline().is_some()), (fails, true), "{stays}");
            drop(unblock);
        }
    }

    #[tokio::test]
    async fn a_sink_that_was_never_in_force_waits_for_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("place");
        let (old, _unblock) = stuck(place.clone()).await;
        let rotate = Rotate { size: Some(1 << 20), every: None, keep: 1, compress: false };
        let sink = SinkConfig::File { path: place, rotate: Some(rotate) };
        // A reload that fails for another reason.
        let new = Trail::open(&config(&[sink]), Some(&old)).unwrap();
        let (mut done, state) = (new.sinks()[0].done.clone(), Arc::clone(&new.sinks()[0].state));
        drop(new);
        done.changed().await.unwrap_err();
        assert!(!state.is_given_up() && !old.sinks()[0].has_ended());
    }

    #[tokio::test]
    async fn nobody_waits_for_who_was_there_before_much_longer_than_that_is_given_time() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("place");
        let (old, unblock) = stuck(place.clone()).await;
        let rotate = Rotate { size: Some(1 << 20), every: None, keep: 1, compress: false };
        let new = Trail::open(&config(&[SinkConfig::File { path: place.clone(), rotate: Some(rotate) }]), Some(&old));
        let new = new.unwrap();
        new.install(&old);
        old.sinks()[0].give_up_at(Instant::now().checked_sub(Duration::from_secs(2)).unwrap());
        new.send(batch(&["next"])).await;
        while read(&place).is_empty() {
            tokio::task::yield_now().await;
        }
        unblock.send(()).unwrap();
        assert_eq!(new.close(PATIENCE).await, 0);
    }

    #[tokio::test]
    async fn a_place_that_comes_back_waits_for_who_writes_there() {
        let folder = tempfile::tempdir().unwrap();
        let (place, other) = (folder.path().join("place"), folder.path().join("other"));
        let (first, _unblock) = stuck(place.clone()).await;
        let second = Trail::open(&config(&[file(other)]), Some(&first)).unwrap();
        second.install(&first);
        let third = Trail::open(&config(&[file(place.clone())]), Some(&second)).unwrap();
        third.install(&second);
        third.send(batch(&["next"])).await;
        assert_eq!(third.close(Duration::ZERO).await, 2);
        assert_eq!(read(&place), Vec::<String>::new());
    }

    #[tokio::test]
    async fn with_a_spool_only_the_sink_that_another_goes_on_for_ends_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| file(folder.path().join(name));
        let spool = SpoolConfig {
            path: folder.path().join("spool"),
            size: 16 << 20,
            fsync: Duration::ZERO,
            on_full: OnFull::Wait,
        };
        let spooled = |sinks: &[SinkConfig]| AuditConfig { spool: Some(spool.clone()), ..config(sinks) };
        let old = Trail::open(&spooled(&[]), None).unwrap();
        let sealer = old.sealer.as_ref().unwrap();
        let (writes, written) = std::sync::mpsc::channel();
        let (mut sinks, mut unblock) = (Vec::new(), Vec::new());
        for name in ["a", "c"] {
            let (sender, blocked) = std::sync::mpsc::channel();
            let output = Stuck { writes: writes.clone(), blocked };
            sinks.push(Arc::new(Sink::start(&at(name), output, sealer.spool.as_ref(), None).unwrap()));
            unblock.push(sender);
        }
        let outlets = Arc::new(Outlets { sinks, spool: Some(spool.clone()), ..Outlets::default() });
        sealer.replace(Arc::clone(&outlets));
        let old = Trail { outlets, ..old };
        old.expect(old.sinks().iter().map(|sink| &sink.config));
        old.send(batch(&["stuck"])).await;
        written.recv().unwrap();
        written.recv().unwrap();
        let new = Trail::open(&spooled(&[at("new")]), Some(&old)).unwrap();
        new.install(&old);
        let at_once = old.sinks().iter().filter(|sink| sink.state.is_given_up()).count();
        assert_eq!((at_once, old.sinks().iter().all(|sink| sink.state.deadline().is_some())), (1, true));
        unblock.iter().for_each(|sender| sender.send(()).unwrap());
        assert_eq!(new.close(PATIENCE).await, 0);
    }
}
