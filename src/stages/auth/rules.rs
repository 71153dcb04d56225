//! What the policy says about authentication: names, digests and numbers, without the state of a process.

use std::collections::HashMap;

use super::api_key::ApiKeys;
use super::certificate::Trusts;
use super::client::Clients;
use super::directory::Directory;
use super::dpop;
use super::failed_attempts::Failures;
use super::introspection::Introspection;
use super::jwt::Issuer;
use super::key_location::RemoteKeys;
use super::locations::CredentialLocations;

/// How callers are authenticated.
#[derive(Debug)]
pub(crate) struct Rules {
    /// By exact `iss`.
    pub(crate) issuers: HashMap<Box<str>, Issuer>,
    /// The key sets to fetch; issuers name them by their position.
    pub(crate) key_sets: Vec<RemoteKeys>,
    /// For tokens of other issuers, asked in this order.
    pub(crate) introspection: Vec<Introspection>,
    /// The clients of the token service.
    pub(crate) clients: Clients,
    /// API keys of the policy.
    pub(crate) keys: ApiKeys,
    /// Where credentials are, as APIs that say nothing else take them.
    pub(crate) locations: CredentialLocations,
    /// Which identity belongs to which consumer.
    pub(crate) directory: Directory,
    /// The authorities that sign client certificates, by listener.
    pub(crate) trusts: Trusts,
    /// How proofs of possession are checked.
    pub(crate) dpop: dpop::Settings,
    /// The limit on failed attempts.
    pub(crate) failures: Option<Failures>,
    /// `store.on_failure: serve`: decide by what is known while the store is out of reach.
    pub(crate) serve_stale: bool,
}

impl Rules {
    /// All issuers, in no order.
    pub(crate) fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.values()
    }

    /// The issuer with this name whose token a consumer with this id has, and the id in that token. Its tenant, if it has tenants, comes
    /// before the id.
    pub(crate) fn issuer_of<'a>(&self, name: &str, id: &'a str) -> Option<(&Issuer, &'a str)> {
        let mut named = self.issuers().filter(|issuer| issuer.name() == name);
        named.find_map(|issuer| match &issuer.settings().tenant {
            None => Some((issuer, id)),
            Some(tenant) => {
                id.split_once('/').filter(|(value, _)| **value == *tenant.value).map(|(_, id)| (issuer, id))
            }
        })
    }

    /// The names of all issuers and introspection endpoints, in no order.
    pub(crate) fn issuer_names(&self) -> impl Iterator<Item = &str> {
        let endpoints = self.introspection.iter().map(|endpoint| &*endpoint.settings().name);
        self.issuers().map(Issuer::name).chain(endpoints)
    }
}
