//! Compiles `apis`: servers, routes, schemas, and who may use them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;

use super::context::{Context, check_scopes};
use super::messages::Defaults;
use super::openapi::Described;
use super::schemas::Schemas;
use super::{edge, messages, modes, openapi};
use crate::policy::document::{self, Document};
use crate::policy::openapi::Operation;
use crate::policy::router::{Conflict, Pattern, Router};
use crate::policy::tree::At;
use crate::policy::units::{Period, Size};
use crate::policy::{Access, Api, Reporting, Route, Server, Upstream};
use crate::refusal::Stage;
use crate::stages::rate_limit::RouteLimit;
use crate::stages::scope::{Requirement as ScopeRequirement, Strength};
use crate::state::ledger::LimitId;

/// Largest body that no schema checks, unless `limits.body_size` says otherwise.
const MAX_BODY: u64 = 10 * 1024 * 1024;

/// What comes out.
#[derive(Default)]
pub(super) struct Apis {
    pub(super) apis: Vec<Arc<Api>>,
    pub(super) routes: Vec<Arc<Route>>,
    pub(super) router: Router<Arc<Route>>,
    pub(super) servers: Vec<Arc<Server>>,
    schemas: Schemas,
}

/// What the routes of one API have in common.
struct ApiScope<'a> {
    document: &'a Document,
    api: &'a Arc<Api>,
    reporting: Reporting,
    described: Option<Described>,
    defaults: &'a Defaults,
}

/// `apis`.
pub(super) fn compile(context: &mut Context<'_>, document: &Document, at: At<'_>) -> Apis {
    let defaults = Defaults {
        body: document.limits.body_size.map_or(MAX_BODY, |Size(bytes)| bytes),
        deadline: edge::request_body(context, document, at),
    };
    let mut apis = Apis::default();
    if document.apis.is_empty() {
        context.missing(
            at.key("apis"),
            "there is no API",
            "write `apis:` with a name, its `upstream` and its `routes`",
        );
    }
    for (name, written) in &document.apis {
        let at = at.key("apis").key(name);
        let hosts = hosts(context, &written.hosts, at.key("hosts"));
        let upstream = upstream(context, written.upstream.as_ref(), &mut apis.servers, at.key("upstream"));
        let described = written.openapi.as_ref().map(|openapi| openapi::read(context, openapi, at.key("openapi")));
        if written.routes.is_empty() && described.is_none() {
            let help = "write what of it is open, such as `GET /orders/{id}: { scopes: [orders:read] }`";
            context.missing(at.key("routes"), "this API has no routes, so nothing of it is open", help);
        }
        let api = Arc::new(Api { index: apis.apis.len(), name: name.as_str().into(), hosts: hosts.into(), upstream });
        apis.apis.push(Arc::clone(&api));
        let reporting = modes::compile(context, Reporting::default(), written.mode.as_ref(), at.key("mode"));
        let around = ApiScope { document, api: &api, reporting, described: described.flatten(), defaults: &defaults };
        routes(context, &mut apis, &around, &written.routes, at);
    }
    apis
}

fn hosts(context: &mut Context<'_>, written: &[String], at: At<'_>) -> Vec<Box<str>> {
    let mut hosts: Vec<Box<str>> = Vec::new();
    for (position, text) in written.iter().enumerate() {
        let host = text.to_ascii_lowercase();
        let good =
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
        let port = !host.starts_with('[') && host.contains(':');
        if !good || port || host.ends_with('.') {
            context
                .error(at.index(position), "this is not a host name")
                .help("write the name alone, without scheme, port and wildcard: `api.example.com`");
        } else if hosts.contains(&host.as_str().into()) {
            context.error(at.index(position), "this host is listed twice");
        } else {
            hosts.push(host.into());
        }
    }
    hosts
}

