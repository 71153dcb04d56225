//! `where` of a route: what its requests name that must be the caller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};

use crate::policy::compile::attributes;
use crate::policy::compile::context::Context;
use crate::policy::diagnostic::did_you_mean;
use crate::policy::document::{self, Document};
use crate::policy::header_changes::{reserved_in_requests, with_hyphens};
use crate::policy::request_fields::{is_ours, is_said_by_proxies};
use crate::policy::router::{PathName, Pattern};
use crate::policy::source::Place;
use crate::policy::tree::At;
use crate::policy::{Access, Api, Route};
use crate::stages::auth::locations::KeyLocation;
use crate::stages::scope::ownership::{Condition, Named, Owned};

const HELP: &str = "write it as `path.tenant: caller.tenant`; before the colon is `path.`, `query.` or `header.` and a name, after it \
                    `caller.` and an attribute, `consumer` or `user`";

/// Names that mean something else in each route.
const UNSPECIFIC: [&str; 4] = ["id", "key", "name", "path"];

/// What is wrong with one condition.
pub(super) struct OwnershipProblem {
    /// Its key, as written.
    pub(super) key: String,
    /// Whether it is about what stands after the colon.
    pub(super) of_value: bool,
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// It may be right.
    pub(super) is_doubt: bool,
}

/// Reads `where` of a route with these names in its path.
pub(super) fn read(
    document: &Document,
    written: &BTreeMap<String, String>,
    names: &[PathName],
) -> (Vec<Condition>, Vec<OwnershipProblem>) {
    let (mut conditions, mut problems) = (Vec::new(), Vec::new());
    for (key, value) in written {
        let mut problem = |of_value, is_doubt, (message, help)| {
            problems.push(OwnershipProblem { key: key.clone(), of_value, message, help, is_doubt });
        };
        match (named(key, names), owned(document, value)) {
            (Ok(named), Ok((owned, doubt))) => {
                conditions.push(Condition::new(key, named, owned));
                doubt.into_iter().for_each(|found| problem(true, true, found));
            }
            (named, owned) => {
                named.err().into_iter().for_each(|found| problem(false, false, found));
                owned.err().into_iter().for_each(|found| problem(true, false, found));
            }
        }
    }
    (conditions, problems)
}

/// A message, and its help.
type Found = (String, Option<String>);

fn named(key: &str, names: &[PathName]) -> Result<Named, Found> {
    let help = || Some(HELP.to_owned());
    match key.split_once('.') {
        Some(("path", name)) => {
            let known = names.iter().find(|known| *known.name == *name);
            known.map(|known| Named::Path(known.place.clone())).ok_or_else(|| {
                let known = names.iter().map(|known| &*known.name);
                let help = did_you_mean(name, known.clone()).unwrap_or_else(|| match names.is_empty() {
                    true => "the path of the route has no names".to_owned(),
                    false => format!("it has {}", known.collect::<Vec<_>>().join(", ")),
                });
                (format!("the path of this route has no name `{name}`"), Some(help))
            })
        }
        Some(("query", name)) if !name.is_empty() => Ok(Named::Query(name.into())),
        Some(("header", name)) => {
            let header =
                name.parse::<HeaderName>().map_err(|_| (format!("`{name}` is not the name of a header"), help()))?;
            let is_credential = [AUTHORIZATION, COOKIE].contains(&header);
            if is_credential || reserved_in_requests(header.as_str()).is_some() {
                let message =
                    format!("the upstream does not get the caller's `{header}` as it came, so it cannot be compared");
                return Err((message, None));
            }
            Ok(Named::Header(header))
        }
        _ => Err((format!("`{key}` is not a part of a request that can be compared"), help())),
    }
}

/// What of the caller is compared, and why that may be a mistake.
fn owned(document: &Document, value: &str) -> Result<(Owned, Option<Found>), Found> {
    let name = value.strip_prefix("caller.").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| (format!("`{value}` is nothing that a caller has"), Some(HELP.to_owned())))?;
    let owned = Owned::read(name);
    let known = attributes::known(document);
    if matches!(owned, Owned::Attribute(_)) && !known.contains(name) {
        let always = ["consumer", "user"];
        let meant = did_you_mean(name, known.iter().copied().chain(always));
        // Consumers that operators add have attributes, too.
        if document.store.is_some() {
            let doubt = meant.map(|meant| {
                (format!("no consumer of the policy and no issuer has the attribute `{name}`"), Some(meant))
            });
            return Ok((owned, doubt));
        }
        let help = meant.unwrap_or_else(|| {
            format!("write `attributes: {{ {name}: … }}` at consumers, or with the name of a claim at issuers")
        });
        return Err((format!("no consumer and no issuer has the attribute `{name}`"), Some(help)));
    }
    Ok((owned, None))
}

/// `where` of a route that the policy or a description writes; problems of a description have been reported there.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    route: &document::Route,
    names: &[PathName],
    at: At<'_>,
) -> Option<Vec<Condition>> {
    let written = route.ownership.as_ref()?;
    let (conditions, problems) = read(document, written, names);
    for OwnershipProblem { key, of_value, message, help, is_doubt } in problems {
        let at = at.key("where").key(&key);
        let place = if of_value { at.place() } else { at.key_place() };
        let problem =
            if is_doubt { context.problems.warning(place, message) } else { context.problems.error(place, message) };
        problem.help = help;
    }
    for condition in &conditions {
        if let (Named::Path(place), Some(rewrite)) = (condition.named(), &route.rewrite)
            && let Some(name) = names.iter().find(|name| name.place == *place).map(|name| &*name.name)
            && shares_segment(rewrite, name)
        {
            let message = format!(
                "`{{{name}}}` shares a segment with another name here, so the API may read another value than `where` compares"
            );
            context.error(at.key("rewrite"), message).help("give each of them a segment of its own");
        }
    }
    Some(conditions)
}

