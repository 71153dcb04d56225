//! `bartizan diff`: who may do what more, and less, under another policy.
//!
//! - `settings` compares everything that is written, each setting by its rule (`rules`, `order`). A key without a rule counts as
//!   more: nothing that the language learns later is passed over.
//! - `routes` finds which routes take the same requests, whatever they are called, by paths of `crossing`; `reach` says which consumer may call them.
//! - `files` compares the files that the policies name.

mod change;
mod crossing;
mod files;
mod order;
mod reach;
mod routes;
mod rules;
mod settings;
mod side;
mod value;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::change::{Change, Subject};
pub(crate) use self::order::Verdict;
use self::reach::Reach;
use self::routes::{Pairs, Routed};
use self::settings::{Settings, Written};
pub(crate) use self::side::Side;
pub(crate) use self::value::Value;
use crate::policy::Route;

/// Compares two policies: the changes, gains first.
pub(crate) fn compare(old: &Side, new: &Side) -> Vec<Change> {
    let written = Written { old: &old.written, new: &new.written };
    let mut settings = Settings::new(written);
    settings.compare_all();
    let Pairs { pairs, untried, is_cut } = routes::pair(&old.compiled, &new.compiled);
    for pair in &pairs {
        compare_written(&mut settings, written, pair);
    }
    let mut changes = settings.into_changes();
    for route in untried {
        let what = "matches no request that could be tried";
        changes.push(of_route(Verdict::Unjudged, route, "route", what, (None, None)));
    }
    if is_cut {
        changes.push(Change {
            verdict: Verdict::Unjudged,
            subject: Subject::default(),
            setting: "routes".to_owned(),
            place: None,
            what: "more of them cross than can be tried; compare the policies in parts",
            old: None,
            new: None,
        });
    }
    for pair in &pairs {
        changes.extend(compiled(pair));
    }
    changes.extend(consumers(old, new, &pairs));
    files::compare(old, new, &mut changes);
    changes.sort_by(|one, other| {
        (one.verdict, &one.subject, &one.setting).cmp(&(other.verdict, &other.subject, &other.setting))
    });
    changes
}

/// Compares what is written at two routes, and at their APIs if these are two.
fn compare_written<'a>(settings: &mut Settings<'a>, written: Written<'a>, pair: &Routed<'_>) {
    let (Some(old), Some(new)) = (pair.old, pair.new) else { return };
    let api = |policy: &'a Value, route: &Route| policy.at(&["apis", route.api().name()]);
    let (old_api, new_api) = (api(written.old, old), api(written.new, new));
    let at = |api: Option<&'a Value>, route: &Route| api.and_then(|api| api.at(&["routes", route.name()]));
    let (api, name) = (&**new.api().name(), &**new.name());
    let subject = Subject::route(api, name);
    settings.compare_routes((api, name), (at(old_api, old), at(new_api, new)), subject.clone());
    if old.api().name() != new.api().name() {
        settings.compare_apis(api, (old_api, new_api), subject);
    }
}

/// Compares what only the compiled policies say of two routes.
fn compiled(pair: &Routed<'_>) -> Vec<Change> {
    match (pair.old, pair.new) {
        (None, None) => Vec::new(),
        (None, Some(new)) => {
            vec![of_route(Verdict::Gain, new, "route", "added", (None, Some(routes::shown(&new.access))))]
        }
        (Some(old), None) => {
            vec![of_route(Verdict::Loss, old, "route", "removed", (Some(routes::shown(&old.access)), None))]
        }
        (Some(old), Some(new)) => {
            let shown = (Some(routes::shown(&old.access)), Some(routes::shown(&new.access)));
            let access = routes::access(&old.access, &new.access)
                .map(|verdict| of_route(verdict, new, "scopes", "changed", shown));
            let reporting =
                routes::reporting(old, new).map(|verdict| of_route(verdict, new, "mode", "changed", (None, None)));
            access.into_iter().chain(reporting).collect()
        }
    }
}

fn of_route(
    verdict: Verdict,
    route: &Route,
    setting: &str,
    what: &'static str,
    (old, new): (Option<String>, Option<String>),
) -> Change {
    let subject = Subject::route(route.api().name(), route.name());
    Change { verdict, subject, setting: setting.to_owned(), place: None, what, old, new }
}

/// Compares what each consumer may call, and which scopes it may have.
fn consumers(old: &Side, new: &Side, pairs: &[Routed<'_>]) -> Vec<Change> {
    let names =
        |side: &Side| side.compiled.auth().directory.listed().keys().map(ToString::to_string).collect::<Vec<_>>();
    let all: BTreeSet<String> = names(old).into_iter().chain(names(new)).collect();
    let mut changes = Vec::new();
    for name in all {
        let [before, after] = [old, new].map(|side| Reach::of(&side.written, &side.compiled, &name));
        let may = |reach: &Option<Reach<'_>>, route: Option<&Route>| {
            reach.as_ref().zip(route).is_some_and(|(reach, route)| reach.may_call(&name, route))
        };
        let mut calls: BTreeMap<Subject, Verdict> = BTreeMap::new();
        for Routed { old, new } in pairs {
            let verdict = match (may(&before, *old), may(&after, *new)) {
                (false, true) => Verdict::Gain,
                (true, false) => Verdict::Loss,
                _ => continue,
            };
            let Some(route) = new.or(*old) else { continue };
            let subject = Subject { consumer: Some(name.clone()), ..Subject::route(route.api().name(), route.name()) };
            calls.insert(subject, verdict);
        }
        changes.extend(calls.into_iter().map(|(subject, verdict)| {
            let what = if verdict == Verdict::Gain { "may call it now" } else { "may not call it any more" };
            Change { verdict, subject, setting: "call".to_owned(), place: None, what, old: None, new: None }
        }));
        if let Some((before, after)) = before.zip(after) {
            changes.extend(scopes(&name, &before, &after));
        }
    }
    changes
}

/// Scopes that a consumer may have more or less: masks and tokens of the token service name some that no route asks for.
fn scopes(name: &str, before: &Reach<'_>, after: &Reach<'_>) -> Vec<Change> {
    let change = |verdict, old: Option<String>, new: Option<String>| Change {
        verdict,
        subject: Subject { consumer: Some(name.to_owned()), route: None },
        setting: "scopes".to_owned(),
        place: None,
        what: if verdict == Verdict::Gain { "added" } else { "removed" },
        old,
        new,
    };
    let shown = |scopes: &[&str]| format!("[{}]", scopes.join(", "));
    match (before.scopes(), after.scopes()) {
        (None, None) => Vec::new(),
        (Some(old), None) => vec![change(Verdict::Gain, Some(shown(&Vec::from_iter(old))), Some("any".to_owned()))],
        (None, Some(new)) => vec![change(Verdict::Loss, Some("any".to_owned()), Some(shown(&Vec::from_iter(new))))],
        (Some(old), Some(new)) => {
            let (more, less): (Vec<_>, Vec<_>) =
                (new.difference(&old).copied().collect(), old.difference(&new).copied().collect());
            let gain = (!more.is_empty()).then(|| change(Verdict::Gain, None, Some(shown(&more))));
            let loss = (!less.is_empty()).then(|| change(Verdict::Loss, Some(shown(&less)), None));
            gain.into_iter().chain(loss).collect()
        }
    }
}
