//! Compiles one route: who may use it, its limits, its contracts.

use std::sync::Arc;

use super::mapping;
use super::merged_route::MergedRoute;
use super::modes;
use super::ownership;
use super::route_limits;
use super::shown;
use super::upgrade;
use crate::policy::compile::context::Context;
use crate::policy::compile::contracts::{self, Defaults};
use crate::policy::compile::names::check_scopes;
use crate::policy::compile::networks;
use crate::policy::compile::schemas::Schemas;
use crate::policy::document::{self, Document};
use crate::policy::router::{PathName, Pattern};
use crate::policy::tree::At;
use crate::policy::{Access, Api, Reporting, Route};
use crate::refusal::Stage;
use crate::stages::scope::{Alternative, ProofOfPossession, Requirement as ScopeRequirement};

/// What the routes of one API have in common.
pub(super) struct ApiScope<'a> {
    pub(super) document: &'a Document,
    pub(super) api: &'a Arc<Api>,
    pub(super) reporting: Reporting,
    pub(super) defaults: &'a Defaults,
}

/// Compiles a route; `pattern` is absent if its name has an error, and `index` its position among all routes.
pub(super) fn compile(
    context: &mut Context<'_>,
    schemas: &mut Schemas,
    scope: &ApiScope<'_>,
    merged: MergedRoute<'_>,
    pattern: Option<&Pattern>,
    index: usize,
) -> Option<Route> {
    let MergedRoute { name, at, settings, alternatives, request, response, mask, reports_responses, shown, .. } =
        merged;
    let shown = scope.document.self_service.as_ref().map(|_| shown::merged(schemas, &settings, shown));
    let names = pattern.map(Pattern::names).unwrap_or_default();
    let access = access(context, scope.document, &settings, (alternatives, names), at);
    let networks = networks::from(context, settings.from.as_ref(), at.key("from"));
    let limits = route_limits::compile(context, scope.document, (scope.api.name(), name), &settings, at);
    let request = contracts::request(context, schemas, &settings, request, names, scope.defaults, at);
    let (response, reports) = match &settings.response {
        None => (response, reports_responses),
        // The description's contract, with the route's own bounds.
        Some(written) if response.is_some() => {
            let reports = written.mode.as_ref().map(|_| contracts::only_reports(context, written, at));
            (response, reports.unwrap_or(reports_responses))
        }
        Some(written) => (
            contracts::response(context, schemas, written, at.key("response")),
            contracts::only_reports(context, written, at),
        ),
    };
    let response = contracts::masked(context, (response, mask), settings.response.as_ref(), at.key("response"));
    let websocket = upgrade::websocket(context, name, &settings, response.is_some(), scope.api.upstream(), at);
    let mode = modes::compile(context, scope.reporting, settings.mode.as_ref(), at.key("mode"));
    let strip = scope.api.strip.as_deref();
    let mapping = pattern.map(|pattern| mapping::of_route(context, &settings, strip, pattern, at));
    let encoded_slash = settings.encoded_slash.as_deref();
    let keeps_encoded_slash = mapping::keeps_encoded_slash(context, encoded_slash, at.key("encoded_slash"));
    Some(Route {
        index,
        name: name.into(),
        api: Arc::clone(scope.api),
        access: access?,
        networks,
        limits,
        request: request?,
        response,
        mask_reporting: mode,
        reporting: if reports { mode.with(Stage::Response) } else { mode },
        mapping: mapping.unwrap_or_default(),
        keeps_encoded_slash,
        own: None,
        shown: shown.map(Box::new),
        websocket,
    })
}

/// Who may use a route: `scopes` or `public`, or the alternatives of its description.
fn access(
    context: &mut Context<'_>,
    document: &Document,
    route: &document::Route,
    (alternatives, names): (Option<Vec<Alternative>>, &[PathName]),
    at: At<'_>,
) -> Option<Access> {
    for (position, name) in route.only.iter().flatten().enumerate() {
        if !document.consumers.contains_key(name) {
            let known = document.consumers.keys().map(String::as_str);
            context.unknown(at.key("only").index(position), "consumer", name, known);
        }
    }
    match (&route.scopes, route.public) {
        (Some(_), Some(true)) => {
            context.error(at.key("public"), "a route has `scopes` or is `public`, not both");
            None
        }
        (None, Some(true)) if route.only.is_some() => {
            context.error(at.key("only"), "a public route does not authenticate its callers, so `only` cannot apply");
            None
        }
        (None, Some(true)) if route.ownership.is_some() => {
            context.error(at.key("where"), "a public route does not authenticate its callers, so `where` cannot apply");
            None
        }
        (None, Some(true)) if route.proof_of_possession.is_some() || route.max_age.is_some() => {
            context.error(
                at.key("public"),
                "a public route takes no credential, so `proof_of_possession` and `max_age` cannot apply",
            );
            None
        }
        (None, Some(true)) => Some(Access::Public),
        (Some(scopes), _) => {
            check_scopes(context, scopes, at.key("scopes"));
            let requirement = ScopeRequirement::new(scopes.clone(), route.only.clone());
            Some(scoped(context, document, (route, names), requirement, at))
        }
        (None, _) if let Some(alternatives) = alternatives => {
            let requirement = ScopeRequirement::any_of(alternatives, route.only.clone());
            Some(scoped(context, document, (route, names), requirement, at))
        }
        // A value that is not `true` or `false` has been reported.
        (None, _) if at.key("public").damaged() => None,
        (None, _) => {
            context.missing(
                at.key("scopes"),
                "this route has neither `scopes` nor `public`",
                "write the scopes it needs, such as `scopes: [orders:read]`; or `public: true` to open it to everyone",
            );
            None
        }
    }
}

/// Scopes, with the other requirements of a credential.
fn scoped(
    context: &mut Context<'_>,
    document: &Document,
    (route, names): (&document::Route, &[PathName]),
    requirement: ScopeRequirement,
    at: At<'_>,
) -> Access {
    let owned = ownership::compile(context, document, route, names, at);
    let proofs = proofs_of_possession(context, route, at.key("proof_of_possession"));
    let max_age = route.max_age.map(|most| context.seconds(at.key("max_age"), most));
    Access::Scoped(requirement.owned(owned).proof_of_possession(proofs).issued_within(max_age))
}

fn proofs_of_possession(
    context: &mut Context<'_>,
    route: &document::Route,
    at: At<'_>,
) -> Option<Vec<ProofOfPossession>> {
    let written = route.proof_of_possession.as_ref()?;
    if written.is_empty() {
        context.error(at, "an empty list accepts no credential");
    }
    let mut proofs = Vec::new();
    for (position, name) in written.iter().enumerate() {
        match ProofOfPossession::ALL.iter().find(|(known, _)| known == name) {
            Some((_, proof)) => proofs.push(*proof),
            None => {
                context.unknown(
                    at.index(position),
                    "proof of possession",
                    name,
                    ProofOfPossession::ALL.map(|(known, _)| known),
                );
            }
        }
    }
    Some(proofs)
}
