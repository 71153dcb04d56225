//! The lock of a file that is rotated, beside it. Another process would go on writing to a file that was put aside, and its lines would
//! be removed when that is compressed.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error_text;
use crate::open_file;

/// Device and number of a lock's file, and the lock.
type Held = ((u64, u64), Weak<FileLock>);

/// The locks of this process, which excludes only others: policies that follow each other share the lock of a file.
static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

/// A lock, held until it is dropped.
pub(super) struct FileLock {
    _file: File,
}

/// The lock's file of a file that is rotated. It is hidden from those who look for `audit*`.
pub(crate) fn lock_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".lock");
    path.with_file_name(name)
}

impl FileLock {
    /// Takes the lock of a file, or shares it if this process has it.
    ///
    /// # Errors
    /// Another process has it, or the system refuses.
    pub(super) fn take(path: &Path) -> io::Result<Arc<Self>> {
        let path = lock_of(path);
        let failed = |error: &io::Error| {
            let why = error_text::system(error);
            io::Error::new(error.kind(), format!("its lock {} cannot be taken: {why}", path.display()))
        };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o640);
        // Held until the end: two reloads must not both find that nobody has it.
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(_, lock)| lock.strong_count() > 0);
        let file = open_file::regular_with(options, &path).map_err(|error| failed(&error))?;
        let metadata = file.metadata()?;
        let id = (metadata.dev(), metadata.ino());
        if let Some(lock) = held.iter().filter(|(other, _)| *other == id).find_map(|(_, lock)| lock.upgrade()) {
            return Ok(lock);
        }
        file.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => failed(&error),
            TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process rotates it; give each process a file of its own",
            ),
        })?;
        let lock = Arc::new(Self { _file: file });
        held.push((id, Arc::downgrade(&lock)));
        Ok(lock)
    }
}
