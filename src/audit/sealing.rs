//! The thread of the sealer: chain, checkpoints, and what is put on record about the record itself.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::batch::Batch;
use super::chain::{Chain, Hash, Link};
use super::checkpoint;
use super::checkpoint_key::CheckpointKey;
use super::config::{OnFull, SpoolConfig};
use super::outlets::{Outlets, Shared};
use super::queue::{Queue, Received};
use super::record::{self, CheckpointFacts, Clock, Follows, KEY_CHANGED, Mark, MarkKind, STOPPED};
use super::sink::GRACE;
use super::spool::{AppendError, Appender};
use super::writer::{RETRY, WRITE_MAX};
use crate::error_text;

/// The state of the thread.
pub(super) struct Sealing {
    node: Arc<str>,
    chain: Chain,
    /// The stream that this one follows, until that is on record.
    follows: Option<Follows>,
    outlets: Arc<Outlets>,
    /// Signs checkpoints; it becomes that of the outlets once a checkpoint has named that one.
    key: Option<Arc<CheckpointKey>>,
    shared: Arc<Shared>,
    clock: Clock,
    /// Sealed lines that were not passed on yet.
    sealed: Vec<u8>,
    /// Records of requests and operators among them.
    records: u64,
    /// How many dropped records are on record.
    dropped: u64,
    /// Hash of the last checkpoint.
    checkpoint: Option<Hash>,
    /// The last attempt to sign one failed.
    unsigned: bool,
    /// When the next checkpoint is due; absent if there was no record since the last.
    due: Option<Instant>,
    /// Appends to the spool, if there is one.
    pub(super) appender: Option<Appender>,
    /// When what was appended is to be written to disk.
    sync: Option<Instant>,
    /// Why that failed, until it succeeds.
    unsynced: Option<String>,
    /// Records of requests and operators that were appended, and may not be on disk.
    in_memory: u64,
    /// Nothing but the last lines comes any more.
    ends: bool,
    /// When to try whether lines can be kept again, after some were dropped.
    retry: Option<Instant>,
    /// What was so before the first of the lines in `sealed`.
    before: Option<Before>,
}

/// What the last lines of a process may have beyond the size of the spool, in bytes.
const LAST_LINES: u64 = 64 * 1024;

/// The part of the spool that is left for the records of requests that were let through before it was nearly full: as a divisor of
/// its size, and at most so many bytes. Otherwise, these records would be in memory alone.
const RESERVE: (u64, u64) = (16, 16 << 20);

/// The most bytes that a batch has once it is sealed, unless its lines are very short.
fn room_for(batch: &Batch) -> usize {
    batch.lines.len() + batch.lines.len() / 2
}

/// What became of lines.
enum Fate {
    /// They are where they belong.
    Kept,
    /// They were dropped and counted, as the policy wants.
    Dropped,
    /// They could not be kept before the process ends.
    Lost,
}

/// What is undone when sealed lines cannot be kept.
struct Before {
    last: Link,
    follows: Option<Follows>,
    dropped: u64,
    checkpoint: Option<Hash>,
    due: Option<Instant>,
    key: Option<Arc<CheckpointKey>>,
}

impl Sealing {
    pub(super) fn new(
        node: &Arc<str>,
        stream: &str,
        follows: Option<(Follows, Hash)>,
        outlets: Arc<Outlets>,
        shared: Arc<Shared>,
    ) -> Self {
        let (follows, hash) = follows.unzip();
        Self {
            node: Arc::clone(node),
            chain: Chain::new(stream, hash),
            follows,
            key: outlets.key.clone(),
            outlets,
            shared,
            clock: Clock::default(),
            sealed: Vec::new(),
            records: 0,
            dropped: 0,
            checkpoint: None,
            unsigned: false,
            due: None,
            appender: None,
            sync: None,
            unsynced: None,
            in_memory: 0,
            retry: None,
            ends: false,
            before: None,
        }
    }

