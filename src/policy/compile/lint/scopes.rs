//! Scopes that a route asks for and nobody can have, and scopes with two names.

use std::collections::BTreeMap;

use super::finding::{Finding, Lint};
use crate::policy::document::{Consumer, Document};
use crate::policy::source::{Place, quote};
use crate::policy::tree::At;
use crate::policy::{Access, Route};

/// Shortest scope that may be a misspelt one.
const SHORTEST: usize = 5;

/// Every scope of roles and routes, and the first place that has it.
pub(super) fn check(document: &Document, routes: &[&Route], at: At<'_>) -> Vec<Finding> {
    let mut granted: BTreeMap<&str, Place> = BTreeMap::new();
    for (role, scopes) in &document.roles {
        for (position, scope) in scopes.iter().enumerate() {
            let place = || at.key("roles").key(role).index(position).place();
            granted.entry(scope).or_insert_with(place);
        }
    }
    let mut asked: BTreeMap<&str, (&Route, Place)> = BTreeMap::new();
    for route in routes {
        for scope in required(route) {
            asked.entry(scope).or_insert_with(|| (route, place(document, route, scope, at)));
        }
    }
    let is_closed = !is_open(document);
    let mut findings = Vec::new();
    for (scope, (route, place)) in asked.iter().filter(|(scope, _)| !granted.contains_key(**scope)) {
        let meant = granted.keys().find(|other| are_near(scope, other));
        let message = format!("no role has the scope {}, which {} asks for", quote(scope), quote(route.name()));
        let help = match meant {
            Some(other) => format!("did you mean {}?", quote(other)),
            None if is_closed => "write it at a role: nobody can call this route".to_owned(),
            None => continue,
        };
        let (about, place) = ((*scope).to_owned(), place.clone());
        findings.push(Finding { lint: Lint::UngrantedScope, about, place, message, help });
    }
    let reported = |scope: &str| findings.iter().any(|finding| finding.about == scope);
    // The place in a role comes first.
    let of_routes = asked.iter().map(|(scope, (_, place))| (*scope, place));
    let all: BTreeMap<&str, &Place> = of_routes.chain(granted.iter().map(|(scope, place)| (*scope, place))).collect();
    let mut twins = Vec::new();
    for (position, (scope, place)) in all.iter().enumerate() {
        let others = all.keys().take(position).filter(|other| !reported(scope) && !reported(other));
        if let Some(other) = others.into_iter().find(|other| are_near(scope, other)) {
            twins.push(Finding {
                lint: Lint::TwoNames,
                about: (*scope).to_owned(),
                place: (*place).clone(),
                message: format!("{} and {} may be two names of one scope", quote(scope), quote(other)),
                help: "write one of them everywhere".to_owned(),
            });
        }
    }
    findings.extend(twins);
    findings
}

/// The scopes that a route requires, of all alternatives.
fn required(route: &Route) -> impl Iterator<Item = &str> {
    let alternatives = match &route.access {
        Access::Public => &[],
        Access::Scoped(requirement) => requirement.alternatives(),
    };
    alternatives.iter().flat_map(|alternative| alternative.scopes.iter().map(|scope| &**scope))
}

/// Where a route asks for a scope: in the policy, or in the description of its API.
fn place(document: &Document, route: &Route, scope: &str, at: At<'_>) -> Place {
    let (api, name) = (&**route.api().name(), &**route.name());
    let written = document.apis.get(api).and_then(|api| api.routes.get(name));
    let position = written.and_then(|route| route.scopes.as_ref()?.iter().position(|one| one == scope));
    let at = at.key("apis").key(api);
    match position {
        Some(position) => at.key("routes").key(name).key("scopes").index(position).place(),
        None => at.key("openapi").place(),
    }
}

/// Whether somebody may have scopes that no role has: tokens of consumers without roles, and grants of operators.
fn is_open(document: &Document) -> bool {
    let without_roles = |consumer: &Consumer| {
        consumer.roles.is_none() && consumer.identities.iter().any(|identity| identity.issuer.is_some())
    };
    document.store.is_some()
        || document.auth.issuers.values().any(|issuer| issuer.default_plan.is_some())
        || document.auth.introspection.values().any(|endpoint| endpoint.default_plan.is_some())
        || document.consumers.values().any(without_roles)
}

/// Whether two scopes are probably one: they differ in case, in what separates their parts, or by one letter.
fn are_near(one: &str, other: &str) -> bool {
    let plain = |scope: &str| scope.to_ascii_lowercase().replace(['.', '_', '-', '/'], ":");
    let (one, other) = (plain(one), plain(other));
    if one == other {
        return true;
    }
    // `v1:read` and `v2:read` are two on purpose, and so are short ones.
    let letters = |scope: &str| scope.chars().filter(|character| !character.is_ascii_digit()).collect::<String>();
    let is_long = one.len().min(other.len()) >= SHORTEST;
    is_long && letters(&one) != letters(&other) && strsim::osa_distance(&one, &other) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_that_differ_by_a_slip_are_near() {
        for (one, other, near) in [
            ("orders:read", "order:read", true),
            ("orders:read", "orders.read", true),
            ("orders:read", "Orders:Read", true),
            ("orders:raed", "orders:read", true),
            ("orders:read", "orders:write", false),
            ("orders:read", "orders:refund", false),
            ("orders:read", "users:read", false),
            ("v1:read", "v2:read", false),
            ("tier:1", "tier:12", false),
            ("a", "b", false),
            ("read", "reed", false),
        ] {
            assert_eq!(are_near(one, other), near, "{one} {other}");
        }
    }
}
