//! The APIs of a policy and their routes.

use std::sync::Arc;

use http::HeaderName;

use super::cors::Cors;
use super::header_changes::HeaderChanges;
use super::path_mapping::{PathMapping, ReversedRewrites};
use super::reporting::Reporting;
use super::router;
use super::self_service::SelfEndpoint;
use super::shown::Shown;
use super::token_service::OwnEndpoint;
use super::upgrade::WebSocket;
use super::upstream::Upstream;
use crate::exchange::networks::Networks;
use crate::stages::auth::locations::CredentialLocations;
use crate::stages::rate_limit::RouteLimits;
use crate::stages::{schema, scope};

/// One API and its servers.
#[derive(Debug)]
pub(crate) struct Api {
    pub(super) index: usize,
    pub(super) name: Arc<str>,
    pub(super) hosts: Box<[Box<str>]>,
    pub(super) upstream: Upstream,
    /// Fields of callers that it keeps although they would be dropped.
    pub(super) kept_headers: Box<[HeaderName]>,
    /// What is set and removed of requests' fields.
    pub(super) request_headers: HeaderChanges,
    /// What is set and removed of responses' fields.
    pub(super) response_headers: HeaderChanges,
    /// What is taken off the front of paths; absent: nothing.
    pub(super) strip: Option<Box<str>>,
    pub(super) cors: Option<Cors>,
    /// Where its requests carry credentials.
    pub(super) credentials: CredentialLocations,
}

/// What is known of all APIs and routes together.
#[derive(Debug)]
pub(super) struct ApiFacts {
    /// Whether an API has `cors`.
    pub(super) has_cors: bool,
    /// Whether a route takes WebSockets.
    pub(super) has_websockets: bool,
    /// Whether a route keeps encoded slashes.
    pub(super) keeps_encoded_slashes: bool,
    /// The paths that rewritten ones come from, of each API.
    pub(super) reversed_rewrites: Vec<ReversedRewrites>,
}

impl ApiFacts {
    pub(super) fn of(apis: &[Arc<Api>], routes: &[Arc<Route>]) -> Self {
        Self {
            has_websockets: routes.iter().any(|route| route.websocket.is_some()),
            has_cors: apis.iter().any(|api| api.cors.is_some()),
            keeps_encoded_slashes: routes.iter().any(|route| route.keeps_encoded_slash),
            reversed_rewrites: apis.iter().map(|api| reversed_rewrites(api, routes)).collect(),
        }
    }
}

/// Where several routes have the same rewritten path, that of a GET counts: it is what `Location` is for.
fn reversed_rewrites(api: &Arc<Api>, routes: &[Arc<Route>]) -> ReversedRewrites {
    let own = routes.iter().filter(|route| Arc::ptr_eq(&route.api, api));
    let (gets, others): (Vec<_>, Vec<_>) = own.partition(|route| route.name.starts_with("GET "));
    let mut reversed = ReversedRewrites::default();
    for route in gets.into_iter().chain(others) {
        reversed.add(&route.name, &route.mapping);
    }
    reversed
}

/// Who may call a route.
#[derive(Debug)]
pub(crate) enum Access {
    /// Everyone.
    Public,
    /// Authenticated callers with these scopes.
    Scoped(scope::Requirement),
}

/// What this process answers itself, and does not forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// An endpoint of the token service.
    TokenService(OwnEndpoint),
    /// An endpoint for callers.
    SelfService(SelfEndpoint),
}

impl Own {
    /// Whether its refusals have the form of RFC 6749 §5.2.
    pub(crate) fn is_of_oauth(self) -> bool {
        matches!(self, Self::TokenService(endpoint) if endpoint.is_of_oauth())
    }
}

