//! `apis`: each with its servers, its routes, and the OpenAPI description that they may come from.

mod cors;
mod credentials;
mod definitions;
mod extension_names;
mod header_changes;
mod mapping;
mod merged_route;
mod modes;
mod openapi;
mod ownership;
mod route;
mod route_limits;
mod shown;
mod upgrade;
mod upstream;
mod upstream_tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::merged_route::MergedRoute;
use self::openapi::Described;
use self::route::ApiScope;
use super::catalog;
use super::context::Context;
use super::contracts::Defaults;
use super::headers;
use super::limits;
use super::powerful_scopes;
use super::schemas::Schemas;
use crate::policy::catalog::Catalog;
use crate::policy::document::{self, Document};
use crate::policy::openapi::Operation;
use crate::policy::router::{Closed, Conflict, Pattern, Router};
use crate::policy::source::Place;
use crate::policy::tree::At;
use crate::policy::units::Size;
use crate::policy::{Api, Reporting, Route, Server};
use crate::stages::auth::locations::CredentialLocations;

/// Largest body that no schema checks, unless `limits.body_size` says otherwise.
const MAX_BODY: u64 = 10 * 1024 * 1024;

/// What `apis` compiles to.
#[derive(Default)]
pub(super) struct Apis {
    pub(super) apis: Vec<Arc<Api>>,
    pub(super) routes: Vec<Arc<Route>>,
    /// Where problems of each route are reported.
    places: Vec<Place>,
    pub(super) router: Router<Arc<Route>>,
    pub(super) servers: Vec<Arc<Server>>,
    schemas: Schemas,
}

impl Apis {
    /// `catalog`, and what was found by it.
    pub(super) fn catalog(&self) -> &Catalog {
        self.schemas.catalog()
    }
}

/// `apis`.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    locations: &CredentialLocations,
    at: At<'_>,
) -> Apis {
    let defaults = Defaults {
        body: document.limits.body_size.map_or(MAX_BODY, |Size(bytes)| bytes),
        deadline: limits::request_body(context, document, at),
    };
    let catalog = catalog::compile(context, document, at);
    let schemas = Schemas::load(context, &catalog, document, at);
    let mut apis = Apis { schemas, ..Apis::default() };
    if document.apis.is_empty() {
        let help = "write `apis:` with a name, its `upstream` and its `routes`";
        context.missing(at.key("apis"), "there is no API", help);
    }
    for (name, written) in &document.apis {
        let at = at.key("apis").key(name);
        let hosts = hosts(context, &written.hosts, at.key("hosts"));
        let upstream =
            upstream::compile(context, written.upstream.as_ref(), name, &mut apis.servers, at.key("upstream"));
        let described =
            written.openapi.as_ref().map(|openapi| openapi::read(context, &catalog, openapi, at.key("openapi")));
        if written.routes.is_empty() && described.is_none() {
            let help = "write the routes to open, such as `GET /orders/{id}: { scopes: [orders:read] }`";
            context.missing(at.key("routes"), "this API has no routes, so it is closed", help);
        }
        let (of_requests, of_responses) = (at.key("headers").key("request"), at.key("headers").key("response"));
        let document::ApiHeaders { request, response } = &written.headers;
        let cors = written.cors.as_ref().map(|cors| cors::compile(context, cors, name, at.key("cors")));
        let api = Arc::new(Api {
            index: apis.apis.len(),
            name: name.as_str().into(),
            hosts: hosts.into(),
            upstream,
            kept_headers: headers::kept(context, &request.keep, of_requests.key("keep")),
            request_headers: header_changes::of_requests(context, &request.set, &request.remove, of_requests),
            response_headers: header_changes::of_responses(context, &response.set, &response.remove, of_responses),
            strip: mapping::strip(context, written.strip.as_deref(), at.key("strip")),
            credentials: credentials::compile(
                context,
                document,
                locations,
                (written, cors.as_ref()),
                at.key("authenticate_by"),
            ),
            cors,
        });
        apis.apis.push(Arc::clone(&api));
        let reporting = modes::compile(context, Reporting::default(), written.mode.as_ref(), at.key("mode"));
        let scope = ApiScope { document, api: &api, reporting, defaults: &defaults };
        let before = apis.routes.len();
        routes(context, &mut apis, &scope, described.flatten().as_ref(), &written.routes, at);
        check(context, document, &apis, (&api, before), of_requests);
    }
    powerful_scopes::check(context, document, &apis.routes, at.key("powerful_scopes"));
    apis
}

/// Checks an API and its routes, those from this position, against each other.
fn check(context: &mut Context<'_>, document: &Document, apis: &Apis, (api, from): (&Api, usize), of_requests: At<'_>) {
    let routes = apis.routes.iter().skip(from).map(|route| &**route);
    header_changes::check_validated(context, api, routes, of_requests);
    let routes: Vec<_> = apis.routes.iter().cloned().zip(apis.places.iter().cloned()).skip(from).collect();
    ownership::warn_of_unbound(context, &routes);
    ownership::check_forwarded(context, document, api, &routes);
    credentials::check_routes(context, api, &routes);
}

