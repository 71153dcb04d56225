//! Database files in a folder of this machine: redb, which is crash-safe. Only one process at a time can open one.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, DatabaseError};

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
    builder.create_with_backend(FileBackend::new(file)?)
}