    pub(super) fn run(mut self, queue: &Queue<Batch>) {
        // What was cut at the start is nowhere else.
        if self.appender.is_some() && self.follows.as_ref().is_some_and(|follows| follows.torn > 0) {
            self.begin();
            self.explain();
            self.pass_on();
        }
        loop {
            let received = queue.receive([self.due, self.sync, self.retry].into_iter().flatten().min());
            let next = self.shared.next.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(outlets) = next {
                self.replace(outlets);
            }
            match received {
                Received::Items(batches) => self.take(batches),
                Received::Nothing => {}
                Received::Closed => break,
            }
            self.tick(Instant::now(), Timestamp::now());
        }
        self.ends = true;
        if self.dropped != self.shared.dropped.load(Relaxed) {
            self.begin();
            self.explain();
        }
        if self.chain.last.sequence > 0 {
            self.sign(Some(STOPPED), Timestamp::now());
        }
        self.pass_on();
        let unsaid = self.shared.dropped.load(Relaxed) - self.dropped;
        if unsaid > 0 {
            tracing::error!(records = unsaid, "audit records were dropped, and the record could not say so");
        }
        self.sync();
        if self.unsynced.is_some() {
            // What is lost if the machine stops is not where it belongs.
            self.shared.passed_on.fetch_sub(self.in_memory, Relaxed);
        }
    }

    /// Seals and passes on what was received.
    fn take(&mut self, batches: VecDeque<Batch>) {
        let mut left: usize = batches.iter().map(room_for).sum();
        let largest = batches.iter().map(room_for).max().unwrap_or_default();
        for batch in batches {
            if self.sealed.is_empty() {
                // For all that is passed on together: to grow it would be to copy lines, and to touch fresh memory.
                self.sealed = self.shared.buffers.take(left.min(WRITE_MAX + largest));
            }
            left -= room_for(&batch);
            self.seal(&batch);
            if self.sealed.len() >= WRITE_MAX {
                self.pass_on();
            }
        }
        self.pass_on();
    }

    fn seal(&mut self, batch: &Batch) {
        self.begin();
        if self.has_to_explain() {
            self.explain();
        }
        self.sealed.reserve(room_for(batch));
        self.chain.seal(&batch.lines, &mut self.sealed);
        self.records += batch.records;
        if self.due.is_none() && self.key.is_some() {
            self.due = Instant::now().checked_add(self.outlets.checkpoint);
        }
    }

    /// Remembers what is undone if the lines that follow cannot be kept.
    fn begin(&mut self) {
        if self.appender.is_some() && self.sealed.is_empty() {
            self.before = Some(Before {
                last: self.chain.last,
                follows: self.follows.clone(),
                dropped: self.dropped,
                checkpoint: self.checkpoint,
                due: self.due,
                key: self.key.clone(),
            });
        }
    }

    /// Whether something is not on record that readers would miss.
    fn has_to_explain(&self) -> bool {
        self.follows.is_some() || self.dropped != self.shared.dropped.load(Relaxed)
    }

    /// Puts on record what readers would miss: an earlier stream, and records that were dropped.
    #[cold]
    fn explain(&mut self) {
        let at = Timestamp::now();
        if let Some(follows) = self.follows.take() {
            self.mark(at, MarkKind::Started { follows: &follows });
        }
        let dropped = self.shared.dropped.load(Relaxed);
        if dropped > self.dropped {
            self.mark(at, MarkKind::Dropped(dropped - self.dropped));
            self.dropped = dropped;
        }
    }

    /// Seals a line of the sealer itself.
    fn mark(&mut self, at: Timestamp, kind: MarkKind<'_>) {
        let (mut line, id) = (Vec::new(), Uuid::now_v7().to_string());
        record::write_mark(&mut line, &Mark { at, id: &id, kind }, &self.node, &mut self.clock);
        self.chain.seal(&line, &mut self.sealed);
    }

    /// Passes what is sealed on: to the spool, or else to every sink.
    fn pass_on(&mut self) {
        if self.sealed.is_empty() {
            return;
        }
        let lines = self.shared.buffers.lend(std::mem::take(&mut self.sealed));
        let records = std::mem::take(&mut self.records);
        let kept = if self.appender.is_some() {
            self.in_memory += records;
            self.keep(&lines, records)
        } else {
            let batch = Batch { lines: lines.clone(), records };
            self.shared.pass_on(records, &self.outlets.sinks);
            for sink in &self.outlets.sinks {
                sink.take(&batch, || self.shared.is_over());
            }
            Fate::Kept
        };
        if let Fate::Kept = kept
            && self.shared.live.0.receiver_count() > 0
        {
            // An error means that the last follower has gone.
            let _ = self.shared.live.0.send(lines);
        }
        if self.appender.is_some() && !matches!(kept, Fate::Lost) {
            self.shared.passed_on.fetch_add(records, Relaxed);
        }
    }