/// One route: what the four stages require, and the API that requests are forwarded to.
#[derive(Debug)]
pub(crate) struct Route {
    pub(super) index: usize,
    pub(super) name: Arc<str>,
    pub(super) api: Arc<Api>,
    /// Who may call it.
    pub(crate) access: Access,
    /// The networks that it may be called from; absent: any.
    pub(crate) networks: Option<Networks>,
    /// Its own rate, its class and its cost.
    pub(crate) limits: RouteLimits,
    /// What requests must satisfy.
    pub(crate) request: schema::Requirement,
    /// What responses must satisfy.
    pub(crate) response: Option<schema::response::Requirement>,
    /// The stages that only report.
    pub(crate) reporting: Reporting,
    /// The same for what is hidden of responses: a contract that is only tried (`response.mode`) does not show it.
    pub(crate) mask_reporting: Reporting,
    /// What becomes of its paths.
    pub(crate) mapping: PathMapping,
    /// Whether its paths may have encoded slashes.
    pub(crate) keeps_encoded_slash: bool,
    /// What answers in place of the upstream, if this process does.
    pub(crate) own: Option<Own>,
    /// What callers are shown of it; absent unless `self_service` shows it.
    pub(crate) shown: Option<Box<Shown>>,
    /// Requests may become WebSockets.
    pub(crate) websocket: Option<WebSocket>,
}

impl Api {
    /// An API that this process itself answers for.
    pub(crate) fn own(index: usize, name: &str, hosts: Box<[Box<str>]>, credentials: CredentialLocations) -> Self {
        Self {
            index,
            name: name.into(),
            hosts,
            upstream: Upstream::none(),
            kept_headers: Box::default(),
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
            strip: None,
            cors: None,
            credentials,
        }
    }

    /// Position in [`Policy::apis`](super::Policy::apis).
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Its name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it serves this host.
    pub(crate) fn serves(&self, host: &str) -> bool {
        self.hosts.is_empty() || router::has_host(&self.hosts, host)
    }

    /// Whether this process answers for it, whatever the host: then it says nothing of which hosts there are.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.hosts.is_empty() && self.upstream.servers.is_empty()
    }

    /// The host names that it serves, which may be wildcards; empty: any.
    pub(crate) fn hosts(&self) -> &[Box<str>] {
        &self.hosts
    }

    /// Its servers.
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Header fields of callers that it keeps although they would be dropped.
    pub(crate) fn kept_headers(&self) -> &[HeaderName] {
        &self.kept_headers
    }

    /// What is set and removed of requests' fields.
    pub(crate) fn request_headers(&self) -> &HeaderChanges {
        &self.request_headers
    }

    /// What is set and removed of responses' fields.
    pub(crate) fn response_headers(&self) -> &HeaderChanges {
        &self.response_headers
    }

    /// Which pages may call it from a browser; absent: that is its upstream's to say.
    pub(crate) fn cors(&self) -> Option<&Cors> {
        self.cors.as_ref()
    }

    /// Where its requests carry credentials.
    pub(crate) fn credentials(&self) -> &CredentialLocations {
        &self.credentials
    }

    /// What is taken off the front of paths: empty, or a path without a slash at its end.
    pub(crate) fn strip(&self) -> &str {
        self.strip.as_deref().unwrap_or_default()
    }
}

impl Route {
    /// Position in [`Policy::routes`](super::Policy::routes).
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// `METHOD /path`, as written.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The API it belongs to.
    pub(crate) fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// The headers that decide about its requests: an upstream must get them as they came.
    pub(crate) fn decisive_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.request.header_names().chain(self.compared_headers())
    }

    /// The headers that are compared with what the caller has.
    pub(crate) fn compared_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let ownership = match &self.access {
            Access::Public => None,
            Access::Scoped(requirement) => requirement.ownership(),
        };
        ownership.unwrap_or_default().iter().filter_map(|condition| match condition.named() {
            scope::ownership::Named::Header(name) => Some(name),
            _ => None,
        })
    }

    /// The scopes of all its alternatives; none if it is public.
    pub(crate) fn all_scopes(&self) -> impl Iterator<Item = &str> {
        let alternatives = match &self.access {
            Access::Public => &[],
            Access::Scoped(requirement) => requirement.alternatives(),
        };
        alternatives.iter().flat_map(|alternative| alternative.scopes.iter().map(|scope| &**scope))
    }

    /// The scopes that it requires; none if it is public.
    pub(crate) fn required_scopes(&self) -> &[Box<str>] {
        match &self.access {
            Access::Public => &[],
            Access::Scoped(requirement) => requirement.scopes(),
        }
    }
}
