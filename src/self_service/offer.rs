//! What somebody may call: the routes that are open to them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::exchange::Request;
use crate::exchange::networks::Networks;
use crate::policy::{Access, Policy, Route};
use crate::stages::auth::cache::SentAs;
use crate::stages::auth::{Caller, CredentialKind};

/// Somebody who may call some routes.
pub(crate) struct Reader<'a> {
    pub(crate) consumer: &'a str,
    /// The scopes that it has.
    pub(crate) scopes: &'a [Box<str>],
    /// With which kind of credential it calls.
    pub(crate) kind: CredentialKind,
    /// The host and the address of its request; absent: it is not known yet where it will call, and from where.
    pub(crate) place: Option<(&'a str, Option<IpAddr>)>,
}

impl<'a> Reader<'a> {
    /// The caller of a request.
    pub(crate) fn of(caller: &'a Caller, request: &'a Request<'_>) -> Self {
        let exchange = request.exchange;
        Self {
            consumer: caller.consumer(),
            scopes: caller.granted(),
            kind: caller.credential().0,
            place: Some((&exchange.host, (!exchange.hides_client).then_some(exchange.client))),
        }
    }

    /// Whether it has a scope.
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.scopes.iter().any(|known| **known == *scope)
    }

    fn may_call(&self, route: &Route) -> bool {
        let is_open = match &route.access {
            Access::Public => true,
            Access::Scoped(requirement) => {
                route.api().credentials().takes(SentAs::of(self.kind))
                    && requirement.is_open_to(self.consumer, |scope| self.has(scope), self.kind)
            }
        };
        let Some((host, address)) = self.place else { return is_open };
        let contains = |networks: &Networks| address.is_some_and(|address| networks.contain(address));
        is_open && route.api().serves(host) && route.networks.as_ref().is_none_or(contains)
    }
}

/// The routes that are open to somebody, those of APIs that name their hosts first: they take precedence. What this process answers
/// itself is not among them.
pub(crate) fn open_routes<'p>(policy: &'p Policy, reader: &Reader<'_>) -> impl Iterator<Item = &'p Arc<Route>> {
    let open = policy.routes().iter().filter(|route| route.own.is_none() && reader.may_call(route));
    let (named, others): (Vec<_>, Vec<_>) = open.partition(|route| !route.api().hosts().is_empty());
    named.into_iter().chain(others)
}

/// The method and the path template of a route.
pub(crate) fn method_and_path(route: &Route) -> (&str, &str) {
    route.name().split_once(' ').unwrap_or((route.name(), "/"))
}

/// What a caller has to know of a route beside its body, in sentences.
pub(crate) fn notes(route: &Route, reader: &Reader<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Access::Scoped(requirement) = &route.access {
        if let Some(proofs) = requirement.proofs() {
            let names: Vec<_> = proofs.iter().map(|proof| proof.as_str()).collect();
            notes.push(format!("Needs a proof of possession: {}.", names.join(" or ")));
        }
        if let Some(oldest) = requirement.oldest() {
            notes.push(format!("Needs a token that was issued within the last {oldest} s."));
        }
        if let Some(ownership) = requirement.ownership() {
            let names: Vec<_> = ownership.iter().map(|condition| condition.name().to_owned()).collect();
            notes.push(format!("Only for what is yours, by {}.", names.join(", ")));
        }
    }
    if route.networks.is_some() {
        // Which ones may be those of other partners.
        notes.push("Only from certain networks.".to_owned());
    }
    if let Some(limit) = &route.limits.rate {
        notes.push(format!("At most {}.", limit.allowance()));
    }
    if route.limits.cost.get() > 1 {
        notes.push(format!("Counts as {} requests.", route.limits.cost));
    }
    let hidden = hidden(route, reader);
    if !hidden.is_empty() {
        notes.push(format!("Hidden from you in responses: {}.", hidden.join(", ")));
    }
    notes
}

/// The paths of what is hidden from somebody in the responses of a route.
pub(crate) fn hidden(route: &Route, reader: &Reader<'_>) -> Vec<String> {
    let mask = route.response.as_ref().and_then(|response| response.mask());
    let hidden = mask.and_then(|mask| mask.hidden(|scope| reader.has(scope)));
    hidden.iter().flat_map(|hidden| hidden.paths()).map(str::to_owned).collect()
}
