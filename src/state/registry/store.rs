//! The one interface of both stores: a folder of this machine, or Redis for many nodes.

use jiff::Timestamp;

use super::embedded::Embedded;
use super::entry::{Change, Entry, Kind, LastUse};
use super::family::Family;
use super::redis::Redis;
use super::store_error::StoreError;

/// An open store.
pub(super) enum Store {
    Embedded(Embedded),
    Redis(Box<Redis>),
}

impl Store {
    /// Makes all changes or none; they are stored when this returns.
    ///
    /// Returns the changes that the caller must still put in force on this node: none if it follows the store.
    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Change>, StoreError> {
        match self {
            Self::Embedded(store) => {
                let store = store.clone();
                blocking(move || store.apply(changes)).await
            }
            Self::Redis(store) => store.apply(&changes).await.map(|()| Vec::new()),
        }
    }

    /// Returns up to `limit` entries of a kind, by id, after `after`.
    pub(super) async fn page(&self, kind: Kind, after: Option<String>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        match self {
            Self::Embedded(store) => {
                let store = store.clone();
                blocking(move || store.page(kind, after.as_deref(), limit)).await
            }
            Self::Redis(store) => store.page(kind, after.as_deref(), limit).await,
        }
    }

    /// Returns one entry.
    pub(super) async fn get(&self, kind: Kind, id: &str) -> Result<Option<Entry>, StoreError> {
        match self {
            Self::Embedded(store) => {
                let (store, id) = (store.clone(), id.to_owned());
                blocking(move || store.get(kind, &id)).await
            }
            Self::Redis(store) => store.get(kind, id).await,
        }
    }

    /// Returns one family of refresh tokens.
    pub(super) async fn family(&self, id: &str) -> Result<Option<Family>, StoreError> {
        match self {
            Self::Embedded(store) => {
                let (store, id) = (store.clone(), id.to_owned());
                blocking(move || store.family(&id)).await
            }
            Self::Redis(store) => store.families().get(id).await,
        }
    }

    /// Stores a family in place of `before`; returns false, with nothing changed, if another is there.
    pub(super) async fn swap_family(
        &self,
        before: Option<Family>,
        after: Family,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => {
                let store = store.clone();
                blocking(move || store.swap_family(before.as_ref(), &after)).await
            }
            Self::Redis(store) => store.families().swap(before.as_ref(), &after, now).await,
        }
    }

    /// Removes the families that have ended; Redis does so by itself.
    pub(super) async fn sweep_families(&self, now: Timestamp) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => {
                let store = store.clone();
                blocking(move || store.sweep_families(now)).await
            }
            Self::Redis(_) => Ok(()),
        }
    }

    /// Stores when keys were last used.
    pub(super) async fn note_uses(&self, uses: Vec<(Box<str>, LastUse)>) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => {
                let store = store.clone();
                blocking(move || store.note_uses(&uses)).await
            }
            Self::Redis(store) => store.note_uses(&uses).await,
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Unusable(format!("the store's task failed: {error}"))))
}