fn upstream(
    context: &mut Context<'_>,
    written: Option<&document::Upstream>,
    all: &mut Vec<Arc<Server>>,
    at: At<'_>,
) -> Upstream {
    const HELP: &str = "write where the API is, such as `upstream: http://127.0.0.1:9000`";
    let none = document::Upstream::default();
    let written = written.unwrap_or_else(|| {
        context.missing(at, "`upstream` is missing", HELP);
        &none
    });
    match written.balance.as_deref() {
        None | Some("round_robin") => {}
        Some("least_requests") => {
            context.error(
                at.key("balance"),
                "`least_requests` is part of the policy language but not built yet in this version",
            );
        }
        Some(other) => context.unknown(at.key("balance"), "way to balance", other, ["round_robin", "least_requests"]),
    }
    let connect_timeout = context.period(at.key("connect_timeout"), written.connect_timeout, Duration::from_secs(1));
    let response_timeout =
        context.period(at.key("response_timeout"), written.response_timeout, Duration::from_secs(15));
    let idle_timeout = context.period(at.key("idle_timeout"), written.idle_timeout, Duration::from_secs(60));
    if written.servers.is_empty() && !written.short && at.present() {
        context.missing(at.key("servers"), "there is no server", HELP);
    }
    let mut servers = Vec::new();
    for (position, url) in written.servers.iter().enumerate() {
        let place = if written.short { at } else { at.key("servers").index(position) };
        if let Some(mut server) = server(context, url, written, at, place) {
            server.index = all.len();
            server.connect_timeout = connect_timeout;
            server.idle_timeout = idle_timeout;
            let server = Arc::new(server);
            all.push(Arc::clone(&server));
            servers.push(server);
        }
    }
    Upstream { servers, response_timeout, forward_credentials: written.forward_credentials.unwrap_or(false) }
}

fn server(
    context: &mut Context<'_>,
    url: &str,
    written: &document::Upstream,
    at: At<'_>,
    place: At<'_>,
) -> Option<Server> {
    let uri = url.parse::<Uri>().ok();
    let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?, uri.path(), uri.query())));
    let (https, authority) = match parts {
        Some((scheme @ ("http" | "https"), authority, "/", None)) if !authority.as_str().contains('@') => {
            (scheme == "https", authority)
        }
        _ => {
            context.error(place, "this is not the URL of a server").help(
                "scheme, host and port, without path: `http://10.1.0.7:9000`; a route's path goes upstream as it is",
            );
            return None;
        }
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let tls = if https {
        let trust = context.trust(written.ca.as_ref(), at)?;
        let Ok(name) = ServerName::try_from(host.clone()) else {
            context.error(place, "this host cannot be in a certificate");
            return None;
        };
        Some((name, trust))
    } else {
        None
    };
    let trusted = tls.as_ref().map_or("", |(_, trust)| &trust.identity);
    Some(Server {
        index: 0,
        name: url.trim_end_matches('/').into(),
        identity: format!("{url} {trusted}").into(),
        port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
        authority: HeaderValue::from_str(authority.as_str()).ok()?,
        host: host.into(),
        tls: tls.map(|(name, trust)| (name, trust.config)),
        connect_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
    })
}

fn routes(
    context: &mut Context<'_>,
    apis: &mut Apis,
    around: &ApiScope<'_>,
    written: &BTreeMap<String, document::Route>,
    at: At<'_>,
) {
    let operations = around.described.iter().flat_map(Described::operations);
    let mut operations: BTreeMap<&str, &Operation> = operations.map(|one| (&*one.route, one)).collect();
    for (name, own) in written {
        let operation = operations.remove(name.as_str());
        route(context, apis, around, (name, operation, Some(own)), at.key("routes").key(name));
    }
    for (name, operation) in operations {
        route(context, apis, around, (name, Some(operation), None), at.key("openapi"));
    }
}

