//! The spool: a folder that keeps sealed lines until every sink has them.
//!
//! - `NUMBER.jsonl` are segments, which the [`Appender`] of the sealer writes. The number is that of the first line in it, over
//!   the life of the folder. What a segment holds is exactly what sinks get.
//! - `NAME.cursor` is how far a sink has got; its [`Reader`] writes it. Segments that every sink is past are removed.
//! - `lock` keeps other processes out.
//!
//! What a process that was killed had appended is still there. What the machine had not written when it stopped is cut at the
//! next start, and the chain says so.

mod appender;
mod cursor;
mod reader;
mod recovery;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) use self::appender::{AppendError, Appender};
use self::cursor::Cursor;
pub(super) use self::reader::{Reader, Taken};
use self::recovery::Recovered;
use bytes::Bytes;

use super::chain::Hash;

/// Smallest and largest size of a segment in bytes; otherwise an eighth of the spool.
const SEGMENT: (u64, u64) = (1 << 20, 64 << 20);

/// Most bytes of lines that are in memory beside the disk.
const RECENT: usize = 1 << 20;

/// A place between two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Number of the line that follows.
    pub(super) line: u64,
    /// Number of the segment.
    segment: u64,
    /// Bytes of the segment before the line.
    offset: u64,
}

/// The spool, shared by the sealer and the sinks.
pub(super) struct Spool {
    folder: PathBuf,
    state: Mutex<State>,
    /// Lines were appended, or a reader is to look up.
    appended: Condvar,
    /// A segment was removed, or a reader let go of its cursor.
    freed: Condvar,
    /// Locked as long as the spool is open.
    _lock: File,
}

struct State {
    /// The lines that were appended last, each with its place: readers that keep up need not read the disk.
    recent: VecDeque<Recent>,
    /// Number and size in bytes of each segment, oldest first.
    segments: VecDeque<(u64, u64)>,
    end: Position,
    /// How far each sink has got, by the name of its cursor.
    cursors: BTreeMap<String, Entry>,
    /// Readers that wait for lines.
    waiting: usize,
    /// How often readers were asked to look up.
    wakes: u64,
}

/// Lines that were appended in one write.
struct Recent {
    start: Position,
    lines: Bytes,
    count: u64,
}

/// How far a sink has got.
struct Entry {
    /// As it is on disk.
    cursor: Cursor,
    /// What it has.
    delivered: Position,
    /// A reader has it.
    held: bool,
    /// The sink is not in the policy any more: the cursor is removed when its reader lets go of it.
    doomed: bool,
}

impl Entry {
    fn new(cursor: Cursor) -> Self {
        Self { delivered: cursor.position, cursor, held: false, doomed: false }
    }
}

/// What was found in a folder.
pub(super) struct Opened {
    pub(super) appender: Appender,
    /// Stream, sequence and hash of the last line.
    pub(super) last: Option<(Box<str>, u64, Hash)>,
    /// Bytes after it that were cut.
    pub(super) torn: u64,
}

impl Spool {
    /// Opens the folder, and makes it if it is not there; the one that it is in must be.
    ///
    /// # Errors
    /// It cannot be read or written, or another process has it open.
    pub(super) fn open(folder: &Path) -> io::Result<Opened> {
        if !folder.is_dir() {
            DirBuilder::new().mode(0o750).create(folder)?;
        }
        let lock = create(&folder.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another process has this spool open")
            }
        })?;
        let Recovered { segments, end, last, torn } = recovery::recover(folder)?;
        let cursors = Cursor::all(folder, segments.front().map_or(0, |(first, _)| *first), end)?;
        let entries = cursors.into_iter().map(|(name, cursor)| (name, Entry::new(cursor))).collect();
        let state = State { recent: VecDeque::new(), segments, end, cursors: entries, waiting: 0, wakes: 0 };
        let spool = Arc::new(Self {
            folder: folder.to_owned(),
            state: Mutex::new(state),
            appended: Condvar::new(),
            freed: Condvar::new(),
            _lock: lock,
        });
        let appender = Appender::new(&spool, end)?;
        Ok(Opened { appender, last, torn })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}.jsonl"))
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().segments.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Number of the line that will be appended next.
    pub(super) fn end(&self) -> u64 {
        self.lock().end.line
    }

    /// Lines that a sink is not known to have.
    pub(super) fn left(&self, sink: &str) -> u64 {
        let state = self.lock();
        let position = state.cursors.get(&cursor::name(sink)).map_or(state.end, |entry| entry.delivered);
        state.end.line.saturating_sub(position.line)
    }

    /// Keeps a cursor for a sink: the one that it has, or one at the end.
    ///
    /// # Errors
    /// The cursor cannot be written.
    pub(super) fn register(&self, sink: &str) -> io::Result<()> {
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
    pub(super) fn retain(&self, sinks: &[String]) {
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
    pub(super) fn wait_until_freed(&self, most: Duration) {
        let state = self.lock();
        drop(self.freed.wait_timeout(state, most));
    }

    /// Makes every reader look up, and whoever waits for room.
    pub(super) fn wake(&self) {
        self.lock().wakes += 1;
        self.appended.notify_all();
        self.freed.notify_all();
    }

    /// Takes the cursor of a sink, waiting until its former reader has let go of it, but at most until `until`.
    fn take_cursor(&self, name: &str, until: Instant) -> Option<Position> {
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
    fn keep(&self, name: &str, position: Position) -> io::Result<()> {
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

    fn let_go(&self, name: &str) {
        let mut state = self.lock();
        if let Some(entry) = state.cursors.get_mut(name) {
            entry.held = false;
        }
        self.forget(&mut state);
        self.freed.notify_all();
    }
}

/// Opens a file of the spool, readable by its owner and group only.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path)
}

#[cfg(test)]
mod tests;
