//! The store in a folder of this machine: redb, which is crash-safe. What was acknowledged survives any crash.
//!
//! Only one process at a time can open it. Calls block, so they are made where blocking is allowed.
//!
//! redb refuses every write after one that failed, such as on a full disk. So a failed write opens the file again and
//! is tried once more; while that fails, the store is unwritable, and the next change tries again.

mod families;
mod folder;
mod swaps;

use std::sync::atomic::AtomicU8;
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

pub(crate) use self::folder::StoreFolder;
use self::swaps::Swaps;
use super::entry::{Change, Entry, Kind, LastUse};
use super::health::Health;
use super::store_error::StoreError;
use crate::error_text;

/// Families of refresh tokens, by their ids.
const FAMILIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("family");
/// When keys were last used.
const USES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("use");

fn table(kind: Kind) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(kind.as_str())
}

/// An open store.
#[derive(Clone)]
pub(crate) struct Embedded(Arc<Inner>);

struct Inner {
    /// Opens the file.
    open: Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>,
    /// `None` while the file cannot be opened again.
    database: RwLock<Option<Database>>,
    swaps: Swaps,
    health: Arc<AtomicU8>,
}

impl Embedded {
    /// Opens the store; creates folder and file if no store was there. Blocks.
    pub(crate) fn open(folder: StoreFolder, health: &Arc<AtomicU8>) -> Result<Self, StoreError> {
        Self::opened_by(Box::new(move || folder.open()), health)
    }

    fn opened_by(
        open: Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>,
        health: &Arc<AtomicU8>,
    ) -> Result<Self, StoreError> {
        let database = open()?;
        make_tables(&database).map_err(|error| unwritable(&error))?;
        let database = RwLock::new(Some(database));
        Ok(Self(Arc::new(Inner { open, database, swaps: Swaps::default(), health: Arc::clone(health) })))
    }

    /// Makes all changes or none; they are on disk when this returns. Blocks.
    pub(crate) fn apply(&self, mut changes: Vec<Change>) -> Result<Vec<Change>, StoreError> {
        let replaced = self.write(|database| try_apply(database, &changes))??;
        changes.retain(|change| !matches!(change, Change::RemoveIf(entry) if replaced.contains(&entry.id())));
        for change in &mut changes {
            if let Change::RemoveIf(entry) = change {
                *change = Change::Remove(entry.kind(), entry.id());
            }
        }
        Ok(changes)
    }

    /// Tries to write if the last write failed. Blocks.
    pub(crate) fn probe(&self) -> Result<(), StoreError> {
        match Health::load(&self.0.health) {
            Health::Unwritable => self.write(make_tables),
            _ => Ok(()),
        }
    }

    /// Writes. If that fails, opens the file again and tries once more.
    fn write<T>(&self, work: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let done = self.with(&work);
        let done = match done {
            Ok(done) => Ok(done),
            Err(_) => self.reopen().and_then(|()| self.with(&work)),
        };
        let health = if done.is_ok() { Health::Ready } else { Health::Unwritable };
        match (health.replace(&self.0.health), &done) {
            (Health::Unwritable, Ok(_)) => tracing::info!("the store can be written again"),
            (Health::Ready | Health::Stale, Err(error)) => {
                tracing::error!(%error, "no change can be made until the store can be written; what is in force stays");
            }
            _ => {}
        }
        done
    }