    /// Appends what is sealed to the spool, trying for as long as the policy wants. Lines that are dropped leave the chain as it
    /// was before, and the next ones say how many are missing.
    fn keep(&mut self, lines: &Bytes, records: u64) -> Fate {
        let mut wait = RETRY.0;
        while let Err((error, settings)) = self.append(lines) {
            let drops = settings.as_ref().is_none_or(|settings| settings.on_full == OnFull::DropAndCount);
            self.blocked(&error.to_string(), settings.as_ref());
            if drops || self.shared.is_over() {
                self.undo(records);
                return if drops { Fate::Dropped } else { Fate::Lost };
            }
            if let Some(appender) = &self.appender {
                appender.spool().wait_until_freed(wait);
            }
            wait = (wait * 2).min(RETRY.1);
        }
        self.look();
        Fate::Kept
    }

    /// Looks whether requests may go on, now that everything is kept.
    fn look(&mut self) {
        let settings = self.shared.next().unwrap_or_else(|| Arc::clone(&self.outlets)).spool.clone();
        let bytes = self.appender.as_ref().map_or(0, |appender| appender.spool().bytes());
        let waits = |settings: &SpoolConfig| settings.on_full != OnFull::DropAndCount;
        if let Some(why) = &self.unsynced {
            self.blocked(why, settings.as_ref());
            return;
        }
        let is_nearly_full =
            |settings: &SpoolConfig| bytes > settings.size - (settings.size / RESERVE.0).min(RESERVE.1);
        match settings.filter(|settings| waits(settings) && is_nearly_full(settings)) {
            Some(settings) => {
                self.blocked(&AppendError::Full.to_string(), Some(&settings));
                // No line comes that would show whether there is room again.
                self.retry = Instant::now().checked_add(RETRY.1);
            }
            None => self.unblocked(),
        }
    }

    /// One attempt. Returns why it failed, and the settings that hold then.
    fn append(&mut self, lines: &Bytes) -> Result<(), (AppendError, Option<SpoolConfig>)> {
        let (Some(appender), Some(before)) = (&mut self.appender, &self.before) else { return Ok(()) };
        // A larger size that comes with a reload is the way out of a full spool.
        let settings = self.shared.next().unwrap_or_else(|| Arc::clone(&self.outlets)).spool.clone();
        let size = settings.as_ref().map_or(0, |settings| settings.size) + if self.ends { LAST_LINES } else { 0 };
        let count = self.chain.last.sequence - before.last.sequence;
        if let Err(error) = appender.append(lines, count, size) {
            return Err((error, settings));
        }
        match settings.map(|settings| settings.fsync).unwrap_or_default() {
            // One that failed is tried again after a pause.
            Duration::ZERO if self.unsynced.is_none() => self.sync(),
            Duration::ZERO => {}
            period => self.sync = self.sync.or_else(|| Instant::now().checked_add(period)),
        }
        Ok(())
    }

