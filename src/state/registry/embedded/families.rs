//! Families of refresh tokens in the file of the store.
//!
//! Every token that is given is a write that must be on disk. Those that come while another is written are written together.

use std::sync::Arc;

use jiff::Timestamp;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::swaps::Swap;
use super::{Embedded, FAMILIES};
use crate::state::registry::family::Family;
use crate::state::registry::store_error::StoreError;

impl Embedded {
    /// Returns the family with this id. Blocks.
    pub(crate) fn family(&self, id: &str) -> Result<Option<Family>, StoreError> {
        let found = self.read_file(|database| {
            let table = database.begin_read()?.open_table(FAMILIES)?;
            Ok(table.get(id)?.map(|value| value.value().to_vec()))
        })?;
        found.map(|bytes| Family::decode(id, &bytes)).transpose()
    }

    /// Stores a family in place of `before`; returns false, with nothing changed, if another is there. Blocks.
    pub(crate) fn swap_family(&self, before: Option<&Family>, after: &Family) -> Result<bool, StoreError> {
        let swap = Swap::new(&after.id, before.map(Family::encode), after.encode());
        self.0.swaps.add(swap, |swaps| self.write_swaps(swaps))
    }

    /// Writes all of them in one transaction, one after the other. Returns which took the place of the other.
    fn write_swaps(&self, swaps: &[Arc<Swap>]) -> Result<Vec<bool>, StoreError> {
        self.write(|database| {
            let transaction = database.begin_write()?;
            let mut table = transaction.open_table(FAMILIES)?;
            let mut fitting = Vec::with_capacity(swaps.len());
            for swap in swaps {
                let known = table.get(swap.id())?.map(|known| known.value().to_vec());
                // The very same family is there if an earlier try was written after all.
                let fits = known == swap.expected || known.as_ref() == Some(&swap.stored);
                if fits {
                    table.insert(swap.id(), &*swap.stored)?;
                }
                fitting.push(fits);
            }
            drop(table);
            transaction.commit()?;
            Ok(fitting)
        })
    }

    /// Removes the families that have ended. Blocks.
    pub(crate) fn sweep_families(&self, now: Timestamp) -> Result<(), StoreError> {
        let ended = |value: &[u8]| serde_json::from_slice::<Family>(value).is_ok_and(|family| family.end() <= now);
        let any = self.read_file(|database| {
            let table = database.begin_read()?.open_table(FAMILIES)?;
            for row in table.iter()? {
                if ended(row?.1.value()) {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if !any {
            return Ok(());
        }
        self.write(|database: &Database| {
            let transaction = database.begin_write()?;
            transaction.open_table(FAMILIES)?.retain(|_, value| !ended(value))?;
            transaction.commit()?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;

    use super::super::swaps::lock;
    use super::*;

    fn family(id: &str, generation: u64) -> Family {
        let at = Timestamp::UNIX_EPOCH;
        Family {
            id: id.into(),
            client: "acme-1".into(),
            scopes: Vec::new(),
            audience: Vec::new(),
            jkt: None,
            created: at,
            expires: at,
            idle: at,
            generation,
            rotated: at,
        }
    }

    /// Counts how often it is synced.
    #[derive(Debug, Clone, Default)]
    struct Disk(Arc<InMemoryBackend>, Arc<AtomicUsize>);

    impl StorageBackend for Disk {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.0.set_len(len)
        }

        fn sync_data(&self) -> std::io::Result<()> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.0.write(offset, data)
        }
    }

    #[test]
    fn families_that_wait_are_written_together_and_each_once() {
        let disk = Disk::default();
        let backend = disk.clone();
        let failed = |error: redb::DatabaseError| StoreError::Unusable(error.to_string());
        let open = move || Database::builder().create_with_backend(backend.clone()).map_err(failed);
        let store = Embedded::opened_by(Box::new(open), &Arc::default()).unwrap();
        let syncs = || disk.1.load(Ordering::SeqCst);
        let before = syncs();
        assert_eq!(store.swap_family(None, &family("first", 0)), Ok(true));
        let one = syncs() - before;

        let before = syncs();
        let writing = lock(&store.0.swaps.writing);
        // Of two that would follow the same one, one does.
        let swap = |store: &Embedded, number: u64| match number {
            0 | 1 => store.swap_family(Some(&family("first", 0)), &family("first", 1 + number)),
            number => store.swap_family(None, &family(&number.to_string(), 0)),
        };
        let swaps: Vec<_> = (0..20)
            .map(|number| {
                let store = store.clone();
                thread::spawn(move || swap(&store, number))
            })
            .collect();
        while lock(&store.0.swaps.waiting).len() < 20 {
            thread::yield_now();
        }
        drop(writing);
        let done: Vec<_> = swaps.into_iter().map(|swap| swap.join().unwrap().unwrap()).collect();
        assert_eq!(done[..2].iter().filter(|done| **done).count(), 1, "{done:?}");
        assert!(done[2..].iter().all(|done| *done), "{done:?}");
        assert_eq!(syncs() - before, one, "all in one transaction");
        for number in 2..20_u64 {
            assert_eq!(store.family(&number.to_string()), Ok(Some(family(&number.to_string(), 0))));
        }
        assert!(store.family("first").unwrap().is_some_and(|family| family.generation > 0));
    }
}