    /// Runs `work` on the open file.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let database = self.0.database.read().unwrap_or_else(PoisonError::into_inner);
        let closed = || StoreError::Unusable("the store's file is closed after a failed write".to_owned());
        work(database.as_ref().ok_or_else(closed)?).map_err(|error| unwritable(&error))
    }

    /// Closes the file and opens it again.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.0.database.write().unwrap_or_else(PoisonError::into_inner);
        // First closed: a file that is open is locked.
        drop(database.take());
        *database = Some((self.0.open)()?);
        Ok(())
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
        self.read_file(|database| {
            for row in database.begin_read()?.open_table(USES)?.iter()? {
                let (id, value) = row?;
                // Informational only: an unreadable value counts as unknown.
                if let Ok(use_) = serde_json::from_slice(value.value()) {
                    used(id.value(), use_);
                }
            }
            Ok(())
        })
    }

    /// Returns up to `limit` entries of a kind, by id, after `after`. Blocks.
    pub(crate) fn page(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let mut page = Vec::new();
        self.read(kind, after, limit, &mut |entry| page.push(entry))?;
        Ok(page)
    }

    /// Returns one entry. Blocks.
    pub(crate) fn get(&self, kind: Kind, id: &str) -> Result<Option<Entry>, StoreError> {
        let found = self.read_file(|database| {
            let table = database.begin_read()?.open_table(table(kind))?;
            Ok(table.get(id)?.map(|value| value.value().to_vec()))
        })?;
        found.map(|bytes| decode(kind, id, &bytes)).transpose()
    }

    fn read(
        &self,
        kind: Kind,
        after: Option<&str>,
        limit: usize,
        each: &mut impl FnMut(Entry),
    ) -> Result<(), StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        // An entry that cannot be decoded ends the read.
        let mut problem = Ok(());
        self.read_file(|database| {
            let table = database.begin_read()?.open_table(table(kind))?;
            let start = after.map_or(Unbounded, Excluded);
            for row in table.range::<&str>((start, Unbounded))?.take(limit) {
                let (id, value) = row?;
                match decode(kind, id.value(), value.value()) {
                    Ok(entry) => each(entry),
                    Err(error) => {
                        problem = Err(error);
                        break;
                    }
                }
            }
            Ok(())
        })?;
        problem
    }

    /// Stores when keys were last used. Blocks.
    pub(crate) fn note_uses(&self, uses: &[(Box<str>, LastUse)]) -> Result<(), StoreError> {
        self.write(|database| {
            let transaction = database.begin_write()?;
            let mut table = transaction.open_table(USES)?;
            for (id, last) in uses {
                table.insert(&**id, &*serde_json::to_vec(last).unwrap_or_default())?;
            }
            drop(table);
            transaction.commit()?;
            Ok(())
        })
    }

    /// Reads from the open file; opens it again if a failed write closed it.
    fn read_file<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let is_closed = self.0.database.read().unwrap_or_else(PoisonError::into_inner).is_none();
        if is_closed {
            self.reopen()?;
        }
        self.with(work)
    }
}

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(FAMILIES)?;
    for kind in Kind::ALL {
        transaction.open_table(table(kind))?;
    }
    transaction.open_table(USES)?;
    transaction.commit()?;
    Ok(())
}

/// Returns an error, with nothing changed, if an entry to be created exists already, or one to be replaced has changed;
/// otherwise the ids of entries that were not removed because they have been replaced.
fn try_apply(database: &Database, changes: &[Change]) -> Result<Result<Vec<String>, StoreError>, redb::Error> {
    let mut replaced = Vec::new();
    let transaction = database.begin_write()?;
    for change in changes {
        match change {
            Change::Swap(entries) => {
                let (before, after) = &**entries;
                let (mut table, encoded) = (transaction.open_table(table(after.kind()))?, after.encode());
                let found = table.insert(&*after.id(), &*encoded)?.map(|found| found.value().to_vec());
                // What follows is there if an earlier try was written after all.
                if !found.is_some_and(|found| found == before.encode() || found == encoded) {
                    drop(table);
                    transaction.abort()?;
                    return Ok(Err(StoreError::Changed));
                }
            }
            Change::Put(entry) | Change::Create(entry) => {
                let (mut table, encoded) = (transaction.open_table(table(entry.kind()))?, entry.encode());
                let before = table.insert(&*entry.id(), &*encoded)?;
                // The very same entry is there if an earlier try was written after all.
                let other = before.is_some_and(|before| before.value() != encoded);
                if other && matches!(change, Change::Create(_)) {
                    drop(table);
                    transaction.abort()?;
                    return Ok(Err(StoreError::Exists));
                }
            }
            Change::Remove(kind, id) => {
                transaction.open_table(table(*kind))?.remove(&**id)?;
            }
            Change::RemoveIf(entry) => {
                let (mut table, id) = (transaction.open_table(table(entry.kind()))?, entry.id());
                if table.get(&*id)?.is_some_and(|stored| stored.value() == entry.encode()) {
                    table.remove(&*id)?;
                } else {
                    replaced.push(id);
                }
            }
        }
    }
    transaction.commit()?;
    Ok(Ok(replaced))
}

