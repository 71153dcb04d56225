//! Which consumer may call which route, by the credentials that the policy gives it.

use std::collections::BTreeSet;

use super::value::Value;
use crate::policy::{Access, Policy, Route};
use crate::stages::scope::{Alternative, By};

/// What the credentials of a consumer can be used for at most.
#[derive(Debug, Default)]
pub(super) struct Reach<'a> {
    /// The scopes of each credential; absent: any, as the issuer says.
    tokens: Vec<Option<BTreeSet<&'a str>>>,
    keys: Vec<BTreeSet<&'a str>>,
    certificates: Vec<BTreeSet<&'a str>>,
    has_certificate: bool,
}

impl<'a> Reach<'a> {
    /// That of a consumer of the policy.
    pub(super) fn of(policy: &Value, compiled: &'a Policy, name: &str) -> Option<Self> {
        let consumer = compiled.auth().directory.listed().get(name)?;
        let ceiling: Option<BTreeSet<&str>> =
            consumer.ceiling().map(|scopes| scopes.iter().map(|scope| &**scope).collect());
        let written = policy.at(&["consumers", name])?;
        let list = |key: &str| written.get(key).map(Value::items).unwrap_or_default();
        let of_roles = || ceiling.clone().unwrap_or_default();
        let is_token = |identity: &&Value| identity.get("issuer").is_some();
        let has_certificate = list("identities").iter().any(|identity| !is_token(&identity));
        let mut reach = Self { has_certificate, ..Self::default() };
        if list("identities").iter().any(|identity| is_token(&identity)) || !list("clients").is_empty() {
            reach.tokens.push(ceiling.clone());
        }
        if reach.has_certificate {
            reach.certificates.push(of_roles());
        }
        for key in list("keys") {
            let narrowed = key.get("scopes").map(Value::texts);
            let within = |scope: &&str| narrowed.as_ref().is_none_or(|scopes| scopes.contains(scope));
            reach.keys.push(of_roles().into_iter().filter(within).collect());
        }
        // Operators make keys, too.
        if compiled.has_store() {
            reach.keys.push(of_roles());
        }
        Some(reach)
    }

    /// Whether a consumer of this name may call a route at all.
    pub(super) fn may_call(&self, name: &str, route: &Route) -> bool {
        match &route.access {
            Access::Public => true,
            Access::Scoped(requirement) => {
                let is_approved = requirement.only().is_none_or(|only| only.iter().any(|one| **one == *name));
                is_approved && requirement.alternatives().iter().any(|alternative| self.meets(alternative))
            }
        }
    }

    fn meets(&self, Alternative { scopes, by, certificate }: &Alternative) -> bool {
        let has = |own: &BTreeSet<&str>| scopes.iter().all(|scope| own.contains(&**scope));
        let token = || self.tokens.iter().any(|own| own.as_ref().is_none_or(has));
        let key = || self.keys.iter().any(has);
        let has_kind = match by {
            Some(By::Token) => token(),
            Some(By::Key) => key(),
            None => token() || key() || self.certificates.iter().any(has),
        };
        has_kind && (!certificate || self.has_certificate)
    }

    /// Every scope that one of its credentials may have; absent: any.
    pub(super) fn scopes(&self) -> Option<BTreeSet<&'a str>> {
        let tokens: Option<Vec<_>> = self.tokens.iter().map(Option::as_ref).collect();
        Some(tokens?.into_iter().chain(&self.keys).chain(&self.certificates).flatten().copied().collect())
    }
}
