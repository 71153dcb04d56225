//! The registry of the policy in force: opens its store, maintains it in the background, and flushes it when it is no
//! longer used.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::error::StartError;
use crate::state::registry::Registry;

/// The registry in use, with the task that writes uses of keys and removes expired entries.
#[derive(Default)]
pub(super) struct KeptRegistry(Option<(Arc<Registry>, JoinSet<()>)>);

impl KeptRegistry {
    /// Opens the store of a registry, unless it is open already.
    pub(super) async fn prepare(registry: &Registry) -> Result<(), StartError> {
        registry.open().await.map_err(|error| StartError::System(error.to_string()))
    }

    /// Maintains this registry from now on. Does nothing if it is the same as before.
    pub(super) async fn commit(&mut self, registry: &Arc<Registry>) {
        if self.0.as_ref().is_some_and(|(kept, _)| Arc::ptr_eq(kept, registry)) {
            return;
        }
        self.close().await;
        let (kept, mut task) = (Arc::clone(registry), JoinSet::new());
        task.spawn(async move { kept.keep().await });
        self.0 = Some((Arc::clone(registry), task));
    }

    /// Writes pending changes, and stops.
    pub(super) async fn close(&mut self) {
        // The task is aborted when it is dropped.
        if let Some((registry, _)) = self.0.take() {
            registry.flush().await;
        }
    }
}
