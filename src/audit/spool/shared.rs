//! What the sealer and the sinks share: which segments there are, and how far each sink has got.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cursor::{self, Cursor};
use super::files::{self, Position};

/// The spool, shared by the sealer and the sinks.
pub(in crate::audit) struct Spool {
    pub(super) folder: PathBuf,
    pub(super) state: Mutex<State>,
    /// Held while the file of a cursor is written or removed; taken before `state`.
    pub(super) writing: Mutex<()>,
    /// Lines were appended, or a reader is to look up.
    pub(super) appended: Condvar,
    /// A segment was removed, or a reader let go of its cursor.
    pub(super) freed: Condvar,
    /// Locked as long as the spool is open.
    pub(super) _lock: File,
}

pub(super) struct State {
    /// The lines that were appended last, each with its place: readers that keep up need not read the disk.
    pub(super) recent: VecDeque<Recent>,
    /// Number and size in bytes of each segment, oldest first.
    pub(super) segments: VecDeque<(u64, u64)>,
    pub(super) end: Position,
    /// What is before this is on disk.
    pub(super) synced: Position,
    /// How far each sink has got, by the name of its cursor.
    pub(super) cursors: BTreeMap<String, Entry>,
    /// Names of cursors that sinks want; nobody forgets them.
    pub(super) wanted: Vec<String>,
    /// Readers that wait for lines.
    pub(super) waiting: usize,
    /// How often readers were asked to look up.
    pub(super) wakes: u64,
}

impl State {
    fn is_delivered(&self) -> bool {
        // Lines are compared: a sink that has all of them is still in the segment before an empty one. A sink that confirms nothing
        // will not have more of what is on its way than it has now.
        let end = self.end.line;
        let has_all = |entry: &Entry| {
            let is_unconfirmed = entry.sent.line != entry.delivered.line;
            entry.sent.line == end && (entry.cursor.position.line == end || is_unconfirmed)
        };
        self.cursors.values().all(has_all)
    }
}

/// Lines that were appended in one write.
pub(super) struct Recent {
    pub(super) start: Position,
    pub(super) lines: Bytes,
    pub(super) count: u64,
}

/// A sink that reads the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::audit) struct SpooledSink {
    /// What it is called; no two have the same name.
    pub(in crate::audit) name: String,
    /// What it is, such as `file`.
    pub(in crate::audit) kind: String,
}

/// How far a sink has got.
pub(super) struct Entry {
    /// What the sink has for good. It is on disk, unless it is `unwritten`.
    pub(super) cursor: Cursor,
    /// The cursor is not on disk: what is there is behind, or there is none.
    pub(super) unwritten: bool,
    /// What it has.
    pub(super) delivered: Position,
    /// What is on its way to it.
    pub(super) sent: Position,
    /// A reader has it.
    held: bool,
    /// The sink is not in the policy any more: the cursor is removed when its reader lets go of it. The number of the line that was to
    /// come next.
    removed: Option<u64>,
    /// The sink goes on where this one is, once its reader has let go, but at the latest at this time.
    former: Option<(String, Instant)>,
}

impl Entry {
    pub(super) fn new(cursor: Cursor) -> Self {
        let (delivered, sent) = (cursor.position, cursor.position);
        Self { delivered, sent, cursor, unwritten: false, held: false, removed: None, former: None }
    }

    /// Whether another sink goes on where this one is.
    fn has_heir(&self) -> bool {
        self.removed.is_some() && self.cursor.kind.is_empty()
    }
}

/// A sink that is open: its cursor is not forgotten before its reader has taken it, or has learned that another sink has.
pub(in crate::audit) struct Wanted {
    spool: Arc<Spool>,
    name: String,
}

impl Wanted {
    /// The cursor of this sink is wanted as long as the value lives.
    pub(in crate::audit) fn new(spool: &Arc<Spool>, sink: &str) -> Self {
        let name = cursor::name(sink);
        spool.lock().wanted.push(name.clone());
        Self { spool: Arc::clone(spool), name }
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut state = self.spool.lock();
        if let Some(index) = state.wanted.iter().position(|wanted| *wanted == self.name) {
            state.wanted.swap_remove(index);
        }
        drop(state);
        self.spool.forget();
    }
}

impl Spool {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files of cursors are written and removed by one thread at a time.
    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn segment(&self, number: u64) -> PathBuf {
        files::segment(&self.folder, number)
    }

