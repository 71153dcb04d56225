//! The keys of the token service, as its own tokens are verified with them: from the registry, without a network.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::key_set::{KeySet, VerificationKey};
use super::remote_key_set::Unavailable;
use crate::state::registry::entry::SigningKey;
use crate::state::registry::{Health, Registry};

/// Most keys that are kept parsed; there are two or three.
const MAX_PARSED: usize = 16;

/// Verifies with the signing keys of the registry.
#[derive(Debug)]
pub(super) struct OwnKeys {
    registry: Arc<Registry>,
    /// By `kid`.
    parsed: RwLock<HashMap<Box<str>, Arc<VerificationKey>>>,
}

impl OwnKeys {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, parsed: RwLock::default() }
    }

    /// The key that may have signed a token; none if there is no such key, or its last token has expired.
    ///
    /// # Errors
    /// It is not known here, and the store is out of reach: another node may have made it.
    pub(super) fn for_token(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Vec<Arc<VerificationKey>>, Unavailable> {
        let keys = self.registry.signing_keys();
        let is_known = keys.iter().any(|key| kid == Some(&*key.kid));
        if !is_known && !matches!(self.registry.health(), Health::Ready | Health::Unwritable) {
            return Err(Unavailable);
        }
        let named = keys.iter().filter(|key| kid == Some(&*key.kid) && key.is_accepted(now));
        let parsed = named.filter_map(|key| self.parsed(key));
        Ok(parsed.filter(|key| key.algorithms().contains(&algorithm)).collect())
    }

    /// All keys whose tokens are accepted.
    pub(super) fn set(&self, now: Timestamp) -> KeySet {
        let keys = self.registry.signing_keys();
        KeySet::of(keys.iter().filter(|key| key.is_accepted(now)).filter_map(|key| self.parsed(key)).collect())
    }

    fn parsed(&self, key: &SigningKey) -> Option<Arc<VerificationKey>> {
        if let Some(known) = self.parsed.read().unwrap_or_else(PoisonError::into_inner).get(&key.kid) {
            return Some(Arc::clone(known));
        }
        let (set, _) = KeySet::from_jwks(json!({ "keys": [&key.public] }).to_string().as_bytes()).ok()?;
        let parsed = set.keys().first().cloned()?;
        let mut kept = self.parsed.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_PARSED {
            kept.clear();
        }
        kept.insert(key.kid.clone(), Arc::clone(&parsed));
        Some(parsed)
    }
}