    #[cold]
    fn blocked(&self, why: &str, settings: Option<&SpoolConfig>) {
        let refuses = settings.is_some_and(|settings| settings.on_full == OnFull::Refuse);
        let drops = settings.is_none_or(|settings| settings.on_full == OnFull::DropAndCount);
        self.shared.refuses.store(refuses, Relaxed);
        self.shared.holds.store(!refuses && !drops, Relaxed);
        self.shared.drops.store(drops, Relaxed);
        let former = self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).replace(why.to_owned());
        if former.is_none() {
            let then = match settings.map(|settings| settings.on_full) {
                Some(OnFull::Wait) => "requests wait",
                Some(OnFull::Refuse) => "requests are refused",
                _ if self.unsynced.is_some() => "what it has may be lost if the machine stops",
                Some(OnFull::DropAndCount) | None => "records are dropped",
            };
            tracing::error!(why, "the audit spool takes no more: {then}");
        }
    }

    fn unblocked(&self) {
        let mut error = self.shared.error.lock().unwrap_or_else(PoisonError::into_inner);
        if error.take().is_some() {
            self.shared.refuses.store(false, Relaxed);
            self.shared.holds.store(false, Relaxed);
            tracing::info!("the audit spool takes lines again");
        }
    }

    /// Takes back lines that could not be kept.
    fn undo(&mut self, records: u64) {
        let Some(Before { last, follows, dropped, checkpoint, due, key }) = self.before.take() else { return };
        (self.chain.last, self.follows, self.dropped, self.checkpoint) = (last, follows, dropped, checkpoint);
        self.shared.dropped.fetch_add(records, Relaxed);
        // Not at once: what is due would be tried without a pause for as long as there is no room.
        self.retry = Instant::now().checked_add(RETRY.1);
        (self.due, self.key) = (due.and(self.retry), key);
        self.in_memory = self.in_memory.saturating_sub(records);
    }

    /// Writes to disk what was appended. If that fails, it is an error until another attempt succeeds; the lines are not appended
    /// again.
    fn sync(&mut self) {
        self.sync = None;
        match self.appender.as_mut().map(Appender::sync) {
            None | Some(Ok(())) => {
                self.in_memory = 0;
                if self.unsynced.take().is_some() {
                    self.look();
                }
            }
            Some(Err(error)) => {
                self.unsynced = Some(format!("what it has is not on disk: {}", error_text::system(&error)));
                self.look();
                self.sync = Instant::now().checked_add(RETRY.1);
            }
        }
    }

    /// Does what is due.
    fn tick(&mut self, now: Instant, at: Timestamp) {
        if self.retry.is_some_and(|due| due <= now) {
            self.retry = None;
            // The line that says what was dropped shows whether there is room again.
            self.begin();
            self.explain();
            if self.sealed.is_empty() {
                self.look();
            }
            self.pass_on();
        }
        if self.sync.is_some_and(|due| due <= now) {
            self.sync();
        }
        if self.due.is_some_and(|due| due <= now) {
            self.sign(None, at);
            self.pass_on();
        }
    }

    /// Goes on with other outlets. What the former ones have is covered by a checkpoint, and another key is named by one.
    fn replace(&mut self, outlets: Arc<Outlets>) {
        self.cover(Timestamp::now());
        self.pass_on();
        self.outlets = outlets;
        // Those that read the spool need not wait for this.
        for sink in self.shared.retired().iter().filter(|_| self.appender.is_none()) {
            if !self.outlets.sinks.iter().any(|used| Arc::ptr_eq(used, sink)) {
                // Nothing more comes for it. Idle workers still hold it, and a sink in its place waits for its end.
                sink.close(Instant::now() + GRACE);
            }
        }
        // The same key may be one that the vault is asked for by another login.
        let is_same = self.key == self.outlets.key;
        if is_same || self.key.is_none() || self.outlets.key.is_none() || self.chain.last.sequence == 0 {
            self.key.clone_from(&self.outlets.key);
        }
        self.cover(Timestamp::now());
        self.pass_on();
    }

    /// Covers what no checkpoint covers, and names the next key if there is another.
    fn cover(&mut self, at: Timestamp) {
        let changes = self.key.is_some() && self.outlets.key.is_some() && self.key != self.outlets.key;
        if self.due.is_some() || changes {
            self.sign(None, at);
        }
    }

    /// Puts a checkpoint on record, if there is a key.
    fn sign(&mut self, reason: Option<&'static str>, at: Timestamp) {
        self.begin();
        self.due = None;
        let Some(key) = self.key.clone() else { return };
        if self.has_to_explain() {
            self.explain();
        }
        let next = self.outlets.key.clone().filter(|next| *next != key);
        let checkpoint = self.checkpoint.map(|hash| String::from_utf8_lossy(&hash).into_owned());
        let id = Uuid::now_v7().to_string();
        let line = |signature: &str, clock: &mut Clock| {
            let facts = CheckpointFacts {
                previous: checkpoint.as_deref(),
                key: key.id(),
                every: self.outlets.checkpoint.as_secs(),
                next_key: next.as_deref().map(CheckpointKey::public),
                reason: reason.or(next.as_ref().map(|_| KEY_CHANGED)),
                signature,
            };
            let mut line = Vec::new();
            let mark = Mark { at, id: &id, kind: MarkKind::Checkpoint(facts) };
            record::write_mark(&mut line, &mark, &self.node, clock);
            line
        };
        let Some(hash) = self.chain.hash_of_next(&line("", &mut self.clock)) else { return };
        let signature = match key.sign(&checkpoint::text(&hash)) {
            Ok(signature) => STANDARD.encode(signature),
            Err(why) => return self.unsigned(&why),
        };
        if std::mem::take(&mut self.unsigned) {
            tracing::info!("checkpoints of the record are signed again");
        }
        let signed = line(&signature, &mut self.clock);
        self.chain.seal(&signed, &mut self.sealed);
        self.checkpoint = self.chain.last.hash;
        if next.is_some() {
            self.key = next;
        }
    }

    /// A checkpoint could not be signed: it is tried again when the next one is due. The records go on.
    #[cold]
    fn unsigned(&mut self, why: &str) {
        if !std::mem::replace(&mut self.unsigned, true) {
            tracing::error!(
                why,
                "a checkpoint of the record could not be signed; the next one covers the same records"
            );
        }
        self.due = Instant::now().checked_add(self.outlets.checkpoint);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::record::tests::sample;
    use super::super::sealed_line::SealedLine;
    use super::super::spool;
    use super::super::verify::tests::key;
    use super::*;

    /// A sealer without a thread, and what it writes.
    pub(in crate::audit) struct Sealed {
        sealing: Sealing,
        written: Vec<u8>,
    }

    impl Sealed {
        pub(in crate::audit) fn new(
            stream: &str,
            key: Option<Arc<CheckpointKey>>,
            follows: Option<(Follows, Hash)>,
        ) -> Self {
            let outlets = Arc::new(Outlets { key, ..Outlets::default() });
            Self {
                sealing: Sealing::new(&"edge-1".into(), stream, follows, outlets, Arc::default()),
                written: Vec::new(),
            }
        }

        pub(in crate::audit) fn records(&mut self, count: u64) {
            let mut lines = Vec::new();
            for _ in 0..count {
                record::write(&mut lines, &sample(), "edge-1", &mut Clock::default());
            }
            self.sealing.seal(&Batch { lines: lines.into(), records: count });
            self.written.append(&mut self.sealing.sealed);
        }

        pub(in crate::audit) fn checkpoint(&mut self) {
            self.sealing.sign(None, Timestamp::UNIX_EPOCH);
            self.written.append(&mut self.sealing.sealed);
        }

        pub(in crate::audit) fn stop(&mut self) {
            self.sealing.sign(Some(STOPPED), Timestamp::UNIX_EPOCH);
            self.written.append(&mut self.sealing.sealed);
        }

        /// Its last line.
        pub(in crate::audit) fn end(&self) -> Link {
            self.sealing.chain.last
        }

        /// The same, as the next stream names it.
        pub(in crate::audit) fn last(&self) -> (Follows, Hash) {
            let last = SealedLine::parse(self.lines().last().unwrap()).unwrap();
            (Follows { stream: last.stream.into(), sequence: last.sequence, torn: 0 }, last.hash)
        }

        /// Goes on after a line of somebody else.
        pub(in crate::audit) fn goes_on(&mut self, last: Link) {
            self.sealing.chain.last = last;
            self.sealing.checkpoint = last.hash;
        }

        pub(in crate::audit) fn key(&mut self, key: Arc<CheckpointKey>) {
            self.sealing.outlets = Arc::new(Outlets { key: Some(key), ..Outlets::default() });
            self.sealing.cover(Timestamp::UNIX_EPOCH);
            self.written.append(&mut self.sealing.sealed);
        }

        pub(in crate::audit) fn text(&self) -> Vec<u8> {
            self.written.clone()
        }

        pub(in crate::audit) fn lines(&self) -> impl Iterator<Item = &[u8]> {
            self.written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
        }
    }

    #[test]
    fn what_is_dropped_leaves_no_trace_and_is_tried_again_after_a_pause() {
        let folder = tempfile::tempdir().unwrap();
        let settings = |size| {
            let (path, fsync) = (folder.path().to_owned(), Duration::from_secs(1));
            Some(SpoolConfig { path, size, fsync, on_full: OnFull::DropAndCount })
        };
        let outlets = |size| Outlets { key: Some(key(1)), spool: settings(size), ..Outlets::default() };
        let mut sealing = Sealing::new(&"edge-1".into(), "a/1", None, Arc::new(outlets(0)), Arc::default());
        sealing.appender = Some(spool::open(folder.path()).unwrap().appender);
        let mut lines = Vec::new();
        record::write(&mut lines, &sample(), "edge-1", &mut Clock::default());
        let batch = Batch { lines: lines.into(), records: 1 };
        sealing.take([batch.clone()].into());
        // A checkpoint finds no room either.
        let now = Instant::now();
        sealing.due = Some(now);
        sealing.tick(now, Timestamp::UNIX_EPOCH);
        assert!(sealing.due.is_some_and(|due| due > now) && sealing.retry.is_some_and(|retry| retry > now));
        assert_eq!((sealing.chain.last.sequence, sealing.checkpoint), (0, None));
        assert_eq!((sealing.shared.dropped.load(Relaxed), sealing.shared.error().is_some()), (1, true));
        // There is room again, and nobody sends a request.
        sealing.outlets = Arc::new(outlets(1 << 24));
        sealing.tick(sealing.retry.unwrap(), Timestamp::UNIX_EPOCH);
        assert!(sealing.chain.last.sequence > 0 && sealing.shared.error().is_none());
        let written = std::fs::read_to_string(folder.path().join(format!("{:020}.jsonl", 0))).unwrap();
        assert!(written.contains("\"dropped\":1"), "{written}");
    }

    #[test]
    fn requests_wait_while_there_is_still_room_for_the_records_of_those_before() {
        const SIZE: u64 = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let outlets = |size, on_full| {
            let (path, fsync) = (folder.path().to_owned(), Duration::from_secs(1));
            Arc::new(Outlets { spool: Some(SpoolConfig { path, size, fsync, on_full }), ..Outlets::default() })
        };
        let mut sealing = Sealing::new(&"edge-1".into(), "a/1", None, outlets(SIZE, OnFull::Wait), Arc::default());
        sealing.appender = Some(spool::open(folder.path()).unwrap().appender);
        let mut lines = Vec::new();
        for _ in 0..10 {
            record::write(&mut lines, &sample(), "edge-1", &mut Clock::default());
        }
        let batch = Batch { lines: lines.into(), records: 10 };
        let holds = |sealing: &Sealing| (sealing.shared.holds.load(Relaxed), sealing.shared.refuses.load(Relaxed));
        let mut taken = 0;
        while holds(&sealing) == (false, false) {
            sealing.take([batch.clone()].into());
            taken += 10;
        }
        // What was on its way is kept all the same.
        for _ in 0..3 {
            sealing.take([batch.clone()].into());
        }
        assert_eq!(sealing.shared.passed_on.load(Relaxed), taken + 30);
        assert!(sealing.appender.as_ref().unwrap().spool().bytes() <= SIZE && sealing.shared.error().is_some());
        // A reload has another way, and then a larger spool.
        sealing.outlets = outlets(SIZE, OnFull::Refuse);
        sealing.tick(sealing.retry.unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(holds(&sealing), (false, true));
        sealing.outlets = outlets(2 * SIZE, OnFull::Refuse);
        sealing.tick(sealing.retry.unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!((holds(&sealing), sealing.retry, sealing.shared.error()), ((false, false), None, None));
    }

    #[test]
    fn a_sync_that_failed_is_an_error_until_one_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let segment = || std::fs::read_to_string(folder.path().join(format!("{:020}.jsonl", 0))).unwrap();
        for (fsync, on_full) in [(0, OnFull::Refuse), (0, OnFull::Wait), (0, OnFull::DropAndCount), (1, OnFull::Refuse)]
        {
            let settings = SpoolConfig {
                path: folder.path().to_owned(),
                size: 1 << 24,
                fsync: Duration::from_secs(fsync),
                on_full,
            };
            let outlets = Arc::new(Outlets { spool: Some(settings), ..Outlets::default() });
            let mut sealing = Sealing::new(&"edge-1".into(), "a/1", None, outlets, Arc::default());
            sealing.appender = Some(spool::open(folder.path()).unwrap().appender);
            let before = segment();
            let mut lines = Vec::new();
            record::write(&mut lines, &sample(), "edge-1", &mut Clock::default());
            let batch = Batch { lines: lines.into(), records: 1 };
            // It takes every write, and cannot be synced.
            let no_disk = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
            let disk = sealing.appender.as_mut().unwrap().put_file(no_disk);
            let expected = (on_full == OnFull::Refuse, on_full == OnFull::Wait);
            // What comes meanwhile is kept as well, and changes nothing.
            for _ in 0..2 {
                sealing.take([batch.clone()].into());
                sealing.tick(sealing.sync.unwrap(), Timestamp::UNIX_EPOCH);
                let said = (sealing.shared.refuses.load(Relaxed), sealing.shared.holds.load(Relaxed));
                let error = sealing.shared.error().expect("it fails");
                assert!(said == expected && error.contains("not on disk"), "{said:?} {error}");
            }
            assert_eq!(segment(), before);
            sealing.appender.as_mut().unwrap().put_file(disk);
            sealing.tick(sealing.sync.unwrap(), Timestamp::UNIX_EPOCH);
            assert_eq!(
                (sealing.shared.error(), sealing.shared.refuses.load(Relaxed), sealing.sync),
                (None, false, None)
            );
            let written = segment();
            let sequences: Vec<_> = written[before.len()..]
                .lines()
                .map(|line| SealedLine::parse(line.as_bytes()).unwrap().sequence)
                .collect();
            assert_eq!((sequences, sealing.shared.dropped.load(Relaxed)), (vec![1, 2], 0));
        }
    }

    #[test]
    fn what_is_not_on_disk_at_the_end_counts_as_left() {
        let folder = tempfile::tempdir().unwrap();
        let settings = SpoolConfig {
            path: folder.path().to_owned(),
            size: 1 << 24,
            fsync: Duration::from_secs(1),
            on_full: OnFull::Wait,
        };
        let outlets = Arc::new(Outlets { spool: Some(settings), ..Outlets::default() });
        let shared = Arc::<Shared>::default();
        let mut sealing = Sealing::new(&"edge-1".into(), "a/1", None, outlets, Arc::clone(&shared));
        let mut appender = spool::open(folder.path()).unwrap().appender;
        appender.put_file(std::fs::File::options().read(true).write(true).open("/dev/null").unwrap());
        sealing.appender = Some(appender);
        let mut lines = Vec::new();
        record::write(&mut lines, &sample(), "edge-1", &mut Clock::default());
        let queue = Queue::new(1, Duration::ZERO);
        assert!(queue.offer(Batch { lines: lines.into(), records: 1 }).is_ok());
        queue.close();
        sealing.run(&queue);
        assert_eq!(shared.passed_on.load(Relaxed), 0);
    }

    #[test]
    fn a_key_that_is_removed_from_the_policy_signs_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let outlets = |key| {
            let (path, fsync) = (folder.path().to_owned(), Duration::from_secs(1));
            let spool = Some(SpoolConfig { path, size: 1 << 24, fsync, on_full: OnFull::Wait });
            Arc::new(Outlets { key, spool, ..Outlets::default() })
        };
        let mut sealing = Sealing::new(&"edge-1".into(), "a/1", None, outlets(Some(key(1))), Arc::default());
        sealing.appender = Some(spool::open(folder.path()).unwrap().appender);
        let mut lines = Vec::new();
        record::write(&mut lines, &sample(), "edge-1", &mut Clock::default());
        let batch = Batch { lines: lines.into(), records: 1 };
        let checkpoints = || {
            let written = std::fs::read_to_string(folder.path().join(format!("{:020}.jsonl", 0))).unwrap();
            written.matches("\"action\":\"checkpoint\"").count()
        };
        sealing.take([batch.clone()].into());
        sealing.replace(outlets(None));
        assert_eq!((checkpoints(), sealing.due), (1, None), "what the key could sign is signed");
        sealing.take([batch.clone()].into());
        assert_eq!((checkpoints(), sealing.due), (1, None));
        // A key that comes later needs nobody to name it.
        sealing.replace(outlets(Some(key(2))));
        sealing.take([batch].into());
        assert!(sealing.due.is_some());
    }
}
