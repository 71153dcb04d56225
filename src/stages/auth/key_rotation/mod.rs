//! API keys that are made on schedule, for consumers that read them from a vault.
//!
//! The next key is made here, stored, written to the vault, and only then does the one before get its end. So the key that a
//! consumer finds is always accepted, and while the vault cannot be written the key before stays, beyond its time. `step`
//! decides what is to be done, [`rotator`] does it, and [`progress`] is what this process knows of it besides the store.
//!
//! A key is written to the vault by the process that made it, because nobody else ever knows it. If that process ends before, or
//! takes too long, another one looks into the vault, which says whether the key was written, and otherwise makes the next one.

pub(crate) mod progress;
pub(crate) mod rotator;
mod step;

use jiff::{SignedDuration, Timestamp};

use crate::exchange::networks::Networks;
use crate::secrets::vault::VaultReference;
use crate::state::registry::entry::Key;

/// `created_by` of keys that no operator has asked for.
pub(crate) const SCHEDULE: &str = "schedule";

/// How the keys of a consumer are rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRotation {
    /// The id in the policy; those of the keys are this one, `-`, and a number.
    pub(crate) id: Box<str>,
    /// The consumer that owns the keys.
    pub(crate) consumer: Box<str>,
    /// Restricts what the consumer's roles allow.
    pub(crate) scopes: Option<Vec<Box<str>>>,
    /// Where the keys are good from, within what the consumer may.
    pub(crate) networks: Option<Networks>,
    /// How long after a key the next one is made.
    pub(crate) every: SignedDuration,
    /// How long the key before is accepted when the next one is in the vault.
    pub(crate) overlap: SignedDuration,
    /// Where the consumer finds its key.
    pub(crate) deliver: VaultReference,
}

impl KeyRotation {
    /// Whether a key of the store is one of its keys.
    pub(crate) fn owns(&self, key: &Key) -> bool {
        key.consumer == self.consumer && key.rotation.as_ref().is_some_and(|rotation| rotation.of == self.id)
    }

    /// When the next key is to be made after this one; absent: it was replaced, or the vault does not have it yet.
    pub(crate) fn next(&self, key: &Key) -> Option<Timestamp> {
        let rotation = key.rotation.as_ref().filter(|_| key.replaced_by.is_none() && self.owns(key))?;
        rotation.delivered.map(|delivered| delivered.saturating_add(self.every).unwrap_or(Timestamp::MAX))
    }
}

#[cfg(test)]
mod tests;
