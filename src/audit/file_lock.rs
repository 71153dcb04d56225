//! The lock of a file, beside it: exclusive where it is rotated, and shared otherwise. Another process would go on writing to a file that
//! was put aside, and its lines would be removed when that is compressed.
//!
//! It is one of an open file (`F_OFD_SETLK`): becoming exclusive or shared again is one step, and what is held is kept if that fails.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error_text;
use crate::open_file;

/// The locks of this process, which excludes only others: policies that follow each other share the lock of a file.
static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

/// A lock that this process has.
struct Held {
    /// Device and number of its file.
    id: (u64, u64),
    file: File,
    /// How many have it for each access.
    rotate: usize,
    write: usize,
}

/// A share in the lock of a file, until it is dropped.
pub(super) struct FileLock {
    id: (u64, u64),
    path: PathBuf,
    access: Access,
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
    /// A new lock has the owner and the mode of the file: a command that another user runs must keep nobody from it.
    ///
    /// # Errors
    /// Another process has it, or the system refuses.
    pub(super) fn take(path: &Path, file: &File, access: Access) -> io::Result<Option<Self>> {
        let path = lock_of(path);
        let failed = |error: &io::Error| {
            let why = error_text::system(error);
            let message = format!("its lock {} cannot be taken, which `rotate` needs: {why}", path.display());
            io::Error::new(error.kind(), message)
        };
        // Held until the end: two reloads must not both find that nobody has it.
        let mut held = held();
        let opened = match open(&path, file) {
            Err(error) if access == Access::Rotates => return Err(failed(&error)),
            Err(_) => open_file::regular(&path),
            opened => opened,
        };
        let Ok(opened) = opened else { return Ok(None) };
        let id = id_of(&opened.metadata()?);
        let taken = match held.iter_mut().find(|held| held.id == id) {
            Some(known) => known.share(opened, access),
            None => match lock(&opened, access) {
                Ok(true) => {
                    held.push(Held { id, file: opened, rotate: 0, write: 0 });
                    Ok(true)
                }
                other => other,
            },
        };
        match (taken, access) {
            (Ok(true), _) => {}
            (Err(_), Access::Writes) => return Ok(None),
            (Err(error), Access::Rotates) => return Err(failed(&error)),
            (Ok(false), access) => {
                let more = if access == Access::Rotates { ", or writes to it" } else { "" };
                let message = format!("another process rotates it{more}; give each process a file of its own");
                return Err(io::Error::new(ErrorKind::ResourceBusy, message));
            }
        }
        if let Some(held) = held.iter_mut().find(|held| held.id == id) {
            *held.count(access) += 1;
        }
        Ok(Some(Self { id, path, access }))
    }

    /// Whether its file is still where others look for it.
    pub(super) fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|there| id_of(&there) == self.id)
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let mut all = held();
        let Some(held) = all.iter_mut().find(|held| held.id == self.id) else { return };
        let count = held.count(self.access);
        *count = count.saturating_sub(1);
        if held.rotate == 0 && self.access == Access::Rotates && held.write > 0 {
            // Others may write to it as well from now on. If the system refuses, they may not.
            let _ = lock(&held.file, Access::Writes);
        }
        all.retain(|held| held.rotate + held.write > 0);
    }
}

impl Held {
    /// Lets one more have it for this; false if another process is in the way. `opened` is its file, which can be written to if that is needed.
    fn share(&mut self, opened: File, access: Access) -> io::Result<bool> {
        if access == Access::Writes || self.rotate > 0 {
            return Ok(true);
        }
        // The file that has it may have been opened for reading only. It is held by one of them at any time.
        if !lock(&opened, Access::Writes)? {
            return Ok(false);
        }
        self.file = opened;
        lock(&self.file, Access::Rotates)
    }

    fn count(&mut self, access: Access) -> &mut usize {
        match access {
            Access::Rotates => &mut self.rotate,
            Access::Writes => &mut self.write,
        }
    }
}

fn held() -> MutexGuard<'static, Vec<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the lock's file of `of`, and makes it if it is not there.
fn open(path: &Path, of: &File) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(new) => {
            let (owner, own) = (of.metadata()?, new.metadata()?);
            // Those who may write to the file may take its lock.
            let _ = new.set_permissions(Permissions::from_mode(owner.mode() & 0o666));
            if (owner.uid(), owner.gid()) != (own.uid(), own.gid()) {
                // Only some users may give files away; others run as the owner.
                let _ = fchown(&new, Some(owner.uid()), Some(owner.gid()));
            }
            Ok(new)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => open_file::regular_with(&mut options, path),
        Err(error) => Err(error),
    }
}

/// Takes a lock, or changes what it is; false if another open file has one that is in the way.
pub(super) fn lock(file: &File, access: Access) -> io::Result<bool> {
    let kind = if access == Access::Rotates { libc::F_WRLCK } else { libc::F_RDLCK };
    let whole = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Device and number of a file.
fn id_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file, and another process's end of its lock.
    fn file_and_other(folder: &Path) -> (PathBuf, File, File) {
        let path = folder.join("audit");
        let file = open_file::appending(&path).unwrap();
        let other = open(&lock_of(&path), &file).unwrap();
        (path, file, other)
    }

    #[test]
    fn one_that_cannot_rotate_goes_on_to_have_what_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file, other) = file_and_other(folder.path());
        let _writes = FileLock::take(&path, &file, Access::Writes).unwrap().unwrap();
        assert!(lock(&other, Access::Writes).unwrap());
        // Both reload to `rotate`: none of them gets it, and none loses what the other must see.
        for _ in 0..2 {
            let error = FileLock::take(&path, &file, Access::Rotates).err().unwrap().to_string();
            assert!(error.contains("another process rotates it, or writes to it;"), "{error}");
            assert!(!lock(&other, Access::Rotates).unwrap());
        }
    }

    #[test]
    fn a_file_that_is_not_rotated_any_more_is_shared_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file, other) = file_and_other(folder.path());
        let rotates = FileLock::take(&path, &file, Access::Rotates).unwrap().unwrap();
        let writes = FileLock::take(&path, &file, Access::Writes).unwrap().unwrap();
        assert!(!lock(&other, Access::Writes).unwrap(), "it is rotated until that has ended");
        drop(rotates);
        assert!(lock(&other, Access::Writes).unwrap() && !lock(&other, Access::Rotates).unwrap());
        drop(writes);
        assert!(lock(&other, Access::Rotates).unwrap());
    }

    #[test]
    fn a_lock_belongs_to_the_owner_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let file = open_file::appending(&path).unwrap();
        file.set_permissions(Permissions::from_mode(0o660)).unwrap();
        let owned = |path: &Path| std::fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
        // Root gives it away; others run as the owner, and have it.
        let is_given = fchown(&file, Some(12_345), Some(12_346)).is_ok();
        drop(FileLock::take(&path, &file, Access::Writes).unwrap());
        assert_eq!(owned(&lock_of(&path)), owned(&path));
        assert_eq!(owned(&path) == (12_345, 12_346), is_given);
        assert_eq!(std::fs::metadata(lock_of(&path)).unwrap().mode() & 0o777, 0o660);
        // What was there before stays as it is, whatever a link leads to.
        let (lock, outside) = (lock_of(&path), folder.path().join("outside"));
        std::fs::remove_file(&lock).unwrap();
        std::fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, &lock).unwrap();
        let before = owned(&outside);
        drop(FileLock::take(&path, &file, Access::Writes).unwrap());
        assert_eq!(owned(&outside), before);
    }
}
