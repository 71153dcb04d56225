//! Opens a spool.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{DirBuilder, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::appender::Appender;
use super::cursor::Cursor;
use super::files::create;
use super::recovery::{self, Recovered};
use super::shared::{Entry, Spool, State};
use crate::audit::chain::Hash;

/// How long a process that is just ending may still have the spool open.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked meanwhile.
const RETRY: Duration = Duration::from_millis(10);

/// What was found in a folder.
pub(in crate::audit) struct Opened {
    pub(in crate::audit) appender: Appender,
    /// Stream, sequence and hash of the last line.
    pub(in crate::audit) last: Option<(Box<str>, u64, Hash)>,
    /// Bytes after it that were cut.
    pub(in crate::audit) torn: u64,
}

/// Opens the folder, and makes it if it is not there; the one that it is in must be.
///
/// # Errors
/// It cannot be read or written, or another process has it open.
pub(in crate::audit) fn open(folder: &Path) -> io::Result<Opened> {
    if !folder.is_dir() {
        DirBuilder::new().mode(0o750).create(folder)?;
    }
    let lock = create(&folder.join("lock"))?;
    let tried = Instant::now();
    while let Err(error) = lock.try_lock() {
        match error {
            TryLockError::WouldBlock if tried.elapsed() < PATIENCE => std::thread::sleep(RETRY),
            TryLockError::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process has this spool open"));
            }
            TryLockError::Error(error) => return Err(error),
        }
    }
    let Recovered { segments, end, last, torn } = recovery::recover(folder)?;
    let mut entries = BTreeMap::new();
    for (name, mut cursor) in Cursor::all(folder, segments.front().map_or(0, |(first, _)| *first))? {
        // A machine that stopped may have written it, and not the lines.
        let is_written = cursor.position <= end || cursor.go_back_to(end, folder, &name)?;
        let mut entry = Entry::new(cursor);
        entry.unwritten = !is_written;
        entries.insert(name, entry);
    }
    let state = State {
        recent: VecDeque::new(),
        segments,
        end,
        synced: end,
        cursors: entries,
        wanted: Vec::new(),
        waiting: 0,
        wakes: 0,
    };
    let spool = Arc::new(Spool {
        folder: folder.to_owned(),
        state: Mutex::new(state),
        writing: Mutex::new(()),
        appended: Condvar::new(),
        freed: Condvar::new(),
        _lock: lock,
    });
    let appender = Appender::new(&spool, end)?;
    Ok(Opened { appender, last, torn })
}
