//! The vaults that a process uses.

use std::sync::{Arc, Mutex, PoisonError};

use super::login::Unwrapped;
use super::settings::VaultSettings;
use super::state::Vault;

/// All vaults in use: that of the policy in force, and maybe that of one which is being loaded.
#[derive(Default)]
pub(crate) struct Vaults {
    known: Mutex<Vec<Arc<Vault>>>,
    unwrapped: Arc<Unwrapped>,
}

impl Vaults {
    /// The vault with these settings. A new one of the same place has what is known from there.
    pub(crate) fn vault(&self, settings: &VaultSettings) -> Arc<Vault> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vault) = known.iter().find(|vault| *vault.settings == *settings) {
            return Arc::clone(vault);
        }
        let before = known.iter().find(|vault| vault.settings.is_same_vault(settings));
        let vault = Arc::new(Vault::new(settings.clone(), before.map(|vault| &**vault), &self.unwrapped));
        known.push(Arc::clone(&vault));
        vault
    }

    /// Forgets all but this one.
    pub(crate) fn keep(&self, used: Option<&Arc<Vault>>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|vault| used.is_some_and(|used| Arc::ptr_eq(used, vault)));
    }
}

/// Runs something that waits for the network, whatever thread this is. The error: the system gives no thread.
pub(crate) fn blocking<T: Send>(work: impl Future<Output = T> + Send) -> Result<T, String> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| crate::error_text::system(&error))?;
        let done = runtime.block_on(work);
        // A look-up of a name cannot be ended: who waits has a deadline, and does not wait for it.
        runtime.shutdown_background();
        Ok(done)
    };
    // A runtime cannot be started within another one.
    std::thread::scope(|scope| match std::thread::Builder::new().name("vault".to_owned()).spawn_scoped(scope, run) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())),
        Err(error) => Err(crate::error_text::system(&error)),
    })
}
