//! Sources of an issuer's keys: fixed ones, a key set that is fetched, or those of the token service.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::Algorithm;

use super::key_set::{KeySet, VerificationKey};
use super::own_keys::OwnKeys;
use super::remote_key_set::{RemoteKeySet, Unavailable};

#[cfg(test)]
impl KeySources {
    /// No keys.
    pub(super) fn none() -> Self {
        let ledger = crate::state::ledger::Ledger::new(std::time::Instant::now());
        let registry =
            crate::state::registry::Registry::new(None, crate::state::epoch::Epoch::default(), ledger.clock());
        Self { remote: Vec::new(), own: OwnKeys::new(Arc::new(registry)) }
    }
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// Read from a file, or a secret, when the policy was compiled.
    Fixed(Arc<KeySet>),
    /// Over the network: the position of the set among those that the policy fetches.
    Remote(usize),
    /// Made here, for the token service.
    Own,
}

/// The keys that are not fixed.
#[derive(Debug)]
pub(super) struct KeySources {
    /// By position in [`super::Rules::key_sets`].
    pub(super) remote: Vec<Arc<RemoteKeySet>>,
    pub(super) own: OwnKeys,
}

impl KeySource {
    /// Whether both are the same keys, in one policy.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fixed(one), Self::Fixed(other)) => Arc::ptr_eq(one, other),
            (Self::Remote(one), Self::Remote(other)) => one == other,
            (Self::Own, Self::Own) => true,
            _ => false,
        }
    }

    /// The keys that may have signed a token; empty when the issuer has no such key.
    pub(super) async fn for_token(
        &self,
        sources: &KeySources,
        kid: Option<&str>,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Vec<Arc<VerificationKey>>, Unavailable> {
        match self {
            Self::Fixed(set) => Ok(set.candidates(kid, algorithm)),
            Self::Remote(position) => {
                sources.remote.get(*position).ok_or(Unavailable)?.for_token(kid, algorithm, now).await
            }
            Self::Own => sources.own.for_token(kid, algorithm, now),
        }
    }
}