    /// Its folder.
    pub(in crate::audit) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes that it holds.
    pub(in crate::audit) fn bytes(&self) -> u64 {
        self.lock().segments.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Number of the line that will be appended next.
    pub(in crate::audit) fn end(&self) -> u64 {
        self.lock().end.line
    }

    /// Lines that a sink does not have, and that are not on their way to it.
    pub(in crate::audit) fn left(&self, sink: &str) -> u64 {
        let state = self.lock();
        let position = state.cursors.get(&cursor::name(sink)).map_or(state.end, |entry| entry.sent);
        state.end.line.saturating_sub(position.line)
    }

    /// Whether another sink goes on where this one is: nothing is lost if it ends at once.
    pub(in crate::audit) fn has_heir(&self, sink: &str) -> bool {
        self.lock().cursors.get(&cursor::name(sink)).is_some_and(Entry::has_heir)
    }

    /// Keeps a cursor for each of these sinks, and for no other. A sink that has none takes over that of a sink of the same kind
    /// that is gone: its settings were changed. It begins where the reader of that one lets go of it, but does not wait for that
    /// after `deadline`. Otherwise it begins with the lines that come from now on. The cursor of a sink that is gone is forgotten as
    /// soon as its reader has ended.
    ///
    /// # Errors
    /// A cursor cannot be written. It is tried again when its sink has got lines, and at the next call. If the process is killed
    /// before, a sink that was to go on from another begins where that one was on disk, and a new one with the lines that come
    /// after the next start.
    pub(in crate::audit) fn settle(&self, sinks: &[SpooledSink], deadline: Instant) -> io::Result<()> {
        let mut changed = Vec::new();
        let mut state = self.lock();
        let names: Vec<String> = sinks.iter().map(|sink| cursor::name(&sink.name)).collect();
        let next = state.end.line;
        for (name, entry) in &mut state.cursors {
            entry.removed = if names.contains(name) { None } else { entry.removed.or(Some(next)) };
        }
        for (sink, name) in sinks.iter().zip(&names) {
            if let Some(entry) = state.cursors.get_mut(name) {
                // One that could not be read does not know what it is of.
                entry.cursor.sink.clone_from(&sink.name);
                entry.cursor.kind.clone_from(&sink.kind);
                if entry.unwritten {
                    changed.push((name.clone(), None));
                }
                continue;
            }
            let former =
                state.cursors.iter_mut().find(|(_, entry)| entry.removed.is_some() && entry.cursor.kind == sink.kind);
            let (position, before, former) = match former {
                Some((before, entry)) => {
                    // It has one heir, and what it gets from now on is not noted any more.
                    entry.cursor.kind.clear();
                    tracing::info!(
                        sink = sink.name,
                        former = entry.cursor.sink,
                        "an audit sink goes on where another was"
                    );
                    // One that waits for another itself hands that on.
                    let former = entry.held.then(|| (before.clone(), deadline)).or_else(|| entry.former.take());
                    (entry.delivered, Some(before.clone()), former)
                }
                None => (state.end, None, None),
            };
            let cursor = Cursor { sink: sink.name.clone(), kind: sink.kind.clone(), position, unsynced: false };
            changed.push((name.clone(), before));
            state.cursors.insert(name.clone(), Entry { unwritten: true, former, ..Entry::new(cursor) });
        }
        drop(state);
        self.write_changed(&changed)
    }

    /// Writes cursors, each with the name of the one that it goes on from, and forgets those that nobody needs. One that cannot be
    /// written keeps none of the others from being written.
    fn write_changed(&self, changed: &[(String, Option<String>)]) -> io::Result<()> {
        for (name, before) in changed {
            if self.write_again(name).is_err()
                && let Some(before) = before
                && let Err(error) = self.hand_on(before, name)
            {
                tracing::warn!(%error, "a cursor of the audit spool could not be handed on");
            }
        }
        self.forget();
        self.freed.notify_all();
        // What was removed may be the room that was lacking.
        let written: Vec<_> = changed.iter().map(|(name, _)| self.write_again(name)).collect();
        written.into_iter().collect()
    }

    /// Writes a cursor that is not on disk.
    fn write_again(&self, name: &str) -> io::Result<()> {
        let unwritten = self.lock().cursors.get(name).filter(|entry| entry.unwritten).map(|entry| entry.cursor.clone());
        unwritten.map_or(Ok(()), |cursor| self.write(name, &cursor))
    }

    /// Gives the file of a cursor another name beside its own, for the sink that goes on from there: that takes no room, and the place
    /// is never ahead. The sink before may come back.
    fn hand_on(&self, from: &str, to: &str) -> io::Result<()> {
        let [from, to] = [from, to].map(|name| self.folder.join(format!("{name}.cursor")));
        let _alone = self.writing();
        fs::hard_link(&from, &to).or_else(|_| fs::rename(from, to))
    }

    /// Forgets cursors that nobody needs any more, and removes the segments that every sink is past.
    fn forget(&self) {
        let mut locked = self.lock();
        let state = &mut *locked;
        let (mut forgotten, mut segments) = (Vec::new(), Vec::new());
        state.cursors.retain(|name, entry| {
            let Some(end) = entry.removed.filter(|_| !entry.held && !state.wanted.contains(name)) else { return true };
            let lines = end.saturating_sub(entry.delivered.line);
            if lines > 0 && !entry.cursor.kind.is_empty() {
                let sink = &entry.cursor.sink;
                tracing::warn!(sink, lines, "an audit sink was removed from the policy before it had all lines");
            }
            forgotten.push(name.clone());
            false
        });
        // A segment goes only when what follows it is on disk: otherwise a machine that stops would leave nothing to go on from.
        let needed = state.cursors.values().map(|entry| entry.cursor.position.segment).min();
        let needed = needed.unwrap_or(state.end.segment).min(state.synced.segment);
        while let Some((first, _)) = state.segments.front().copied().filter(|(first, _)| *first < needed) {
            state.segments.pop_front();
            segments.push(self.segment(first));
        }
        drop(locked);
        // Outside the lock: a disk that hangs must not stop those who only want to know how much there is.
        for name in &forgotten {
            let _alone = self.writing();
            // A sink that has come back meanwhile has written it, or is about to.
            if !self.lock().cursors.contains_key(name) {
                self.remove(&self.folder.join(format!("{name}.cursor")));
            }
        }
        for segment in &segments {
            self.remove(segment);
        }
        if !forgotten.is_empty() || !segments.is_empty() {
            self.freed.notify_all();
        }
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(path = %path.display(), %error, "a file of the audit spool could not be removed");
        }
    }

