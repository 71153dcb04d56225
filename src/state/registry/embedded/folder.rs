//! The folder of an embedded store: its file, for this user only, and a marker that a store was created there.
//!
//! A file that is missing, empty or cut would be an empty store, and every revocation forgotten. The marker distinguishes that
//! from a store that was never there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, StorageError};

use crate::error_text;
use crate::state::database;
use crate::state::registry::store_error::StoreError;

/// The file in the folder.
const FILE: &str = "register.redb";
/// The marker beside it.
const MARKER: &str = "register.created";
/// What the marker says to a person who opens it.
const MARKED: &str = "A store of Bartizan was created in this folder: register.redb.
If that file is missing or empty, Bartizan does not start, since every revocation would be forgotten.
Restore it from a backup. To start with an empty store instead, delete this file.
";
/// Pages of the file that are kept in memory, in bytes: the registry holds the working set itself.
const CACHE: usize = 4 * 1024 * 1024;

/// The folder of a store.
pub(crate) struct StoreFolder(PathBuf);

impl StoreFolder {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Looks at the folder without changing anything. Returns a warning.
    ///
    /// Fails if a store was created here and its file is missing or empty, or if this is no folder.
    pub(crate) fn examine(&self) -> Result<Option<String>, StoreError> {
        let folder = match std::fs::metadata(&self.0) {
            Ok(folder) => folder,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("cannot be opened", &error)),
        };
        if !folder.is_dir() {
            return Err(StoreError::Unusable(format!(
                "the store {} is a file; name a folder, such as `store: state/`",
                self.0.display()
            )));
        }
        let file = std::fs::metadata(self.0.join(FILE)).map(|file| file.len());
        let problem = match file {
            Ok(0) => Some("empty"),
            Err(error) if error.kind() == ErrorKind::NotFound => Some("missing"),
            _ => None,
        };
        if let Some(problem) = problem.filter(|_| self.0.join(MARKER).exists()) {
            return Err(self.lost(problem));
        }
        let open_to_all = folder.mode() & 0o002 != 0;
        Ok(open_to_all.then(|| {
            let folder = self.0.display();
            format!(
                "every user of this machine can write to the store {folder}, and so replace it; `chmod 700 {folder}`"
            )
        }))
    }

    /// Whether a store is here.
    pub(crate) fn has_file(&self) -> bool {
        self.0.join(FILE).exists()
    }

    /// Opens the file, or creates folder and file if no store was here.
    pub(super) fn open(&self) -> Result<Database, StoreError> {
        // For this user only: write access here is enough to admit anyone.
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        // A look at a folder that cannot be created shows what is wrong with it.
        if let Some(warning) = self.examine()? {
            tracing::warn!("{warning}");
        }
        created.map_err(|error| self.failed("cannot be created", &error))?;
        let database = database::open(&self.0.join(FILE), CACHE).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(self.0.display().to_string()),
            DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof => self.lost("not a store any more, or cut"),
                _ => self.failed("cannot be opened", &error),
            },
            DatabaseError::Storage(StorageError::Corrupted(_)) => self.lost("damaged or cut"),
            DatabaseError::UpgradeRequired(_) => StoreError::Unusable(format!(
                "the store {} was written by another version; start that version, or restore a backup of this one's",
                self.0.display()
            )),
            error => {
                let why = error_text::without_codes(&error.to_string());
                StoreError::Unusable(format!("the store {} cannot be opened: {why}", self.0.display()))
            }
        })?;
        self.mark().map_err(|error| self.failed("cannot be written", &error))?;
        Ok(database)
    }

    /// Records that a store was created here; on disk when this returns.
    fn mark(&self) -> io::Result<()> {
        let marker = self.0.join(MARKER);
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&marker) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(error),
        };
        file.write_all(MARKED.as_bytes())?;
        file.sync_all()?;
        File::open(&self.0)?.sync_all()
    }

    fn lost(&self, problem: &str) -> StoreError {
        let (file, marker) = (self.0.join(FILE), self.0.join(MARKER));
        StoreError::Unusable(format!(
            "{} is {problem}, and with it every key, revocation and suspension; restore it from a backup, or delete it \
             and {} to start with an empty store",
            file.display(),
            marker.display()
        ))
    }

    fn failed(&self, what: &str, error: &io::Error) -> StoreError {
        StoreError::Unusable(format!("the store {} {what}: {}", self.0.display(), error_text::system(error)))
    }
}
