//! Which route takes the requests of which: routes are compared by the requests that they match, not by their names.
//!
//! A route that goes may leave its requests to a wider one, and one that comes may take them from another. So each route's requests
//! are tried on both policies, by samples for each host, and so are those of routes that cross.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use super::crossing::{SAMPLE, crossed, filled};
use super::order::Verdict;
use crate::policy::{Access, Policy, Route};
use crate::refusal::Stage;
use crate::stages::scope::Alternative;

/// So many segments of `{name...}` are tried: a shorter path may be that of a more specific route.
const DEPTH: usize = 6;
/// Most requests that are tried.
const MOST_TRIED: usize = 1_000_000;

/// What both policies do with the same requests.
#[derive(Debug)]
pub(super) struct Routed<'a> {
    /// The route in the old policy; absent: they were refused.
    pub(super) old: Option<&'a Route>,
    /// The same in the new policy.
    pub(super) new: Option<&'a Route>,
}

/// The routes of two policies, by the requests that they take.
#[derive(Debug)]
pub(super) struct Pairs<'a> {
    /// Every pair of routes that take the same requests, each once.
    pub(super) pairs: Vec<Routed<'a>>,
    /// Routes of which no request could be tried.
    pub(super) untried: Vec<&'a Route>,
    /// There are more requests than are tried.
    pub(super) is_cut: bool,
}

/// Tries a request of every template and of every two that cross, with every method of the routes, on each host.
pub(super) fn pair<'a>(old: &'a Policy, new: &'a Policy) -> Pairs<'a> {
    let mut hosts: BTreeSet<String> = BTreeSet::from([format!("{SAMPLE}.invalid")]);
    for api in old.apis().iter().chain(new.apis()) {
        hosts.extend(api.hosts().iter().map(|host| host.replace('*', SAMPLE)));
    }
    let mut tried = Tried { policies: [old, new], pairs: BTreeMap::new(), left: MOST_TRIED, is_cut: false };
    let hosts: Vec<(String, Templates<'a>)> = hosts.into_iter().map(|host| tried.templates(host)).collect();
    for (host, Templates { paths, methods }) in &hosts {
        for path in paths.iter().flat_map(|template| samples(template)) {
            tried.add(host, methods, &path);
        }
    }
    for (host, Templates { paths, methods }) in &hosts {
        for (position, one) in paths.iter().enumerate() {
            for path in paths.iter().skip(position + 1).filter_map(|other| crossed(one, other)) {
                tried.add(host, methods, &path);
            }
        }
    }
    let [seen_old, seen_new] =
        [|key: &Key| key.0, |key: &Key| key.1].map(|side| tried.pairs.keys().filter_map(side).collect::<BTreeSet<_>>());
    let unseen = |policy: &'a Policy, seen: BTreeSet<usize>| {
        policy.routes().iter().map(|route| &**route).filter(move |route| !seen.contains(&route.index()))
    };
    let untried = unseen(old, seen_old).chain(unseen(new, seen_new)).collect();
    Pairs { pairs: tried.pairs.into_values().collect(), untried, is_cut: tried.is_cut }
}

/// The positions of a pair of routes.
type Key = (Option<usize>, Option<usize>);

/// The templates of a host, and the methods of their routes.
struct Templates<'a> {
    paths: BTreeSet<&'a str>,
    methods: BTreeSet<&'a str>,
}

/// The requests that were tried.
struct Tried<'a> {
    policies: [&'a Policy; 2],
    pairs: BTreeMap<Key, Routed<'a>>,
    left: usize,
    is_cut: bool,
}

impl<'a> Tried<'a> {
    fn templates(&self, host: String) -> (String, Templates<'a>) {
        let routes = self.policies.into_iter().flat_map(Policy::routes).filter(|route| route.api().serves(&host));
        let (methods, paths) = routes.filter_map(|route| route.name().split_once(' ')).unzip();
        (host, Templates { paths, methods })
    }

    /// Tries a path with these methods.
    fn add(&mut self, host: &str, methods: &BTreeSet<&str>, path: &str) {
        for method in methods.iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok()) {
            let Some(left) = self.left.checked_sub(1) else {
                self.is_cut = true;
                return;
            };
            self.left = left;
            let [old, new] =
                self.policies.map(|policy| policy.route(host, &method, path, None).ok().map(|route| &**route));
            self.pairs.entry((old.map(Route::index), new.map(Route::index))).or_insert(Routed { old, new });
        }
    }
}

/// Paths of a template.
fn samples(template: &str) -> impl Iterator<Item = String> {
    let depth = if template.ends_with("...}") { DEPTH } else { 1 };
    (1..=depth).map(move |depth| filled(template, depth))
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
