//! The one interface of both stores: a folder of this machine, or Redis for many nodes.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::embedded::Embedded;
use super::entry::{Change, Entry, Kind, LastUse};
use super::redis::Redis;

/// Which store, as the policy has it.
#[derive(Debug, Clone)]
pub(crate) enum StoreConfig {
    /// In a folder of this machine, for one node.
    Embedded {
        /// The folder.
        folder: PathBuf,
    },
    /// In Redis or Valkey, for many nodes.
    Redis {
        /// `redis://` or `rediss://`; holds the password.
        url: SecretString,
        /// What the names of all its keys begin with.
        prefix: Box<str>,
        /// PEM of the authorities that vouch for a `rediss://` server; default: the system's.
        ca: Option<String>,
    },
}

impl StoreConfig {
    /// As metrics name it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Embedded { .. } => "embedded",
            Self::Redis { .. } => "redis",
        }
    }
}

impl PartialEq for StoreConfig {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Embedded { folder }, Self::Embedded { folder: other }) => folder == other,
            (Self::Redis { url, prefix, ca }, Self::Redis { url: other_url, prefix: other_prefix, ca: other_ca }) => {
                url.expose_secret() == other_url.expose_secret() && prefix == other_prefix && ca == other_ca
            }
            _ => false,
        }
    }
}

/// Why a store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// The policy has none.
    None,
    /// What was to be created is there; nothing was changed.
    Exists,
    /// Another process has it.
    InUse(String),
    /// It cannot be reached now; nothing was changed, or it is not known whether something was.
    Unreachable(String),
    /// It is broken, or does not hold what it should.
    Unusable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("the policy has no `store`, so nothing can be kept; write `store: state/`"),
            Self::Exists => f.write_str("there is one with this id"),
            Self::InUse(which) => write!(f, "the store {which} is in use by another process"),
            Self::Unreachable(why) => write!(f, "the store cannot be reached: {why}"),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}

/// An open store.
pub(super) enum Store {
    Embedded(Embedded),
    Redis(Box<Redis>),
}

impl Store {
    /// Makes all changes or none; they are kept when this returns.
    ///
    /// Returns once this node has them in force, too, where it learns of them from the store.
    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Change>, StoreError> {
        match self {
            Self::Embedded(store) => {
                let store = store.clone();
                blocking(move || store.apply(&changes).map(|()| changes)).await
            }
            Self::Redis(store) => store.apply(&changes).await.map(|()| Vec::new()),
        }
    }

    /// Up to `limit` entries of a kind, by id, behind `after`.
    pub(super) async fn page(&self, kind: Kind, after: Option<String>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        match self {
            Self::Embedded(store) => {
                let store = store.clone();
                blocking(move || store.page(kind, after.as_deref(), limit)).await
            }
            Self::Redis(store) => store.page(kind, after.as_deref(), limit).await,
        }
    }

    /// One entry.
    pub(super) async fn get(&self, kind: Kind, id: &str) -> Result<Option<Entry>, StoreError> {
        match self {
            Self::Embedded(store) => {
                let (store, id) = (store.clone(), id.to_owned());
                blocking(move || store.get(kind, &id)).await
            }
            Self::Redis(store) => store.get(kind, id).await,
        }
    }

    /// Notes when keys were last used.
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
    done.unwrap_or_else(|error| Err(StoreError::Unusable(format!("the store's thread ended: {error}"))))
}