/// One route: what the policy writes of it, what a description says, or both.
fn route(
    context: &mut Context<'_>,
    apis: &mut Apis,
    around: &ApiScope<'_>,
    (name, operation, own): (&str, Option<&Operation>, Option<&document::Route>),
    at: At<'_>,
) {
    let nothing = document::Route::default();
    let own_or_nothing = own.unwrap_or(&nothing);
    let described = around.described.as_ref().zip(operation);
    let overlaid = described.map(|(described, operation)| described.overlay(context, around.document, operation, own));
    let route = overlaid.as_ref().unwrap_or(own_or_nothing);
    let place = || match described {
        Some((described, operation)) if own.is_none() => described.place(operation),
        _ => at.key_place(),
    };
    let pattern = Pattern::parse(name);
    if let Err(problem) = &pattern {
        context.problems.error(place(), format!("this is not a route: {problem}"));
    }
    let access = access(context, around.document, route, described, at);
    let rate = route.rate.and_then(|rate| match RouteLimit::new(around.api.name(), name, rate.count, rate.per) {
        Ok(limit) => Some(limit),
        Err(problem) => {
            context.error(at.key("rate"), problem);
            None
        }
    });
    let class = route.class.as_ref().map(|class| {
        let known = || around.document.plans.values().flat_map(|plan| plan.classes.keys()).map(String::as_str);
        if !known().any(|known| known == class) {
            context.unknown(at.key("class"), "class in any plan", class, known());
        }
        LimitId::class(class)
    });
    if class.is_some() && route.public == Some(true) {
        context.error(at.key("class"), "a public route knows no plan, so no class can limit it").help("write `rate:`");
    }
    let names = pattern.as_ref().map(Pattern::names).unwrap_or_default();
    let drawn = described.map(|(described, operation)| described.request(operation, names));
    let request = match drawn {
        Some(None) => None,
        drawn => {
            let names = (names, around.defaults);
            messages::request(context, &mut apis.schemas, own_or_nothing, drawn.flatten(), names, at)
        }
    };
    let (response, reports) = match (&own_or_nothing.response, described) {
        (None, Some((described, operation))) => (described.response(operation), described.only_reports()),
        (written, _) => {
            let response = messages::response(context, &mut apis.schemas, written.as_ref(), at.key("response"));
            (response, written.as_ref().is_some_and(|response| messages::only_reports(context, response, at)))
        }
    };
    let mode = modes::compile(context, around.reporting, route.mode.as_ref(), at.key("mode"));
    let (Ok(pattern), Some(access), Some(request)) = (pattern, access, request) else { return };
    let compiled = Arc::new(Route {
        index: apis.routes.len(),
        name: name.into(),
        api: Arc::clone(around.api),
        access,
        rate,
        class,
        request,
        response,
        reporting: if reports { mode.with(Stage::Response) } else { mode },
    });
    match apis.router.add(around.api.hosts(), &pattern, &compiled) {
        Ok(()) => apis.routes.push(compiled),
        Err(Conflict::Same(other)) => {
            context
                .problems
                .error(place(), format!("this route matches the same requests as `{}`", other.name()))
                .help("keep one of them, or give their APIs different `hosts`");
        }
        Err(Conflict::Ambiguous) => {
            context
                .problems
                .error(place(), "this route overlaps with another: which is meant is left open")
                .help("`{name}` and `{name...}` cannot stand at the same place of two paths");
        }
    }
}

fn access(
    context: &mut Context<'_>,
    document: &Document,
    route: &document::Route,
    described: Option<(&Described, &Operation)>,
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
            context.error(at.key("only"), "a public route does not know its callers, so `only` cannot hold");
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
            Some(scoped(context, route, ScopeRequirement::new(scopes.clone(), route.only.clone()), at))
        }
        (None, _) if let Some((described, operation)) = described => {
            let ways = described.ways(context, document, operation, at)?;
            Some(scoped(context, route, ScopeRequirement::any_of(ways, route.only.clone()), at))
        }
        (None, _) => {
            context.missing(
                at.key("scopes"),
                "this route says neither `scopes` nor `public`",
                "write the scopes it needs, such as `scopes: [orders:read]`; or `public: true` to open it to anybody",
            );
            None
        }
    }
}

/// Scopes, and what else is asked of a credential.
fn scoped(context: &mut Context<'_>, route: &document::Route, requirement: ScopeRequirement, at: At<'_>) -> Access {
    let strong = strengths(context, route, at.key("proof_of_possession"));
    let max_age = route.max_age.map(|Period(most)| i64::try_from(most.as_secs()).unwrap_or(i64::MAX));
    Access::Scoped(requirement.strong(strong, max_age))
}

fn strengths(context: &mut Context<'_>, route: &document::Route, at: At<'_>) -> Option<Vec<Strength>> {
    let written = route.proof_of_possession.as_ref()?;
    if written.is_empty() {
        context.error(at, "an empty list accepts no credential");
    }
    let mut strengths = Vec::new();
    for (position, name) in written.iter().enumerate() {
        match Strength::ALL.iter().find(|(known, _)| known == name) {
            Some((_, strength)) => strengths.push(*strength),
            None => {
                context.unknown(at.index(position), "proof of possession", name, Strength::ALL.map(|(known, _)| known));
            }
        }
    }
    Some(strengths)
}