/// Decodes an entry. One that cannot be read may be a revocation, so it is an error and never skipped.
fn decode(kind: Kind, id: &str, bytes: &[u8]) -> Result<Entry, StoreError> {
    Entry::decode(kind, bytes)
        .map_err(|error| StoreError::Unusable(format!("the store's {} {id:?} cannot be read: {error}", kind.as_str())))
}

fn unwritable(error: &redb::Error) -> StoreError {
    let reason = match error {
        redb::Error::Io(error) => error_text::system(error),
        redb::Error::PreviousIo => "an earlier write failed".to_owned(),
        redb::Error::Corrupted(_) => "its file is damaged; restore it from a backup".to_owned(),
        error => error_text::without_codes(&error.to_string()),
    };
    StoreError::Unusable(format!("the store cannot be read or written: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;
    use tempfile::TempDir;

    use super::super::entry::suspension;
    use super::*;

    fn open(folder: &TempDir) -> Result<Embedded, StoreError> {
        Embedded::open(StoreFolder::new(folder.path()), &Arc::default())
    }

    fn create(consumer: &str, reason: &str) -> Change {
        Change::Create(suspension(consumer, reason))
    }

    fn apply(store: &Embedded, changes: &[Change]) -> Result<(), StoreError> {
        store.apply(changes.to_vec()).map(|_| ())
    }

    /// Sweeping reads entries, and removes those that have ended: one that was replaced meanwhile has not.
    #[test]
    fn what_was_replaced_since_it_was_read_is_not_removed() {
        let folder = TempDir::new().unwrap();
        let store = open(&folder).unwrap();
        let id = |id: &str| Change::Remove(Kind::Suspension, id.to_owned());
        apply(&store, &[create("a", "ended"), create("b", "ended"), create("c", "ended")]).unwrap();
        apply(&store, &[Change::Put(suspension("b", "again")), id("c")]).unwrap();
        let sweep = ["a", "b", "c"].map(|name| Change::RemoveIf(suspension(name, "ended")));
        assert_eq!(store.apply(sweep.to_vec()), Ok(vec![id("a")]));
        let left = store.page(Kind::Suspension, None, 10).unwrap();
        assert_eq!(left, [suspension("b", "again")]);
    }

    #[test]
    fn what_is_there_is_not_created_again_and_nothing_of_the_change_is_made() {
        let folder = TempDir::new().unwrap();
        let store = open(&folder).unwrap();
        let reasons = || {
            let all = store.page(Kind::Suspension, None, 10).unwrap();
            all.into_iter().map(|entry| String::from_utf8(entry.encode()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(apply(&store, &[create("a", "first")]), Ok(()));
        let before = reasons();
        let raced = [Change::Put(suspension("b", "beside")), create("a", "second"), create("c", "behind")];
        assert_eq!(apply(&store, &raced), Err(StoreError::Exists));
        assert_eq!(apply(&store, &[create("d", "one"), create("d", "two")]), Err(StoreError::Exists), "twice in one");
        assert_eq!(reasons(), before);
        assert_eq!(apply(&store, &[Change::Remove(Kind::Suspension, "a".to_owned()), create("a", "third")]), Ok(()));
        assert!(reasons().concat().contains("third"));
    }

    /// Of two that replace the same entry, one does, and nothing of the other's change is made.
    #[test]
    fn what_was_changed_since_it_was_read_is_not_replaced() {
        let folder = TempDir::new().unwrap();
        let store = open(&folder).unwrap();
        let swap =
            |before: &str, after: &str| Change::Swap(Box::new((suspension("a", before), suspension("a", after))));
        let beside = |name: &str| Change::Create(suspension(name, "beside"));
        assert_eq!(apply(&store, &[beside("b"), swap("open", "first")]), Err(StoreError::Changed), "there is none");
        apply(&store, &[create("a", "open")]).unwrap();
        assert_eq!(apply(&store, &[beside("b"), swap("open", "first")]), Ok(()));
        assert_eq!(apply(&store, &[beside("c"), swap("open", "second")]), Err(StoreError::Changed));
        assert_eq!(apply(&store, &[swap("open", "first")]), Ok(()), "an earlier try was written after all");
        let left = store.page(Kind::Suspension, None, 10).unwrap();
        assert_eq!(left, [suspension("a", "first"), suspension("b", "beside")]);
    }

    /// A disk that is full at times.
    #[derive(Debug, Clone, Default)]
    struct Disk {
        bytes: Arc<InMemoryBackend>,
        full: Arc<AtomicBool>,
    }

    impl Disk {
        fn space(&self) -> io::Result<()> {
            if self.full.load(Ordering::SeqCst) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.bytes.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.bytes.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.space().and_then(|()| self.bytes.set_len(len))
        }

        fn sync_data(&self) -> io::Result<()> {
            self.space()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.space().and_then(|()| self.bytes.write(offset, data))
        }
    }

    /// U2: a disk that was full once stops no later change, and the health says so meanwhile.
    #[test]
    fn when_there_is_space_again_changes_are_made_again() {
        let (disk, health) = (Disk::default(), Arc::new(AtomicU8::new(Health::Ready as u8)));
        let backend = disk.clone();
        let failed = |error: redb::DatabaseError| StoreError::Unusable(error.to_string());
        let open = move || Database::builder().create_with_backend(backend.clone()).map_err(failed);
        let store = Embedded::opened_by(Box::new(open), &health).unwrap();
        let state = || Health::load(&health);
        assert_eq!((apply(&store, &[create("a", "before")]), state()), (Ok(()), Health::Ready));
        disk.full.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            assert!(apply(&store, &[create("b", "meanwhile")]).is_err());
            assert!(store.probe().is_err());
            assert_eq!(state(), Health::Unwritable);
        }
        disk.full.store(false, Ordering::SeqCst);
        assert_eq!((apply(&store, &[create("c", "after")]), state()), (Ok(()), Health::Ready));
        assert!(store.get(Kind::Suspension, "a").unwrap().is_some(), "what was acknowledged is there");
        assert!(store.get(Kind::Suspension, "c").unwrap().is_some());

        disk.full.store(true, Ordering::SeqCst);
        assert!(store.note_uses(&[]).is_err());
        disk.full.store(false, Ordering::SeqCst);
        assert_eq!((store.probe(), state()), (Ok(()), Health::Ready), "also when nobody changes anything");
    }

    /// U2: a file that is missing, empty or cut where a store was is never an empty store.
    #[test]
    fn a_store_that_was_there_and_is_gone_or_cut_is_refused() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("register.redb");
        // The first start was interrupted before there was a store.
        std::fs::write(&file, b"").unwrap();
        let store = open(&folder).unwrap();
        apply(&store, &[create("a", "first")]).unwrap();
        drop(store);
        let whole = std::fs::read(&file).unwrap();
        for length in [0, 1, 9, 64, 320, 4096, 8192, whole.len() / 2] {
            std::fs::write(&file, &whole[..length]).unwrap();
            let refused = open(&folder).map(|_| ()).unwrap_err().to_string();
            assert!(refused.contains("register.redb is ") && refused.contains("from a backup"), "{length}: {refused}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(open(&folder).map(|_| ()).unwrap_err().to_string().contains("register.redb is missing"));
        std::fs::write(&file, &whole).unwrap();
        assert!(open(&folder).unwrap().get(Kind::Suspension, "a").unwrap().is_some());
        // Starting anew must be asked for.
        std::fs::remove_file(&file).unwrap();
        std::fs::remove_file(folder.path().join("register.created")).unwrap();
        assert_eq!(open(&folder).unwrap().get(Kind::Suspension, "a"), Ok(None));
    }

    /// S20: whatever the umask, nobody else reads or writes the store.
    #[test]
    fn folder_and_files_are_for_this_user_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = TempDir::new().unwrap();
        let state = folder.path().join("a/state");
        let health = Arc::default();
        drop(Embedded::open(StoreFolder::new(&state), &health).unwrap());
        std::fs::set_permissions(state.join("register.redb"), std::fs::Permissions::from_mode(0o666)).unwrap();
        drop(Embedded::open(StoreFolder::new(&state), &health).unwrap());
        let mode = |name: &str| std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!([".", "register.redb", "register.created"].map(mode), [0o700, 0o600, 0o600]);
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(StoreFolder::new(&state).examine().unwrap().unwrap().contains("chmod 700"));
        let file = StoreFolder::new(&state.join("register.redb")).examine().unwrap_err().to_string();
        assert!(file.contains("is a file; name a folder"), "{file}");
    }
}
