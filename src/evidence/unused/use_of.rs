//! What records say was used: routes, scopes and keys, by consumer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::evidence::record::{Record, Text};
use crate::policy::{Access, Policy, Route};
use crate::stages::auth::claims::OWN_ISSUER;
use crate::stages::auth::jwt::Issuer;
use crate::stages::mask::Mask;

/// Most policies that are counted separately.
const MOST_POLICIES: usize = 10_000;

/// What one consumer of the policy has used.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// Positions of routes.
    routes: HashSet<usize, ahash::RandomState>,
    pub(super) scopes: BTreeSet<Box<str>>,
}

/// By names of the policy.
type ByName<T> = HashMap<Box<str>, T, ahash::RandomState>;

/// What was used under a policy.
#[derive(Debug)]
pub(super) struct UseOf {
    /// Routes by API and name.
    routes: ByName<ByName<Arc<Route>>>,
    /// Consumers of the policy.
    consumers: ByName<Used>,
    /// All other callers.
    others: Used,
    /// Positions of the routes that somebody asked for.
    asked: HashSet<usize, ahash::RandomState>,
    /// Ids of keys and clients that were sent.
    credentials: ByName<bool>,
    /// Issuers and introspection endpoints, and whether a token of theirs is on record.
    issuers: ByName<bool>,
    /// A token is on record without its issuer.
    has_unnamed_tokens: bool,
    /// Digests of the policies that have decided.
    policies: HashSet<Box<str>, ahash::RandomState>,
}

impl UseOf {
    pub(super) fn new(policy: &Policy, credentials: impl Iterator<Item = Box<str>>) -> Self {
        let mut routes: ByName<ByName<_>> = HashMap::default();
        for route in policy.routes() {
            let of_api = routes.entry(Box::from(&**route.api().name())).or_default();
            of_api.insert(Box::from(&**route.name()), Arc::clone(route));
        }
        let listed = policy.auth().directory.listed().keys();
        let auth = policy.auth();
        let issuers = auth.issuers().map(Issuer::settings);
        let issuers = issuers.chain(auth.introspection.iter().map(|endpoint| endpoint.settings()));
        // Who may have tokens of the token service is a matter of its clients.
        let names = issuers.map(|one| one.name.clone()).filter(|name| **name != *OWN_ISSUER);
        Self {
            routes,
            consumers: listed.map(|name| (name.clone(), Used::default())).collect(),
            others: Used::default(),
            asked: HashSet::default(),
            credentials: credentials.map(|id| (id, false)).collect(),
            issuers: names.map(|name| (name, false)).collect(),
            has_unnamed_tokens: false,
            policies: HashSet::default(),
        }
    }

    /// Adds a record of a request.
    pub(super) fn add(&mut self, record: &Record<'_>) {
        if !self.policies.contains(record.policy()) && self.policies.len() < MOST_POLICIES {
            self.policies.insert(record.policy().into());
        }
        if let (_, Some(id)) = record.credential()
            && let Some(is_sent) = self.credentials.get_mut(id)
        {
            *is_sent = true;
        }
        match (record.credential().0, record.issuer()) {
            (_, Some(issuer)) => {
                if let Some(is_sent) = self.issuers.get_mut(issuer) {
                    *is_sent = true;
                }
            }
            (Some("jwt" | "introspected"), None) => self.has_unnamed_tokens = true,
            _ => {}
        }
        let Some(route) = record.route().and_then(|(api, route)| self.routes.get(api)?.get(route)) else { return };
        self.asked.insert(route.index());
        // What the chain refuses is no use of what it protects.
        if matches!(record.stage(), Some("request" | "auth" | "scope")) {
            return;
        }
        let used = match record.consumer().and_then(|name| self.consumers.get_mut(name)) {
            Some(used) => used,
            None => &mut self.others,
        };
        let is_new = used.routes.insert(route.index());
        // With one way to be let in, and the same response for everybody, the first call says it all.
        if is_new || !is_simple(route) {
            used.scopes_of(route, record.granted());
        }
    }

    /// What a consumer has used.
    pub(super) fn by(&self, consumer: &str) -> Option<&Used> {
        self.consumers.get(consumer)
    }

    /// Whether anybody has used a scope.
    pub(super) fn is_used(&self, scope: &str) -> bool {
        self.consumers.values().chain([&self.others]).any(|used| used.scopes.contains(scope))
    }

    /// Whether somebody asked for a route.
    pub(super) fn is_asked(&self, route: &Route) -> bool {
        self.asked.contains(&route.index())
    }

    /// Whether a key or a client was sent.
    pub(super) fn is_sent(&self, id: &str) -> bool {
        self.credentials.get(id).is_none_or(|is_sent| *is_sent)
    }

    /// Issuers of which no token is on record. Empty if some records do not name the issuer.
    pub(super) fn unused_issuers(&self) -> impl Iterator<Item = &str> {
        let unsent = self.issuers.iter().filter(|(_, is_sent)| !**is_sent).map(|(name, _)| &**name);
        unsent.filter(|_| !self.has_unnamed_tokens)
    }

    /// How many policies have decided, and whether this is one of them.
    pub(super) fn policies(&self, digest: &str) -> (usize, bool) {
        (self.policies.len(), self.policies.contains(digest))
    }
}

impl Used {
    /// Whether it called anything.
    pub(super) fn is_any(&self) -> bool {
        !self.routes.is_empty()
    }

    /// The scopes that let a caller in: of every alternative that it meets, and those that show it more of the response.
    fn scopes_of(&mut self, route: &Route, granted: &[Text<'_>]) {
        let has = |scope: &str| granted.iter().any(|one| **one == *scope);
        let mut add = |scope: &str| {
            if !self.scopes.contains(scope) {
                self.scopes.insert(scope.into());
            }
        };
        if let Access::Scoped(requirement) = &route.access {
            let met = requirement.alternatives().iter().filter(|one| one.scopes.iter().all(|scope| has(scope)));
            met.flat_map(|one| &one.scopes).for_each(|scope| add(scope));
        }
        let shown = route.response.iter().filter_map(|response| response.mask()).flat_map(Mask::scopes);
        shown.filter(|scope| has(scope)).for_each(add);
    }
}

/// Whether every caller that is let in has used the same scopes.
fn is_simple(route: &Route) -> bool {
    let is_masked = route.response.as_ref().is_some_and(|response| response.mask().is_some());
    let is_one = match &route.access {
        Access::Public => true,
        Access::Scoped(requirement) => requirement.alternatives().len() == 1,
    };
    is_one && !is_masked && !route.reporting.any()
}
