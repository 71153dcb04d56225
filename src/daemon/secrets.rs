//! The secrets of the vault: a task reads them again while a policy refers to them, and asks for a reload when one has changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::egress::jittered;
use crate::policy::secret_uses::{PolicyVault, SecretUse};
use crate::runtime::InForce;
use crate::secrets::stale::Holder;
use crate::secrets::vault::{Generation, TransitKey, Vault};
use crate::state::epoch::Epoch;

/// The task of the policy in force. Dropping it ends the task.
pub(super) struct KeptSecrets {
    task: JoinSet<()>,
    /// The changes that the policy in force has.
    loaded: Arc<Mutex<Generation>>,
    changes: mpsc::Sender<()>,
    /// Why the last change could not be put in force.
    failed: Option<Box<str>>,
    vault: Option<Arc<Vault>>,
    /// Advanced when callers that are cached may not go on.
    epoch: Epoch,
}

impl KeptSecrets {
    /// No task yet. A message is sent when a secret has changed.
    pub(super) fn new(epoch: Epoch) -> (Self, mpsc::Receiver<()>) {
        let (changes, changed) = mpsc::channel(1);
        (Self { task: JoinSet::new(), loaded: Arc::default(), changes, failed: None, vault: None, epoch }, changed)
    }

    /// Decides what a policy may not use, before requests see it. `previous` is in force until then.
    pub(super) fn judge(&self, in_force: &InForce, previous: &InForce) {
        in_force.stale.take_over(&previous.stale);
        match &in_force.policy.vault {
            Some(vault) => judge(in_force, vault, &self.epoch),
            None => drop(in_force.stale.replace(BTreeSet::new(), 0)),
        }
    }

    /// Reads the secrets of this policy from now on.
    pub(super) fn commit(&mut self, in_force: &Arc<InForce>) {
        self.task = JoinSet::new();
        self.failed = None;
        self.vault = in_force.policy.vault.as_ref().map(|vault| Arc::clone(&vault.vault));
        let Some(vault) = &in_force.policy.vault else { return };
        vault.vault.kept.retain(&vault.uses.secrets());
        self.loaded(vault);
        vault.vault.retain_certificates(&vault.certificates);
        if !vault.uses.is_empty() || !vault.certificates.is_empty() || !vault.keys.is_empty() {
            let (in_force, loaded, changes) = (Arc::clone(in_force), Arc::clone(&self.loaded), self.changes.clone());
            let epoch = self.epoch.clone();
            self.task.spawn(async move { keep(&in_force, &loaded, &changes, &epoch).await });
        }
    }

    /// Notes that a change could not be put in force, and why. Returns whether that is to be reported: it is tried again with every
    /// `refresh`, and said once.
    pub(super) fn failed(&mut self, why: &str) -> bool {
        let is_new = self.failed.as_deref() != Some(why);
        self.failed = Some(why.into());
        if let Some(vault) = &self.vault {
            vault.kept.reject(*self.loaded.lock().unwrap_or_else(PoisonError::into_inner), Some(why));
        }
        is_new
    }

    /// Notes that these values are those of the policy in force.
    pub(super) fn loaded(&mut self, vault: &PolicyVault) {
        self.failed = None;
        vault.vault.kept.reject(vault.generation, None);
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = vault.generation;
    }
}

/// Reads the secrets again and again. Never returns while there is a vault.
async fn keep(in_force: &InForce, loaded: &Mutex<Generation>, changes: &mpsc::Sender<()>, epoch: &Epoch) {
    let Some(vault) = &in_force.policy.vault else { return };
    let wanted = vault.uses.wanted();
    // Nodes do not ask all at once, and none later than the policy says.
    let next = || Instant::now() + jittered(vault.upkeep.refresh);
    let mut refresh = next();
    loop {
        let left = refresh.saturating_duration_since(Instant::now());
        tokio::time::sleep(vault.vault.next_renewal(&vault.certificates, Timestamp::now(), left)).await;
        if refresh <= Instant::now() {
            vault.vault.fetch(&wanted, Timestamp::now()).await;
            // At once: what follows waits for the vault again.
            judge(in_force, vault, epoch);
            for key in &vault.keys {
                TransitKey::look_for_another(&vault.vault, key).await;
            }
            refresh = next();
        }
        vault.vault.renew(&vault.certificates, Timestamp::now()).await;
        let loaded = *loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if vault.vault.kept.generation() != loaded {
            // One that waits already is enough. While a reload fails, the next round asks again.
            let _ = changes.try_send(());
        }
    }
}

/// Decides what may not go on without a fresh secret, and logs it when that changes.
fn judge(in_force: &InForce, vault: &PolicyVault, epoch: &Epoch) {
    let stale = stale(vault, Timestamp::now());
    let named: BTreeSet<String> = stale.iter().map(|(place, _)| (*place).to_owned()).collect();
    let holders: BTreeSet<Holder> = stale.into_iter().map(|(_, holder)| holder).collect();
    if in_force.stale.replace(if vault.upkeep.serves { BTreeSet::new() } else { holders }, named.len()) {
        // After the change, so that callers cached before it are looked up again.
        epoch.advance();
        let places = named.into_iter().collect::<Vec<_>>().join(", ");
        match (places.is_empty(), vault.upkeep.serves) {
            (true, _) => tracing::info!("no secret is stale any more"),
            (false, true) => {
                tracing::warn!(places, "secrets are stale: the vault has not given them for longer than `stale_for`");
            }
            (false, false) => tracing::error!(
                places,
                "secrets are stale: the vault has not given them for longer than `stale_for`; what needs them is refused"
            ),
        }
    }
}

/// The references whose secrets are too old: where they are, and what needs them.
fn stale(vault: &PolicyVault, now: Timestamp) -> Vec<(&str, Holder)> {
    let is_stale = |one: &&SecretUse| {
        let state = vault.vault.kept.state(&one.reference.secret);
        state.is_some_and(|state| state.is_stale(vault.upkeep.stale_for, now))
    };
    vault.uses.iter().filter(is_stale).map(|one| (&*one.place, one.holder.clone())).collect()
}