fn hosts(context: &mut Context<'_>, written: &[String], at: At<'_>) -> Vec<Box<str>> {
    let mut hosts: Vec<Box<str>> = Vec::new();
    for (position, text) in written.iter().enumerate() {
        let host = text.to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        let good =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
        let port = !host.starts_with('[') && host.contains(':');
        let is_address = host.starts_with("*.") && name.parse::<std::net::Ipv4Addr>().is_ok();
        if !good || port || is_address || name.starts_with('.') || host.ends_with('.') {
            context.error(at.index(position), "this is not a host name").help(
                "write the name alone, without scheme and port: `api.example.com`, or `*.example.com` for any one label \
                 before it",
            );
        } else if hosts.contains(&host.as_str().into()) {
            context.error(at.index(position), "this host is listed twice");
        } else {
            hosts.push(host.into());
        }
    }
    hosts
}

/// The routes that the policy writes, and those that only the description has.
fn routes(
    context: &mut Context<'_>,
    apis: &mut Apis,
    scope: &ApiScope<'_>,
    described: Option<&Described>,
    written: &BTreeMap<String, document::Route>,
    at: At<'_>,
) {
    let operations = described.into_iter().flat_map(Described::operations);
    let mut operations: BTreeMap<&str, &Operation> = operations.map(|one| (&*one.route, one)).collect();
    for (name, own) in written {
        let at = at.key("routes").key(name);
        let pattern = pattern(context, name, at);
        warn_of_habits(context, name, at);
        let operation = operations.remove(name.as_str());
        if let Some((described, operation)) = described.zip(operation)
            && let Some(why) = described.closes(context, operation, Some(own))
        {
            close(apis, scope, pattern.as_ref().map(Closed::of).as_ref(), &why);
            continue;
        }
        let merged = match described.zip(operation) {
            None => Some(MergedRoute::written(name, own, at)),
            Some((described, operation)) => described.merge(context, scope, operation, Some(own), pattern.as_ref(), at),
        };
        add(context, apis, scope, pattern, merged);
    }
    for operation in operations.into_values() {
        let at = at.key("openapi");
        let pattern = pattern(context, &operation.route, at);
        if let Some(why) = described.and_then(|one| one.closes(context, operation, None)) {
            close(apis, scope, pattern.as_ref().map(Closed::of).as_ref(), &why);
            continue;
        }
        let merged = described.and_then(|one| one.merge(context, scope, operation, None, pattern.as_ref(), at));
        add(context, apis, scope, pattern, merged);
    }
    for closed in described.into_iter().flat_map(Described::closed) {
        close(apis, scope, closed.closed.as_ref(), &format!("`{}`: {}", closed.name, closed.why));
    }
}

/// Refuses the requests of an operation that gets no route.
fn close(apis: &mut Apis, scope: &ApiScope<'_>, closed: Option<&Closed>, why: &str) {
    if let Some(closed) = closed {
        apis.router.close(scope.api.hosts(), closed, &why.into());
    }
}

/// Warns of what other tools write for a name, which here is ordinary text.
fn warn_of_habits(context: &mut Context<'_>, name: &str, at: At<'_>) {
    for (position, segment) in name.split('/').enumerate().skip(1) {
        let last = name.split('/').count() == position + 1;
        let meant = match segment.strip_prefix(':') {
            Some(name) if !name.is_empty() => format!("{{{name}}}"),
            None if segment == "**" || (segment == "*" && last) => "{path...}".to_owned(),
            None if segment == "*" => "{name}".to_owned(),
            _ => continue,
        };
        context
            .problems
            .warning(at.key_place(), format!("`{segment}` is matched as it is written"))
            .help(format!("did you mean `{meant}`?"));
    }
}

fn pattern(context: &mut Context<'_>, name: &str, at: At<'_>) -> Option<Pattern> {
    Pattern::parse(name)
        .map_err(|problem| context.problems.error(at.key_place(), format!("this is not a route: {problem}")))
        .ok()
}

/// Compiles a route, and adds it unless another already matches its requests.
fn add(
    context: &mut Context<'_>,
    apis: &mut Apis,
    scope: &ApiScope<'_>,
    pattern: Option<Pattern>,
    merged: Option<MergedRoute<'_>>,
) {
    let Some(merged) = merged else { return };
    let place = merged.place.clone();
    let index = apis.routes.len();
    let route = route::compile(context, &mut apis.schemas, scope, merged, pattern.as_ref(), index);
    let (Some(pattern), Some(route)) = (pattern, route) else { return };
    let route = Arc::new(route);
    match apis.router.add(scope.api.hosts(), &pattern, &route) {
        Ok(()) => {
            apis.routes.push(route);
            apis.places.push(place);
        }
        Err(Conflict(other)) => {
            context
                .problems
                .error(place, format!("this route matches the same requests as `{}`", other.name()))
                .help("keep one of them, or give their APIs different `hosts`");
        }
    }
}
