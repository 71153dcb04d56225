//! The registry of the policy in force: opens its store, maintains it in the background, and flushes it when it is no
//! longer used.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::error::StartError;
use crate::state::registry::Registry;

/// How long the store has to save the last uses of API keys.
const LAST_USES: Duration = Duration::from_secs(5);

/// The registry in use, with the task that writes uses of keys and removes expired entries.
#[derive(Default)]
pub(super) struct KeptRegistry(Option<Kept>);

struct Kept {
    registry: Arc<Registry>,
    task: JoinHandle<()>,
    /// Dropped to stop the task between two writes.
    stop: oneshot::Sender<()>,
}

impl KeptRegistry {
    /// Opens the store of a registry, unless it is open already.
    pub(super) async fn prepare(registry: &Registry) -> Result<(), StartError> {
        registry.open().await.map_err(|error| StartError::System(error.to_string()))
    }

    /// Maintains this registry from now on. Does nothing if it is the same as before.
    pub(super) async fn commit(&mut self, registry: &Arc<Registry>) {
        if self.0.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.registry, registry)) {
            return;
        }
        if let Some(counters) = registry.counters() {
            counters.take_over();
        }
        self.close().await;
        let (kept, (stop, stopped)) = (Arc::clone(registry), oneshot::channel());
        let task = tokio::spawn(async move { kept.keep(stopped).await });
        self.0 = Some(Kept { registry: Arc::clone(registry), task, stop });
    }

    /// Writes pending changes, and stops.
    pub(super) async fn close(&mut self) {
        let Some(Kept { registry, task, stop }) = self.0.take() else { return };
        drop(stop);
        let last = async {
            // A panic has been logged already.
            let _ = task.await;
            registry.flush().await;
            if let Some(counters) = registry.counters() {
                counters.close().await;
            }
        };
        if tokio::time::timeout(LAST_USES, last).await.is_err() {
            tracing::warn!("the last uses of API keys were not saved: the store did not answer in time");
        }
    }
}
