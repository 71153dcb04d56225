//! The store in a folder of this machine: redb, which is crash-safe. What was acknowledged survives any crash.
//!
//! Only one process at a time can open it. Calls block, so they are made where blocking is allowed.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::entry::{Change, Entry, Kind, LastUse};
use super::store_error::StoreError;

/// The file in the folder.
const FILE: &str = "register.redb";
/// Pages of the file that are kept in memory, in bytes: the registry holds the working set itself.
const CACHE: usize = 4 * 1024 * 1024;
/// When keys were last used.
const USES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("use");

fn table(kind: Kind) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(kind.as_str())
}

/// An open store.
#[derive(Clone)]
pub(crate) struct Embedded(Arc<Database>);

impl Embedded {
    /// Opens the store; creates folder and file if they do not exist. Blocks.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            StoreError::Unusable(format!("the store {} {what}: {error}", folder.display()))
        };
        // For this user only: write access here is enough to admit anyone.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| failed("cannot be created", &error))?;
        let database =
            Database::builder().set_cache_size(CACHE).create(folder.join(FILE)).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(folder.display().to_string()),
                error => failed("cannot be opened", &error),
            })?;
        let store = Self(Arc::new(database));
        store.make_tables().map_err(|error| failed("cannot be written", &error))?;
        Ok(store)
    }

    fn make_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.0.begin_write()?;
        for kind in Kind::ALL {
            transaction.open_table(table(kind))?;
        }
        transaction.open_table(USES)?;
        transaction.commit()?;
        Ok(())
    }

    /// Makes all changes or none; they are on disk when this returns. Blocks.
    pub(crate) fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
        match self.try_apply(changes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Exists),
            Err(error) => Err(StoreError::Unusable(format!("the store cannot be written: {error}"))),
        }
    }

    /// Returns false, with nothing changed, if an entry to be created exists already.
    fn try_apply(&self, changes: &[Change]) -> Result<bool, redb::Error> {
        let transaction = self.0.begin_write()?;
        for change in changes {
            match change {
                Change::Put(entry) | Change::Create(entry) => {
                    let mut table = transaction.open_table(table(entry.kind()))?;
                    let before = table.insert(&*entry.id(), &*entry.encode())?.is_some();
                    if before && matches!(change, Change::Create(_)) {
                        drop(table);
                        transaction.abort()?;
                        return Ok(false);
                    }
                }
                Change::Remove(kind, id) => {
                    transaction.open_table(table(*kind))?.remove(&**id)?;
                }
            }
        }
        transaction.commit()?;
        Ok(true)
    }

    /// Passes every entry to `each`, and every last use of a key to `used`. Blocks.
    pub(crate) fn load(
        &self,
        mut each: impl FnMut(Entry),
        mut used: impl FnMut(&str, LastUse),
    ) -> Result<(), StoreError> {
        for kind in Kind::ALL {
            self.read(kind, None, usize::MAX, &mut each)?;
        }
        let mut read_uses = || -> Result<(), redb::Error> {
            for row in self.0.begin_read()?.open_table(USES)?.iter()? {
                let (id, value) = row?;
                // Informational only: an unreadable value counts as unknown.
                if let Ok(use_) = serde_json::from_slice(value.value()) {
                    used(id.value(), use_);
                }
            }
            Ok(())
        };
        read_uses().map_err(unreadable)
    }

    /// Returns up to `limit` entries of a kind, by id, after `after`. Blocks.
    pub(crate) fn page(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let mut page = Vec::new();
        self.read(kind, after, limit, &mut |entry| page.push(entry))?;
        Ok(page)
    }

    /// Returns one entry. Blocks.
    pub(crate) fn get(&self, kind: Kind, id: &str) -> Result<Option<Entry>, StoreError> {
        let get = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = self.0.begin_read()?.open_table(table(kind))?;
            Ok(table.get(id)?.map(|value| value.value().to_vec()))
        };
        get().map_err(unreadable)?.map(|bytes| decode(kind, id, &bytes)).transpose()
    }

    fn read(
        &self,
        kind: Kind,
        after: Option<&str>,
        limit: usize,
        each: &mut impl FnMut(Entry),
    ) -> Result<(), StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let transaction = self.0.begin_read().map_err(unreadable)?;
        let table = transaction.open_table(table(kind)).map_err(unreadable)?;
        let start = after.map_or(Unbounded, Excluded);
        for row in table.range::<&str>((start, Unbounded)).map_err(unreadable)?.take(limit) {
            let (id, value) = row.map_err(unreadable)?;
            each(decode(kind, id.value(), value.value())?);
        }
        Ok(())
    }

    /// Stores when keys were last used. Blocks.
    pub(crate) fn note_uses(&self, uses: &[(Box<str>, LastUse)]) -> Result<(), StoreError> {
        let note = || -> Result<(), redb::Error> {
            let transaction = self.0.begin_write()?;
            let mut table = transaction.open_table(USES)?;
            for (id, last) in uses {
                table.insert(&**id, &*serde_json::to_vec(last).unwrap_or_default())?;
            }
            drop(table);
            transaction.commit()?;
            Ok(())
        };
        note().map_err(|error| StoreError::Unusable(format!("the store cannot be written: {error}")))
    }
}

/// Decodes an entry. One that cannot be read may be a revocation, so it is an error and never skipped.
fn decode(kind: Kind, id: &str, bytes: &[u8]) -> Result<Entry, StoreError> {
    Entry::decode(kind, bytes)
        .map_err(|error| StoreError::Unusable(format!("the store's {} {id:?} cannot be read: {error}", kind.as_str())))
}

fn unreadable(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Unusable(format!("the store cannot be read: {}", error.into()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::entry::Suspension;
    use super::*;

    fn suspension(consumer: &str, reason: &str) -> Entry {
        Entry::Suspension(Suspension {
            consumer: consumer.into(),
            until: None,
            reason: Some(reason.into()),
            created: jiff::Timestamp::UNIX_EPOCH,
            created_by: "admin".into(),
        })
    }

    #[test]
    fn what_is_there_is_not_created_again_and_nothing_of_the_change_is_made() {
        let folder = TempDir::new().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        let reasons = || {
            let all = store.page(Kind::Suspension, None, 10).unwrap();
            all.into_iter().map(|entry| String::from_utf8(entry.encode()).unwrap()).collect::<Vec<_>>()
        };
        let create = |consumer, reason| Change::Create(suspension(consumer, reason));
        assert_eq!(store.apply(&[create("a", "first")]), Ok(()));
        let before = reasons();
        let raced = [Change::Put(suspension("b", "beside")), create("a", "second"), create("c", "behind")];
        assert_eq!(store.apply(&raced), Err(StoreError::Exists));
        assert_eq!(store.apply(&[create("d", "one"), create("d", "two")]), Err(StoreError::Exists), "twice in one");
        assert_eq!(reasons(), before);
        assert_eq!(store.apply(&[Change::Remove(Kind::Suspension, "a".to_owned()), create("a", "third")]), Ok(()));
        assert!(reasons().concat().contains("third"));
    }
}