    /// Waits until a segment was removed, but at most for this time.
    pub(in crate::audit) fn wait_until_freed(&self, most: Duration) {
        let state = self.lock();
        drop(self.freed.wait_timeout(state, most));
    }

    /// Wakes every reader, and the writer that waits for room.
    pub(in crate::audit) fn wake(&self) {
        self.lock().wakes += 1;
        self.appended.notify_all();
        self.freed.notify_all();
    }

    /// Takes the cursor of a sink, waiting until it is in force, and former readers have let go: that of the sink, and that of
    /// the one in whose place it goes on. Absent if the reader is not wanted any more meanwhile.
    pub(super) fn take_cursor(&self, name: &str, is_wanted: impl Fn() -> bool) -> Option<Position> {
        let mut state = self.lock();
        while is_wanted() {
            // One that another goes on for gets nothing, unless it comes back.
            let free = |entry: &&mut Entry| !entry.held && !entry.has_heir();
            let Some(entry) = state.cursors.get_mut(name).filter(free) else {
                state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = entry.former.as_ref().map(|(_, until)| until.saturating_duration_since(Instant::now()));
            if let Some(left) = left.filter(|left| !left.is_zero()) {
                state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            entry.held = true;
            let former = entry.former.take().map(|(former, _)| former);
            let position = entry.delivered;
            entry.sent = position;
            if let Some(former) = former.and_then(|former| state.cursors.get(&former)) {
                let (sink, delivered) = (former.cursor.sink.clone(), former.delivered);
                tracing::warn!(
                    sink,
                    "an audit sink did not end in time; the one that goes on in its place may get lines twice"
                );
                if let Some(entry) = state.cursors.get_mut(name) {
                    (entry.delivered, entry.sent) = (delivered, delivered);
                }
                return Some(delivered);
            }
            return Some(position);
        }
        None
    }

    /// A sink has this for good: writes its cursor to disk, and removes the segments that no sink needs any more. That makes the room
    /// without which a full disk takes no cursor. If the process ends before there is any, the cursor on disk names an earlier line,
    /// and the sink begins with that one, or with the first that is left if its segment is gone.
    pub(super) fn keep(&self, name: &str, position: Position) -> io::Result<()> {
        let mut state = self.lock();
        let Some(entry) = state.cursors.get_mut(name) else { return Ok(()) };
        let is_kept = entry.cursor.position == position && !entry.unwritten;
        if is_kept || entry.cursor.kind.is_empty() {
            return Ok(());
        }
        // A doubt that could not be written is about lines that the sink has not got again.
        let unsynced = entry.cursor.unsynced && entry.cursor.position == position;
        let cursor = Cursor { position, unsynced, ..entry.cursor.clone() };
        drop(state);
        let written = self.write(name, &cursor);
        if let Some(entry) = self.lock().cursors.get_mut(name) {
            (entry.cursor.position, entry.cursor.unsynced) = (position, unsynced);
        }
        self.forget();
        written.or_else(|_| self.write(name, &cursor))
    }

    /// Writes a cursor to disk, unless it was forgotten meanwhile.
    fn write(&self, name: &str, cursor: &Cursor) -> io::Result<()> {
        let _alone = self.writing();
        if !self.lock().cursors.contains_key(name) {
            return Ok(());
        }
        let written = cursor.write(&self.folder, name);
        if let Some(entry) = self.lock().cursors.get_mut(name) {
            entry.unwritten = written.is_err();
        }
        written
    }

    /// What a sink has may not be on its disk: it goes back to where its cursor is.
    pub(super) fn go_back(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        let Some(entry) = state.cursors.get_mut(name) else { return Ok(()) };
        let position = entry.cursor.position;
        (entry.delivered, entry.sent, entry.cursor.unsynced) = (position, position, true);
        let cursor = entry.cursor.clone();
        drop(state);
        // That of a sink that another goes on for is not there any more.
        if cursor.kind.is_empty() { Ok(()) } else { self.write(name, &cursor) }
    }

    /// Whether what a sink has may not be on its disk.
    pub(super) fn is_unsynced(&self, name: &str) -> bool {
        self.lock().cursors.get(name).is_some_and(|entry| entry.cursor.unsynced)
    }

    /// A sync of this sink failed.
    #[cfg(test)]
    pub(in crate::audit) fn doubt(&self, sink: &str) {
        self.go_back(&cursor::name(sink)).unwrap();
    }

    pub(super) fn let_go(&self, name: &str) {
        let mut state = self.lock();
        if let Some(entry) = state.cursors.get_mut(name) {
            entry.held = false;
            entry.sent = entry.delivered;
            let delivered = entry.delivered;
            let is_heir = |entry: &&mut Entry| entry.former.as_ref().is_some_and(|(former, _)| former == name);
            for heir in state.cursors.values_mut().filter(is_heir) {
                (heir.delivered, heir.sent, heir.former) = (delivered, delivered, None);
            }
        }
        drop(state);
        self.forget();
        self.freed.notify_all();
    }

    /// Whether every sink has all lines for good.
    pub(super) fn is_delivered(&self) -> bool {
        self.lock().is_delivered()
    }

    /// Goes on with an empty segment that exists, if every sink has all lines for good. Returns whether that is so. The other segments
    /// are removed then, which makes room on a full disk.
    pub(super) fn start_over(&self, next: Position) -> bool {
        let mut state = self.lock();
        if !state.is_delivered() {
            return false;
        }
        for entry in state.cursors.values_mut() {
            (entry.delivered, entry.sent, entry.cursor.position) = (next, next, next);
        }
        state.recent.clear();
        if state.end.segment != next.segment {
            state.segments.push_back((next.segment, 0));
        }
        (state.end, state.synced) = (next, next);
        // Readers still have the former segment open.
        self.appended.notify_all();
        let cursors: Vec<_> = state.cursors.iter().map(|(name, entry)| (name.clone(), entry.cursor.clone())).collect();
        drop(state);
        self.forget();
        // A cursor of a segment that is gone starts with the first that is there, which is this one.
        for (name, cursor) in cursors {
            if let Err(error) = self.write(&name, &cursor) {
                tracing::warn!(%error, "a cursor of the audit spool could not be written");
            }
        }
        true
    }

    /// Everything up to here is on disk.
    pub(super) fn synced(&self, position: Position) {
        self.lock().synced = position;
        self.forget();
    }
}
