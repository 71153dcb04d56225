//! Database files in a folder of this machine: redb, which is crash-safe. Only one process at a time can open one.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};

use crate::open_file;

/// Opens a database file, or creates it; for this user only. `cache` is how much of it is kept in memory, in bytes. A file that
/// was cut or altered is an error, and is not read as far as it goes.
pub(super) fn open(path: &Path, cache: usize) -> Result<Database, DatabaseError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = open_file::regular_with(options, path)?;
    if file.metadata()?.mode() & 0o077 != 0
        && let Err(error) = file.set_permissions(Permissions::from_mode(0o600))
    {
        tracing::warn!(%error, "others have access to {}, and this user cannot change that", path.display());
    }
    let mut builder = Database::builder();
    builder.set_cache_size(cache).set_check_integrity_on_open(true);
    create(&builder, &file.try_clone()?, FileBackend::new(file)?)
}

/// Opens the file of this backend, or makes it a database if it is empty.
fn create(builder: &Builder, file: &File, backend: impl StorageBackend) -> Result<Database, DatabaseError> {
    let was_empty = file.metadata()?.len() == 0;
    let created = builder.create_with_backend(backend);
    let is_mine = !matches!(created, Ok(_) | Err(DatabaseError::DatabaseAlreadyOpen));
    if was_empty && is_mine {
        // Without room, it has a length and no content: every later start would take it for damaged.
        let _ = file.set_len(0);
    }
    created
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const CACHE: usize = 1 << 20;

    /// Gives a file any length, and has no room for what is written to it.
    #[derive(Debug)]
    struct FullDisk(FileBackend);

    impl StorageBackend for FullDisk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }

        fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_first_start_on_a_full_disk_leaves_nothing_that_a_later_one_takes_for_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let backend = FullDisk(FileBackend::new(file.try_clone().unwrap()).unwrap());
        assert!(create(&Database::builder(), &file, backend).is_err());
        drop(file);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        drop(open(&path, CACHE).unwrap());
        assert!(open(&path, CACHE).is_ok());
    }

    #[test]
    fn a_file_that_is_damaged_or_in_use_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        std::fs::write(&path, "what somebody may still want").unwrap();
        assert!(open(&path, CACHE).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"what somebody may still want");
        std::fs::write(&path, "").unwrap();
        let used = open(&path, CACHE).unwrap();
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(matches!(open(&path, CACHE), Err(DatabaseError::DatabaseAlreadyOpen)));
        drop(used);
        assert_eq!(std::fs::metadata(&path).unwrap().len() > 0, length > 0);
        assert!(open(&path, CACHE).is_ok());
    }
}
