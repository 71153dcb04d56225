//! Families of refresh tokens in the file of the store.

use jiff::Timestamp;
use redb::{Database, ReadableDatabase, ReadableTable};

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
        let (expected, stored) = (before.map(Family::encode), after.encode());
        self.write(|database| {
            let transaction = database.begin_write()?;
            let mut table = transaction.open_table(FAMILIES)?;
            let known = table.get(&*after.id)?.map(|known| known.value().to_vec());
            // The very same family is there if an earlier try was written after all.
            let fits = known == expected || known.as_ref() == Some(&stored);
            if fits {
                table.insert(&*after.id, &*stored)?;
            }
            drop(table);
            transaction.commit()?;
            Ok(fits)
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
