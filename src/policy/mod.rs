//! From a text to what is enforced: `document` is what is written, [`Policy`] is what holds, `compile` is the only way
//! from one to the other.
//!
//! A policy is immutable and shared by pointer. A request lives on the one it began with, whatever is reloaded meanwhile.

pub(crate) mod compile;
mod decode;
mod decode_error;
pub(crate) mod diagnostic;
pub(crate) mod document;
mod load;
pub(crate) mod openapi;
pub(crate) mod router;
pub(crate) mod source;
mod tls;
mod tree;
mod units;
mod yaml;
mod yaml_error;
pub(crate) mod yaml_file;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use secrecy::SecretString;

use self::router::{Found, Router};
pub(crate) use self::tree::At;
pub(crate) use self::units::Period;
use crate::audit::SinkConfig;
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::stages::auth::Rules;
use crate::stages::auth::certificate::ClientTrust;
use crate::stages::rate_limit::RouteLimit;
use crate::stages::{schema, scope};
use crate::state::ledger::LimitId;
use crate::state::registry::StoreConfig;

/// What is enforced.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Names it in records; covers no secret.
    digest: Arc<str>,
    /// Tells whether anything that was read has changed; covers secrets, and is never shown.
    fingerprint: String,
    /// Workers asked for; one per core when absent. Read once, at start.
    workers: Option<usize>,
    timeouts: Timeouts,
    limits: Limits,
    listeners: Vec<Listener>,
    trusted_proxies: Vec<IpNet>,
    admin: Option<Admin>,
    auth: Arc<Rules>,
    apis: Vec<Arc<Api>>,
    routes: Vec<Arc<Route>>,
    router: Router<Arc<Route>>,
    /// Servers of all APIs; [`Server::index`] is the position here.
    servers: Vec<Arc<Server>>,
    sinks: Vec<SinkConfig>,
    /// Whether it names a store for what operators change.
    has_store: bool,
    /// Where that is; absent for a rehearsal, which keeps nothing.
    store: Option<StoreConfig>,
}

/// Deadlines towards clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// All headers of a request.
    pub(crate) request_headers: Duration,
    /// A kept-alive connection doing nothing.
    pub(crate) idle: Duration,
    /// Finishing what is in flight at shutdown.
    pub(crate) drain: Duration,
}

/// Bounds on what clients may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// All headers of a request together, in bytes.
    pub(crate) header_size: usize,
    /// Number of headers.
    pub(crate) headers: usize,
    /// Open client connections.
    pub(crate) connections: usize,
    /// Open connections from one address.
    pub(crate) per_client: usize,
}

/// Where requests are taken.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// Address and port.
    pub(crate) address: SocketAddr,
    /// Present: TLS.
    pub(crate) tls: Option<ListenerTls>,
}

/// TLS of a listener.
#[derive(Debug, Clone)]
pub(crate) struct ListenerTls {
    /// What it speaks.
    pub(crate) config: Arc<ServerConfig>,
    /// Who vouches for its clients' certificates, where it asks for them.
    pub(crate) trust: Option<ClientTrust>,
}

/// The admin listener.
#[derive(Debug)]
pub(crate) struct Admin {
    /// Where it is; somewhere.
    pub(crate) places: Vec<AdminPlace>,
    /// What opens all but health, readiness and metrics; nothing does when there is none.
    pub(crate) tokens: Vec<AdminToken>,
}

/// Where the admin listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminPlace {
    /// Address and port.
    Address(SocketAddr),
    /// On this machine alone.
    Socket(AdminSocket),
}

/// A Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminSocket {
    /// Its file.
    pub(crate) path: PathBuf,
    /// Who may connect: permission bits of that file.
    pub(crate) mode: u32,
}

impl AdminPlace {
    /// Whether both are one entrance, be it with another mode.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Socket(socket), Self::Socket(other)) => socket.path == other.path,
            _ => self == other,
        }
    }
}

/// A token of the admin listener.
#[derive(Debug)]
pub(crate) struct AdminToken {
    /// Who has it, for the record.
    pub(crate) name: Box<str>,
    /// The token.
    pub(crate) token: SecretString,
    /// What it opens.
    pub(crate) rights: Rights,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rights {
    /// Look.
    Read,
    /// Change, too.
    Operate,
}

/// One API and its servers.
#[derive(Debug)]
pub(crate) struct Api {
    index: usize,
    name: Arc<str>,
    hosts: Box<[Box<str>]>,
    upstream: Upstream,
}

/// The servers of an API.
#[derive(Debug)]
pub(crate) struct Upstream {
    servers: Vec<Arc<Server>>,
    /// Until the response's headers.
    pub(crate) response_timeout: Duration,
    /// Whether the caller's credential goes upstream.
    pub(crate) forward_credentials: bool,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Position in the policy.
    pub(crate) index: usize,
    /// As written: scheme and authority.
    pub(crate) name: Arc<str>,
    /// Connections made under one policy serve the next when this is equal: name, and what was trusted.
    pub(crate) identity: Arc<str>,
    /// Host to connect to: a name or an address.
    pub(crate) host: Box<str>,
    /// Port.
    pub(crate) port: u16,
    /// `Host` of requests sent to it.
    pub(crate) authority: HeaderValue,
    /// Present: https.
    pub(crate) tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    /// Until a connection stands.
    pub(crate) connect_timeout: Duration,
    /// Between two bytes of a body.
    pub(crate) idle_timeout: Duration,
}

/// The stages that only report: what they decide is noted, and the call goes on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reporting(u8);

impl Reporting {
    /// With this one.
    pub(crate) fn with(self, stage: Stage) -> Self {
        Self(self.0 | 1 << stage as u8)
    }

