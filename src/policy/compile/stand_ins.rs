//! What a rehearsal puts in the place of the world outside, so that a policy is asked as it is, without a network and without
//! anybody's secrets.
//!
//! The policy is compiled as always, every problem reported, and only then replaced: keys of issuers, digests of API keys,
//! answers of introspection endpoints, and the store, which is an empty one. [`super::compile`] knows nothing of this:
//! a policy that is served has no stand-ins.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonwebtoken::Algorithm;

use crate::stages::auth::api_key::Digest;
use crate::stages::auth::introspection::EndpointStandIn;
use crate::stages::auth::key_set::KeySet;

/// Who stands in for what. `None`: the thing itself.
pub(crate) trait StandIns {
    /// Environment variables, before those of this process.
    fn env(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Fields of secrets in the vault, by reference: `vault:MOUNT/PATH#FIELD`. The vault is then not asked.
    fn secrets(&self) -> Option<BTreeMap<String, String>> {
        None
    }

    /// The keys of an issuer, by its name, for some of the algorithms it may use.
    fn issuer(&self, _name: &str, _algorithms: &[Algorithm]) -> Option<Arc<KeySet>> {
        None
    }

    /// The digest of an API key of the policy, by its id.
    fn api_key(&self, _id: &str) -> Option<Digest> {
        None
    }

    /// The answers of an introspection endpoint, by its name.
    fn endpoint(&self, _name: &str) -> Option<EndpointStandIn> {
        None
    }
}
