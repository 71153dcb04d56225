//! Sources of an issuer's keys: fixed ones, or a key set that is fetched.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::Algorithm;

use super::key_set::{KeySet, VerificationKey};
use super::remote_key_set::{RemoteKeySet, Unavailable};

/// Where an issuer's keys come from.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// Read from a file, or a secret, when the policy was compiled.
    Fixed(Arc<KeySet>),
    /// Over the network: the position of the set among those that the policy fetches.
    Remote(usize),
}

impl KeySource {
    /// The keys that may have signed a token; empty when the issuer has no such key.
    pub(crate) async fn for_token(
        &self,
        key_sets: &[Arc<RemoteKeySet>],
        kid: Option<&str>,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Vec<Arc<VerificationKey>>, Unavailable> {
        match self {
            Self::Fixed(set) => Ok(set.candidates(kid, algorithm)),
            Self::Remote(position) => key_sets.get(*position).ok_or(Unavailable)?.for_token(kid, algorithm, now).await,
        }
    }
}