    /// Without this one.
    pub(crate) fn without(self, stage: Stage) -> Self {
        Self(self.0 & !(1 << stage as u8))
    }

    /// Whether this one only reports.
    pub(crate) fn contains(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }

    /// Whether any does.
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }
}

/// Who may use a route.
#[derive(Debug)]
pub(crate) enum Access {
    /// Anybody.
    Public,
    /// Known callers with these scopes.
    Scoped(scope::Requirement),
}

/// One route: the four stages' requirements, and where its requests go.
#[derive(Debug)]
pub(crate) struct Route {
    index: usize,
    name: Arc<str>,
    api: Arc<Api>,
    /// Who may use it.
    pub(crate) access: Access,
    /// Its own limit, beside the plan.
    pub(crate) rate: Option<RouteLimit>,
    /// The class of endpoints it is of, for which plans may have a limit.
    pub(crate) class: Option<LimitId>,
    /// What its requests must be.
    pub(crate) request: schema::Requirement,
    /// What its answers must be.
    pub(crate) response: Option<schema::response::Requirement>,
    /// Which of its stages only report.
    pub(crate) reporting: Reporting,
}

impl Policy {
    /// SHA-256 of the file and those it names, without secrets, in hexadecimal.
    pub(crate) fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// Whether it was made of the very same bytes, secrets included.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Workers asked for.
    pub(crate) fn workers(&self) -> Option<usize> {
        self.workers
    }

    /// Deadlines towards clients.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Bounds on what clients may send.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Where requests are taken.
    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Whose forwarded headers are believed.
    pub(crate) fn trusted_proxies(&self) -> &[IpNet] {
        &self.trusted_proxies
    }

    /// The admin listener.
    pub(crate) fn admin(&self) -> Option<&Admin> {
        self.admin.as_ref()
    }

    /// How callers are authenticated.
    pub(crate) fn auth(&self) -> &Arc<Rules> {
        &self.auth
    }

    /// All APIs, by name.
    pub(crate) fn apis(&self) -> &[Arc<Api>] {
        &self.apis
    }

    /// All routes, by API and name.
    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Servers of all APIs.
    pub(crate) fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }

    /// Where the record goes; nowhere when empty.
    pub(crate) fn sinks(&self) -> &[SinkConfig] {
        &self.sinks
    }

    /// Whether it names a store for what operators change.
    pub(crate) fn has_store(&self) -> bool {
        self.has_store
    }

    /// The store for what operators change.
    pub(crate) fn store(&self) -> Option<&StoreConfig> {
        self.store.as_ref()
    }

    /// The route of a request, or the refusal that says there is none.
    pub(crate) fn route(&self, host: &str, method: &http::Method, path: &str) -> Result<&Arc<Route>, Refusal> {
        match self.router.find(host, method, path) {
            Found::Route(route) => Ok(route),
            Found::OtherMethods(methods) => Err(Refusal::new(
                Stage::Request,
                Reason::MethodNotAllowed,
                "use one of the methods in `allowed_methods`",
            )
            .members(Members { allowed_methods: Some(methods), ..Members::default() })),
            Found::Nothing => {
                Err(Refusal::new(Stage::Request, Reason::NoRoute, "no API here has this path; check host and path"))
            }
        }
    }
}

impl Api {
    /// Its position among the policy's APIs.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Its name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Host names it answers to; empty: any.
    pub(crate) fn hosts(&self) -> &[Box<str>] {
        &self.hosts
    }

    /// Its servers.
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

impl Upstream {
    /// All servers.
    pub(crate) fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }
}

impl Server {
    /// Whether another policy's server has the same timeouts.
    pub(crate) fn same_timeouts(&self, other: &Self) -> bool {
        self.connect_timeout == other.connect_timeout && self.idle_timeout == other.idle_timeout
    }
}

impl Route {
    /// Its position among the policy's routes.
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

    /// The scopes it asks for; none when it is public.
    pub(crate) fn required_scopes(&self) -> &[Box<str>] {
        match &self.access {
            Access::Public => &[],
            Access::Scoped(requirement) => requirement.scopes(),
        }
    }
}
