//! Which route takes the requests of which: routes are compared by the requests that they match, not by their names.
//!
//! A route that goes may leave its requests to a wider one, and one that comes may take them from another. So each route's requests
//! are tried on both policies, by a sample for each host.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use super::order::Verdict;
use crate::policy::{Access, Policy, Route};
use crate::refusal::Stage;
use crate::stages::scope::Alternative;

/// Stands for any text in a host or a path.
const SAMPLE: &str = "0sample0";
/// So many segments of `{name...}` are tried, until one is not that of a more specific route.
const DEPTH: usize = 6;

/// What both policies do with the same requests.
#[derive(Debug)]
pub(super) struct Routed<'a> {
    /// The route in the old policy; absent: they were refused.
    pub(super) old: Option<&'a Route>,
    /// The same in the new policy.
    pub(super) new: Option<&'a Route>,
}

/// Every pair of routes that take the same requests, each once; and the routes of which no request could be tried.
pub(super) fn pair<'a>(old: &'a Policy, new: &'a Policy) -> (Vec<Routed<'a>>, Vec<&'a Route>) {
    let mut hosts: BTreeSet<String> = BTreeSet::from([format!("{SAMPLE}.invalid")]);
    for api in old.apis().iter().chain(new.apis()) {
        hosts.extend(api.hosts().iter().map(|host| host.replace('*', SAMPLE)));
    }
    let mut pairs: BTreeMap<_, Routed<'a>> = BTreeMap::new();
    let mut untried = Vec::new();
    for policy in [old, new] {
        for route in policy.routes() {
            let mut is_tried = false;
            for host in hosts.iter().filter(|host| route.api().serves(host)) {
                let Some((method, path)) = sample(policy, host, route) else { continue };
                is_tried = true;
                let [old, new] = [old, new].map(|policy| found(policy, host, &method, &path));
                pairs.insert((old.map(Route::index), new.map(Route::index)), Routed { old, new });
            }
            if !is_tried {
                untried.push(&**route);
            }
        }
    }
    (pairs.into_values().collect(), untried)
}

fn found<'a>(policy: &'a Policy, host: &str, method: &Method, path: &str) -> Option<&'a Route> {
    policy.route(host, method, path, None).ok().map(|route| &**route)
}

/// A request that this policy gives to this route.
fn sample(policy: &Policy, host: &str, route: &Route) -> Option<(Method, String)> {
    let (method, template) = route.name().split_once(' ')?;
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let mut paths = (1..=DEPTH).map(|depth| filled(template, depth));
    let path = paths.find(|path| found(policy, host, &method, path).is_some_and(|one| one.index() == route.index()))?;
    Some((method, path))
}

/// A template with samples for its names, and so many for the rest of the path.
fn filled(template: &str, depth: usize) -> String {
    let mut path = String::new();
    let mut rest = template;
    while let Some((text, inner)) = rest.split_once('{') {
        let (name, after) = inner.split_once('}').unwrap_or((inner, ""));
        path.push_str(text);
        let samples = if name.ends_with("...") { vec![SAMPLE; depth] } else { vec![SAMPLE] };
        path.push_str(&samples.join("/"));
        rest = after;
    }
    path + rest
}

/// How access to a route has changed, by its scopes; `None` if it has not.
pub(super) fn access(old: &Access, new: &Access) -> Option<Verdict> {
    let order = match (old, new) {
        (Access::Public, Access::Public) => Some(Ordering::Equal),
        (Access::Public, Access::Scoped(_)) => Some(Ordering::Less),
        (Access::Scoped(_), Access::Public) => Some(Ordering::Greater),
        (Access::Scoped(old), Access::Scoped(new)) => {
            match (implies(new.alternatives(), old.alternatives()), implies(old.alternatives(), new.alternatives())) {
                (true, true) => Some(Ordering::Equal),
                (true, false) => Some(Ordering::Less),
                (false, true) => Some(Ordering::Greater),
                (false, false) => None,
            }
        }
    };
    match order {
        Some(Ordering::Equal) => None,
        Some(Ordering::Greater) => Some(Verdict::Gain),
        Some(Ordering::Less) => Some(Verdict::Loss),
        None => Some(Verdict::Unjudged),
    }
}

/// Whether callers that meet one of `these` meet one of `those`.
fn implies(these: &[Alternative], those: &[Alternative]) -> bool {
    let stricter = |one: &Alternative, other: &Alternative| {
        other.scopes.iter().all(|scope| one.scopes.contains(scope))
            && (other.by.is_none() || other.by == one.by)
            && (!other.certificate || one.certificate)
    };
    these.iter().all(|one| those.iter().any(|other| stricter(one, other)))
}

/// The scopes of a route for people: alternatives are joined by `or`.
pub(super) fn shown(access: &Access) -> String {
    match access {
        Access::Public => "public".to_owned(),
        Access::Scoped(requirement) => {
            let one = |alternative: &Alternative| format!("[{}]", alternative.scopes.join(", "));
            requirement.alternatives().iter().map(one).collect::<Vec<_>>().join(" or ")
        }
    }
}

/// How the stages that only report have changed: the more of them do, the more is let through.
pub(super) fn reporting(old: &Route, new: &Route) -> Option<Verdict> {
    let set = |route: &Route| -> BTreeSet<&str> {
        let reports = |stage: &&Stage| route.reporting.contains(**stage);
        let masks = route.mask_reporting.contains(Stage::Response).then_some("mask");
        Stage::REPORTABLE.iter().filter(reports).map(|stage| stage.as_str()).chain(masks).collect()
    };
    let (old, new) = (set(old), set(new));
    let gain = (!new.is_subset(&old)).then_some(Verdict::Gain);
    let loss = (!old.is_subset(&new)).then_some(Verdict::Loss);
    Verdict::together([gain, loss].into_iter().flatten())
}
