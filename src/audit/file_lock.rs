//! The lock of a file, beside it: exclusive where it is rotated, and shared otherwise. Another process would go on writing to a file that
//! was put aside, and its lines would be removed when that is compressed.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
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
    file: File,
    path: PathBuf,
}

/// What is done with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It is put aside now and then: nobody else may write to it.
    Rotates,
    /// It is only written to.
    Writes,
}

/// The lock's file of a file. It is hidden from those who look for `audit*`.
pub(crate) fn lock_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".lock");
    path.with_file_name(name)
}

impl FileLock {
    /// Takes the lock of a file, or shares it if this process has it. One that only writes does without where none can be made.
    ///
    /// # Errors
    /// Another process has it, or the system refuses.
    pub(super) fn take(path: &Path, access: Access) -> io::Result<Option<Arc<Self>>> {
        let path = lock_of(path);
        let failed = |error: &io::Error| {
            let why = error_text::system(error);
            let message = format!("its lock {} cannot be taken, which `rotate` needs: {why}", path.display());
            io::Error::new(error.kind(), message)
        };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o640);
        // Held until the end: two reloads must not both find that nobody has it.
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(_, lock)| lock.strong_count() > 0);
        let file = match open_file::regular_with(options, &path) {
            Ok(file) => file,
            Err(error) if access == Access::Rotates => return Err(failed(&error)),
            Err(_) => match open_file::regular(&path) {
                Ok(file) => file,
                Err(_) => return Ok(None),
            },
        };
        let id = id_of(&file.metadata()?);
        let known = held.iter().filter(|(other, _)| *other == id).find_map(|(_, lock)| lock.upgrade());
        let lock = known.unwrap_or_else(|| Arc::new(Self { file, path: path.clone() }));
        let taken = match access {
            Access::Rotates => lock.file.try_lock(),
            // One that is held already may be more.
            Access::Writes if Arc::strong_count(&lock) > 1 => Ok(()),
            Access::Writes => lock.file.try_lock_shared(),
        };
        match (taken, access) {
            (Ok(()), _) => {}
            (Err(TryLockError::Error(_)), Access::Writes) => return Ok(None),
            (Err(TryLockError::Error(error)), Access::Rotates) => return Err(failed(&error)),
            (Err(TryLockError::WouldBlock), access) => {
                // Trying to get more may have lost what this process has for another policy.
                let _ = lock.file.try_lock_shared();
                let more = if access == Access::Rotates { ", or writes to it" } else { "" };
                let message = format!("another process rotates it{more}; give each process a file of its own");
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
            }
        }
        held.push((id, Arc::downgrade(&lock)));
        Ok(Some(lock))
    }

    /// Whether its file is still where others look for it.
    pub(super) fn is_in_place(&self) -> bool {
        let there = std::fs::metadata(&self.path).map(|there| id_of(&there));
        there.ok().zip(self.file.metadata().ok()).is_some_and(|(there, own)| there == id_of(&own))
    }
}

/// Device and number of a file.
fn id_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
