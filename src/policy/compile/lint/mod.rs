//! What a policy has and nothing uses, and names that are probably misspelt: warnings, which `allow` says are meant.
//!
//! A warning is given only where it is certain: with a store, operators may give roles, plans and keys at run time; an issuer with
//! a claim for roles may name any of them.

mod allowed;
mod finding;
mod scopes;

use std::collections::BTreeSet;

use self::allowed::Allowed;
use self::finding::{Finding, Lint};
use super::context::Context;
use crate::policy::Route;
use crate::policy::catalog::Catalog;
use crate::policy::document::{self, Document};
use crate::policy::source::quote;
use crate::policy::tree::At;
use crate::state::ledger::LimitId;

/// Warns of what nothing uses, unless `allow` says that it is meant.
pub(super) fn check<'r>(
    context: &mut Context<'_>,
    document: &Document,
    routes: impl Iterator<Item = &'r Route>,
    catalog: &Catalog,
    at: At<'_>,
) {
    let mut allowed = Allowed::read(context, document, at.key("allow"));
    // Where something has an error, what refers to it may not have been read.
    if context.problems.has_errors() {
        return;
    }
    let routes: Vec<&Route> = routes.filter(|route| route.own.is_none()).collect();
    let mut findings = scopes::check(document, &routes, at);
    findings.extend(roles(document, at.key("roles")));
    findings.extend(plans(document, at.key("plans")));
    findings.extend(classes(document, &routes, at.key("plans")));
    findings.extend(consumers(document, at.key("consumers")));
    findings.extend(schemas(catalog, at.key("catalog")));
    for Finding { lint, about, place, message, help } in findings {
        if !allowed.takes(lint, &about) {
            let begin = if help.ends_with('?') { " If" } else { "; if" };
            let allow = format!("{begin} it is meant, write `allow: [{} {about}]`", lint.name());
            context.problems.warning(place, message).help(help + &allow);
        }
    }
    allowed.report_unused(context, at.key("allow"));
}

/// Roles that no consumer has.
fn roles<'a>(document: &'a Document, at: At<'a>) -> impl Iterator<Item = Finding> + use<'a> {
    let claimed = document.auth.issuers.values().any(|issuer| issuer.role_claim.is_some())
        || document.auth.introspection.values().any(|endpoint| endpoint.role_claim.is_some());
    let given = document.consumers.values().flat_map(|consumer| consumer.roles.iter().flatten());
    let given: BTreeSet<&str> = given.map(String::as_str).collect();
    let is_unused = move |role: &&String| !claimed && document.store.is_none() && !given.contains(role.as_str());
    document.roles.keys().filter(is_unused).map(move |role| Finding {
        lint: Lint::UnusedRole,
        about: role.clone(),
        place: at.key(role).key_place(),
        message: format!("no consumer has the role {}", quote(role)),
        help: "remove it, or give it to a consumer".to_owned(),
    })
}

/// Plans that nobody is held to.
fn plans<'a>(document: &'a Document, at: At<'a>) -> impl Iterator<Item = Finding> + use<'a> {
    let issuers = document.auth.issuers.values().filter_map(|issuer| issuer.default_plan.as_deref());
    let endpoints = document.auth.introspection.values().filter_map(|endpoint| endpoint.default_plan.as_deref());
    let consumers = document.consumers.values().filter_map(|consumer| consumer.plan.as_deref());
    let held: BTreeSet<&str> = issuers.chain(endpoints).chain(consumers).collect();
    let is_unused = move |plan: &&String| document.store.is_none() && !held.contains(plan.as_str());
    document.plans.keys().filter(is_unused).map(move |plan| Finding {
        lint: Lint::UnusedPlan,
        about: plan.clone(),
        place: at.key(plan).key_place(),
        message: format!("no consumer has the plan {}, so nobody is held to it", quote(plan)),
        help: "remove it, or write `plan:` at a consumer or `default_plan:` at an issuer".to_owned(),
    })
}

/// Classes in plans that no route has.
fn classes<'a>(document: &'a Document, routes: &[&Route], at: At<'a>) -> Vec<Finding> {
    let mut known = BTreeSet::new();
    let mut findings = Vec::new();
    for (plan, written) in &document.plans {
        for class in written.classes.keys() {
            let is_used = routes.iter().any(|route| route.limits.class == Some(LimitId::class(class)));
            if !is_used && known.insert(class) {
                findings.push(Finding {
                    lint: Lint::UnusedClass,
                    about: class.clone(),
                    place: at.key(plan).key("classes").key(class).key_place(),
                    message: format!("no route has the class {}, so this limits nothing", quote(class)),
                    help: "remove it, or write `class:` at a route".to_owned(),
                });
            }
        }
    }
    findings
}

/// Consumers that can never call.
fn consumers<'a>(document: &'a Document, at: At<'a>) -> impl Iterator<Item = Finding> + use<'a> {
    let is_mute =
        |(_, consumer): &(&String, &document::Consumer)| document.store.is_none() && !has_credential(consumer);
    document.consumers.iter().filter(is_mute).map(move |(name, _)| Finding {
        lint: Lint::NoCredential,
        about: name.clone(),
        place: at.key(name).key_place(),
        message: format!("the consumer {} has no credential, so it can never call", quote(name)),
        help: "write its `identities`, `keys` or `clients`".to_owned(),
    })
}

fn has_credential(consumer: &document::Consumer) -> bool {
    !consumer.identities.is_empty() || !consumer.keys.is_empty() || !consumer.clients.is_empty()
}

/// Entries of the catalog that no schema refers to.
fn schemas<'a>(catalog: &Catalog, at: At<'a>) -> impl Iterator<Item = Finding> + use<'a> {
    catalog.unused().into_iter().map(move |url| Finding {
        lint: Lint::UnusedSchema,
        place: at.key(&url).key_place(),
        message: "no schema refers to this URL, so nothing is found by it".to_owned(),
        help: "remove it, or compare it with the `$ref` or `schemaLocation` that is meant".to_owned(),
        about: url,
    })
}
