//! What the sealer and the sinks share: which segments there are, and how far each sink has got.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cursor::{self, Cursor};
use super::files::{self, Position};

/// The spool, shared by the sealer and the sinks.
pub(in crate::audit) struct Spool {
    pub(super) folder: PathBuf,
    pub(super) state: Mutex<State>,
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
    /// How far each sink has got, by the name of its cursor.
    pub(super) cursors: BTreeMap<String, Entry>,
    /// Readers that wait for lines.
    pub(super) waiting: usize,
    /// How often readers were asked to look up.
    pub(super) wakes: u64,
}

/// Lines that were appended in one write.
pub(super) struct Recent {
    pub(super) start: Position,
    pub(super) lines: Bytes,
    pub(super) count: u64,
}

/// How far a sink has got.
pub(super) struct Entry {
    /// As it is on disk.
    pub(super) cursor: Cursor,
    /// What it has.
    pub(super) delivered: Position,
    /// A reader has it.
    held: bool,
    /// The sink is not in the policy any more: the cursor is removed when its reader lets go of it.
    doomed: bool,
}

impl Entry {
    pub(super) fn new(cursor: Cursor) -> Self {
        Self { delivered: cursor.position, cursor, held: false, doomed: false }
    }
}

impl Spool {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Lines that a sink is not known to have.
    pub(in crate::audit) fn left(&self, sink: &str) -> u64 {
        let state = self.lock();
        let position = state.cursors.get(&cursor::name(sink)).map_or(state.end, |entry| entry.delivered);
        state.end.line.saturating_sub(position.line)
    }

    /// Keeps a cursor for a sink: the one that it has, or one at the end.
    ///
    /// # Errors
    /// The cursor cannot be written.
    pub(in crate::audit) fn register(&self, sink: &str) -> io::Result<()> {
        let mut state = self.lock();
        let name = cursor::name(sink);
        if let Some(entry) = state.cursors.get_mut(&name) {
            entry.doomed = false;
            return Ok(());
        }
        let cursor = Cursor { sink: sink.to_owned(), position: state.end };
        cursor.write(&self.folder, &name)?;
        state.cursors.insert(name, Entry::new(cursor));
        Ok(())
    }

    /// Forgets the cursors of sinks that are not among these, as soon as their readers have ended.
    pub(in crate::audit) fn retain(&self, sinks: &[String]) {
        let mut state = self.lock();
        let names: Vec<String> = sinks.iter().map(|sink| cursor::name(sink)).collect();
        for (_, entry) in state.cursors.iter_mut().filter(|(name, _)| !names.contains(name)) {
            entry.doomed = true;
        }
        self.forget(&mut state);
    }

    /// Forgets cursors that nobody needs any more.
    fn forget(&self, state: &mut State) {
        let end = state.end.line;
        state.cursors.retain(|name, entry| {
            if entry.held || !entry.doomed {
                return true;
            }
            let lines = end.saturating_sub(entry.delivered.line);
            if lines > 0 {
                let sink = &entry.cursor.sink;
                tracing::warn!(sink, lines, "an audit sink was removed from the policy before it had all lines");
            }
            self.remove(&self.folder.join(format!("{name}.cursor")));
            false
        });
        self.free(state);
    }

    /// Removes the segments that every sink is past.
    fn free(&self, state: &mut State) {
        let needed = state.cursors.values().map(|entry| entry.cursor.position.segment).min();
        let needed = needed.unwrap_or(state.end.segment).min(state.end.segment);
        let mut freed = false;
        while let Some((first, _)) = state.segments.front().copied().filter(|(first, _)| *first < needed) {
            state.segments.pop_front();
            self.remove(&self.segment(first));
            freed = true;
        }
        if freed {
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

    /// Makes every reader look up, and whoever waits for room.
    pub(in crate::audit) fn wake(&self) {
        self.lock().wakes += 1;
        self.appended.notify_all();
        self.freed.notify_all();
    }

    /// Takes the cursor of a sink, waiting until its former reader has let go of it, but at most until `until`.
    pub(super) fn take_cursor(&self, name: &str, until: Instant) -> Option<Position> {
        let mut state = self.lock();
        loop {
            let entry = state.cursors.get_mut(name)?;
            if !entry.held {
                entry.held = true;
                return Some(entry.cursor.position);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes a cursor to disk, and removes the segments that no sink needs any more.
    pub(super) fn keep(&self, name: &str, position: Position) -> io::Result<()> {
        let mut state = self.lock();
        let Some(entry) = state.cursors.get_mut(name) else { return Ok(()) };
        if entry.cursor.position == position {
            return Ok(());
        }
        entry.cursor.position = position;
        let written = entry.cursor.write(&self.folder, name);
        self.free(&mut state);
        written
    }

    pub(super) fn let_go(&self, name: &str) {
        let mut state = self.lock();
        if let Some(entry) = state.cursors.get_mut(name) {
            entry.held = false;
        }
        self.forget(&mut state);
        self.freed.notify_all();
    }
}