/// Reports headers that are compared, and that the API does not get.
pub(super) fn check_forwarded(
    context: &mut Context<'_>,
    document: &Document,
    api: &Api,
    routes: &[(Arc<Route>, Place)],
) {
    let drops = |name: &str, pattern: &str| match pattern.to_ascii_lowercase().strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name.eq_ignore_ascii_case(pattern),
    };
    for (route, place) in routes {
        for name in route.compared_headers() {
            let dropped = document.headers.drop.iter().find(|pattern| drops(name.as_str(), pattern));
            let plain = with_hyphens(name.as_str());
            let (why, help) = if is_ours(&plain) {
                ("only the proxy says that".to_owned(), "compare another header".to_owned())
            } else if is_said_by_proxies(&plain, false) && !api.kept_headers().contains(name) {
                let help = "compare a header of its own, such as `x-tenant`, or a name in the path";
                ("only proxies say that, so it is dropped from what callers send".to_owned(), help.to_owned())
            } else if !api.upstream().forward_credentials && api.credentials().has_header(name) {
                let of_keys = api.credentials().key == Some(KeyLocation::Header(name.clone()));
                let what = if of_keys { "API keys" } else { "tokens" };
                (format!("it is the header of {what}"), "compare another header".to_owned())
            } else if let Some(pattern) = dropped.filter(|_| !api.kept_headers().contains(name)) {
                let help = format!("keep it at this API: `headers: {{ request: {{ keep: [{name}] }} }}`");
                (format!("`headers.drop` has `{pattern}`"), help)
            } else {
                continue;
            };
            let message = format!("`{}` compares `{name}`, which the API does not get: {why}", route.name());
            context.problems.error(place.clone(), message).help(help);
        }
        let compared = ownership(route).unwrap_or_default().iter().map(Condition::named);
        for name in compared.filter_map(|named| if let Named::Query(name) = named { Some(name) } else { None }) {
            if api.credentials().parameter() == Some(name) {
                let message =
                    format!("`{}` compares the query parameter `{name}`, which carries API keys", route.name());
                context.problems.error(place.clone(), message).help("compare another parameter");
            }
        }
    }
}

/// Whether a template puts this name and another one into one segment.
fn shares_segment(template: &str, name: &str) -> bool {
    let has = |segment: &str| segment.contains(&format!("{{{name}}}")) || segment.contains(&format!("{{{name}...}}"));
    template.split('/').any(|segment| has(segment) && segment.matches('{').count() > 1)
}

/// Warns of routes of one API with a name that `where` of another route compares, and not theirs. `where: {}` says that it is meant.
pub(super) fn warn_of_unbound(context: &mut Context<'_>, routes: &[(Arc<Route>, Place)]) {
    let bound = |route: &Route| -> Vec<(String, String)> {
        let conditions = ownership(route).unwrap_or_default();
        let names = conditions.iter().filter_map(|one| Some((one.name().strip_prefix("path.")?, one.value())));
        names.map(|(name, value)| (name.to_owned(), value)).collect()
    };
    let all: Vec<_> =
        routes.iter().flat_map(|(route, _)| bound(route).into_iter().map(|one| (one, route.name()))).collect();
    for (route, place) in routes.iter().filter(|(route, _)| !all.is_empty() && is_open(route)) {
        let own = bound(route);
        let Ok(pattern) = Pattern::parse(route.name()) else { continue };
        for name in
            pattern.names().iter().map(|name| &*name.name).filter(|name| !own.iter().any(|(one, _)| one == name))
        {
            let is_alike = |one: &str| !UNSPECIFIC.contains(&&*folded(name)) && folded(one) == folded(name);
            let Some(((bound, value), other)) = all.iter().find(|((one, _), _)| is_alike(one)) else {
                continue;
            };
            let message = format!("`{other}` compares `{{{bound}}}` with what the caller has, and this route does not");
            context
                .problems
                .warning(place.clone(), message)
                .help(format!("write `where: {{ path.{name}: {value} }}`, or `where: {{}}` if callers may name any"));
        }
    }
}

/// What a route compares; `None` if it does not say.
fn ownership(route: &Route) -> Option<&[Condition]> {
    match &route.access {
        Access::Public => None,
        Access::Scoped(requirement) => requirement.ownership(),
    }
}

/// Whether a route may have forgotten to compare something.
fn is_open(route: &Route) -> bool {
    matches!(&route.access, Access::Scoped(_)) && ownership(route).is_none_or(|conditions| !conditions.is_empty())
}

/// A name as people vary it: `tenant`, `tenantId`, `tenant_id`.
fn folded(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace(['_', '-'], "");
    match name.strip_suffix("id") {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_the_same_are_told_from_others() {
        for (one, other, same) in [
            ("tenant", "tenantId", true),
            ("tenant_id", "tenant-id", true),
            ("tenant", "Tenant", true),
            ("id", "ID", true),
            ("id", "tenant", false),
            ("tenant", "customer", false),
        ] {
            assert_eq!(folded(one) == folded(other), same, "{one} {other}");
        }
    }

    #[test]
    fn a_segment_with_two_names_is_found() {
        for (template, shares) in [
            ("/t/{tenant}/{id}", false),
            ("/t/x-{tenant}/{id}", false),
            ("/t/{tenant}{id}", true),
            ("/t/{id}-{tenant}", true),
            ("/{id}{other}/{tenant}", false),
            ("/x{id}{tenant...}", true),
        ] {
            assert_eq!(shares_segment(template, "tenant"), shares, "{template}");
        }
    }
}
