//! Scopes that a route asks for and nobody can have, and scopes with two names.

use std::collections::BTreeMap;

use super::finding::{Finding, Lint};
use crate::policy::Route;
use crate::policy::document::{Consumer, Document};
use crate::policy::source::{Place, quote};
use crate::policy::tree::At;
use crate::stages::mask::Mask;

/// Shortest scope that may be a misspelt one.
const SHORTEST: usize = 5;

/// Every scope of roles, routes and masks, and the first place that has it.
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
        for scope in route.all_scopes() {
            asked.entry(scope).or_insert_with(|| (route, place(document, route, scope, at)));
        }
    }
    let shown = shown(document, routes, &asked, at);
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
    findings.extend(shown.iter().filter_map(|(scope, seen)| misspelt(scope, seen, &granted)));
    let reported = |scope: &str| findings.iter().any(|finding| finding.about == scope);
    // The place in a role comes first.
    let of_routes = asked.iter().chain(&shown).map(|(scope, (_, place))| (*scope, place));
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

/// Every scope that masks alone name, and the first route and place that has it.
fn shown<'r>(
    document: &Document,
    routes: &[&'r Route],
    asked: &BTreeMap<&str, (&Route, Place)>,
    at: At<'_>,
) -> BTreeMap<&'r str, (&'r Route, Place)> {
    let mut shown = BTreeMap::new();
    for route in routes {
        let scopes = route.response.iter().filter_map(|response| response.mask()).flat_map(Mask::scopes);
        for scope in scopes.filter(|scope| !asked.contains_key(scope)) {
            shown.entry(scope).or_insert_with(|| (*route, place_of_mask(document, route, at)));
        }
    }
    shown
}

/// What a mask shows to a scope that nobody has, it shows to nobody, which may be meant; but not where the scope is near another.
fn misspelt(scope: &str, (route, place): &(&Route, Place), granted: &BTreeMap<&str, Place>) -> Option<Finding> {
    let meant = granted.keys().find(|other| are_near(scope, other)).filter(|_| !granted.contains_key(scope))?;
    let message = format!("no role has the scope {}, which a mask of {} names", quote(scope), quote(route.name()));
    let (about, help) = (scope.to_owned(), format!("did you mean {}?", quote(meant)));
    Some(Finding { lint: Lint::UngrantedScope, about, place: place.clone(), message, help })
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

/// Where a route says what it hides: in the policy, or in the description of its API.
fn place_of_mask(document: &Document, route: &Route, at: At<'_>) -> Place {
    let (api, name) = (&**route.api().name(), &**route.name());
    let written = document.apis.get(api).and_then(|api| api.routes.get(name)?.response.as_ref());
    let at = at.key("apis").key(api);
    match written.is_some_and(|response| !response.mask.is_empty()) {
        true => at.key("routes").key(name).key("response").key("mask").place(),
        false => at.key("openapi").place(),
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
