//! The policy: `document` is the file as written, [`Policy`] is what is enforced, and only `compile` turns one into the
//! other.
//!
//! A policy is immutable and shared by pointer. A request keeps the one it began with, even if another is loaded meanwhile.

mod api;
mod auth_digest;
pub(crate) mod catalog;
pub(crate) mod compile;
pub(crate) mod cors;
mod decode;
mod decode_error;
pub(crate) mod diagnostic;
pub(crate) mod document;
pub(crate) mod header_changes;
pub(crate) mod header_rules;
mod include;
mod included;
mod json_file;
mod json_place;
mod load;
pub(crate) mod openapi;
pub(crate) mod path_mapping;
mod quoted;
pub(crate) mod read_file;
mod reporting;
pub(crate) mod request_fields;
pub(crate) mod router;
pub(crate) mod secret_uses;
pub(crate) mod self_service;
pub(crate) mod share;
pub(crate) mod shown;
pub(crate) mod source;
mod text;
mod tls;
pub(crate) mod token_service;
pub(crate) mod tree;
pub(crate) mod units;
pub(crate) mod upgrade;
pub(crate) mod upstream;
pub(crate) mod validity;
mod vault_answers;
pub(crate) mod watch;
pub(crate) mod written;
pub(crate) mod yaml;
mod yaml_error;
pub(crate) mod yaml_file;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use secrecy::SecretString;

use self::api::ApiFacts;
pub(crate) use self::api::{Access, Api, Own, Route};
use self::header_rules::HeaderRules;
pub(crate) use self::reporting::Reporting;
use self::router::{Found, Router};
use self::secret_uses::PolicyVault;
use self::self_service::SelfService;
use self::source::PolicyText;
use self::token_service::TokenService;
pub(crate) use self::tree::At;
pub(crate) use self::units::Period;
pub(crate) use self::upstream::{Server, Upstream};
use self::validity::Validity;
use self::watch::Watch;
use crate::audit::AuditConfig;
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::secrets::inputs::Input;
use crate::stages::auth::Rules;
use crate::stages::auth::certificate::ClientTrust;
use crate::stages::auth::forwarded_certificate::ForwardedCertificates;
use crate::stages::rate_limit::SharedLimits;
use crate::state::registry::StoreConfig;
use crate::traces::TracesConfig;

/// A slash that is part of a segment, in a normalised path.
pub(crate) const ENCODED_SLASH: &str = "%2F";

/// A compiled policy.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Identifies the policy in records; covers no secret.
    digest: Arc<str>,
    /// Identifies what it says about authentication and revocation.
    auth_digest: Arc<str>,
    /// Changes if anything that was read changes; covers secrets, and is never shown.
    fingerprint: String,
    /// The files and environment variables that it was read from.
    pub(crate) inputs: Vec<Input>,
    /// How its files are watched; absent: they are not.
    pub(crate) watch: Option<Watch>,
    /// Its text, if changed files or secrets are put in force with it. Absent: the policy file is read again.
    pub(crate) text: Option<PolicyText>,
    /// Number of workers; one per core when absent. Read once, at start.
    workers: Option<usize>,
    timeouts: Timeouts,
    limits: Limits,
    listeners: Vec<Listener>,
    trusted_proxies: Vec<IpNet>,
    headers: Arc<HeaderRules>,
    admin: Option<Admin>,
    auth: Arc<Rules>,
    apis: Vec<Arc<Api>>,
    routes: Vec<Arc<Route>>,
    router: Router<Arc<Route>>,
    api_facts: ApiFacts,
    /// The servers of all APIs; [`Server::index`] is the position here.
    servers: Vec<Arc<Server>>,
    token_service: Option<TokenService>,
    self_service: Option<SelfService>,
    audit: AuditConfig,
    traces: Option<TracesConfig>,
    /// The vault that it has secrets of.
    pub(crate) vault: Option<PolicyVault>,
    /// Whether the policy names a store for operators' changes.
    has_store: bool,
    /// The store; absent for a rehearsal, which keeps nothing.
    store: Option<StoreConfig>,
    /// How limits are counted in a store that nodes share.
    shared_limits: SharedLimits,
}

/// Timeouts for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// For all headers of a request.
    pub(crate) request_headers: Duration,
    /// For an idle connection that is kept alive after a request.
    pub(crate) idle: Duration,
    /// For the requests in flight at shutdown.
    pub(crate) drain: Duration,
    /// For a client that takes nothing of its response.
    pub(crate) stall: Duration,
}

/// Limits on what clients may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Size of all headers of a request, in bytes.
    pub(crate) header_size: usize,
    /// Number of headers of a request.
    pub(crate) headers: usize,
    /// Open client connections.
    pub(crate) connections: usize,
    /// Open connections of one client network.
    pub(crate) per_client: usize,
    /// Bodies that are held and decoded, all requests together, in bytes.
    pub(crate) memory: u64,
}

/// A listener for requests.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// Address and port.
    pub(crate) address: SocketAddr,
    /// Present: TLS.
    pub(crate) tls: Option<ListenerTls>,
    /// Present: every request is redirected to this port, by https.
    pub(crate) redirect: Option<u16>,
    /// Whether connections begin with a PROXY protocol header.
    pub(crate) proxy_protocol: bool,
    /// Present: client certificates are those that trusted proxies pass on.
    pub(crate) forwarded_certificates: Option<ForwardedCertificates>,
    /// How long its certificates, and the authorities and revocation lists of its clients, are valid.
    pub(crate) validities: Vec<Validity>,
}

/// TLS of a listener.
#[derive(Debug, Clone)]
pub(crate) struct ListenerTls {
    /// The server configuration.
    pub(crate) config: Arc<ServerConfig>,
    /// Verifies client certificates; absent if the listener does not request them.
    pub(crate) trust: Option<ClientTrust>,
}

/// The admin listener.
#[derive(Debug)]
pub(crate) struct Admin {
    /// Where it listens; never empty.
    pub(crate) places: Vec<AdminPlace>,
    /// Present: TLS at its address.
    pub(crate) tls: Option<AdminTls>,
    /// The tokens. Without any, all endpoints except health, readiness and metrics are closed.
    pub(crate) tokens: Vec<AdminToken>,
}

/// TLS of the admin listener.
#[derive(Debug)]
pub(crate) struct AdminTls {
    /// The server configuration, for HTTP/1.1 alone.
    pub(crate) config: Arc<ServerConfig>,
    /// The certificates that it presents, which operators with this policy trust.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// How long its certificates, and the authorities and revocation lists of its clients, are valid.
    pub(crate) validities: Vec<Validity>,
}

/// The address of the admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminPlace {
    /// Address and port.
    Address(SocketAddr),
    /// Reachable on this machine only.
    Socket(AdminSocket),
}

/// A Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminSocket {
    /// The file of the socket.
    pub(crate) path: PathBuf,
    /// Permission bits of that file: they decide who may connect.
    pub(crate) mode: u32,
}

impl AdminPlace {
    /// Whether both are the same socket or address; the mode may differ.
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
    /// The operator's name, for records.
    pub(crate) name: Box<str>,
    /// The token.
    pub(crate) token: SecretString,
    /// What it permits.
    pub(crate) rights: Rights,
    /// Its position in `admin.tokens`; absent: `admin.token`.
    pub(crate) written_at: Option<usize>,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rights {
    /// Read only.
    Read,
    /// Read and change.
    Operate,
}

impl Policy {
    /// SHA-256 of the policy file and the files it names, without secrets, in hexadecimal.
    pub(crate) fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// SHA-256 of what the policy says about authentication and revocation, in hexadecimal: a drill is evidence for it.
    pub(crate) fn auth_digest(&self) -> &Arc<str> {
        &self.auth_digest
    }

    /// Whether both were compiled from the same bytes, secrets included.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Number of workers; `None`: one per core.
    pub(crate) fn workers(&self) -> Option<usize> {
        self.workers
    }

    /// Timeouts for clients.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Limits on what clients may send.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// The listeners for requests.
    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// How long the certificates and revocation lists of all listeners are valid, the admin listener's included; one that
    /// several use comes several times.
    pub(crate) fn validities(&self) -> impl Iterator<Item = &Validity> {
        let admin = self.admin.iter().filter_map(|admin| admin.tls.as_ref()).flat_map(|tls| &tls.validities);
        self.listeners.iter().flat_map(|listener| &listener.validities).chain(admin)
    }

    /// Whether this is the address of a trusted proxy.
    pub(crate) fn trusts_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// The proxies whose forwarded headers are trusted.
    pub(crate) fn trusted_proxies(&self) -> &[IpNet] {
        &self.trusted_proxies
    }

    /// Which header fields of callers are dropped, and which the policy has.
    pub(crate) fn headers(&self) -> &Arc<HeaderRules> {
        &self.headers
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

    /// The token service.
    pub(crate) fn token_service(&self) -> Option<&TokenService> {
        self.token_service.as_ref()
    }

    /// What callers may see and do for themselves.
    pub(crate) fn self_service(&self) -> Option<&SelfService> {
        self.self_service.as_ref()
    }

    /// Where records are written, and how they are chained and kept.
    pub(crate) fn audit(&self) -> &AuditConfig {
        &self.audit
    }

    /// Which requests are traced, and where their spans go; absent: none.
    pub(crate) fn traces(&self) -> Option<&TracesConfig> {
        self.traces.as_ref()
    }

    /// Whether the policy names a store for operators' changes.
    pub(crate) fn has_store(&self) -> bool {
        self.has_store
    }

    /// How limits are counted in a store that nodes share.
    pub(crate) fn shared_limits(&self) -> SharedLimits {
        self.shared_limits
    }

    /// The store for operators' changes.
    pub(crate) fn store(&self) -> Option<&StoreConfig> {
        self.store.as_ref()
    }

    /// Whether a route takes WebSockets.
    pub(crate) fn has_websockets(&self) -> bool {
        self.api_facts.has_websockets
    }

    /// Whether an API has `cors`.
    pub(crate) fn has_cors(&self) -> bool {
        self.api_facts.has_cors
    }

    /// Whether a route keeps encoded slashes, so that paths may have them until their route is known.
    pub(crate) fn keeps_encoded_slashes(&self) -> bool {
        self.api_facts.keeps_encoded_slashes
    }

    /// The only API that serves this host; `None` if there are several.
    pub(crate) fn only_api_of(&self, host: &str) -> Option<&Arc<Api>> {
        let mut serving = self.apis.iter().filter(|api| api.serves(host) && !api.is_everywhere());
        let first = serving.next()?;
        if serving.next().is_none() { Some(first) } else { None }
    }

    /// The listener of this address.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.address == address)
    }

    /// Returns the client's path for one of an API's upstream, which is without the base path of its server.
    pub(crate) fn client_path(&self, api: &Api, upstream_path: &str) -> String {
        let rewritten =
            self.api_facts.reversed_rewrites.get(api.index).and_then(|reversed| reversed.path(upstream_path));
        rewritten.unwrap_or_else(|| format!("{}{upstream_path}", api.strip()))
    }

    /// Finds the route of a request, or returns a refusal.
    pub(crate) fn route(
        &self,
        host: &str,
        method: &http::Method,
        path: &str,
        query: Option<&str>,
    ) -> Result<&Arc<Route>, Refusal> {
        let found = self.router.find(host, method, path, query);
        if self.api_facts.keeps_encoded_slashes
            && path.contains(ENCODED_SLASH)
            && !matches!(&found, Found::Route(route) if route.keeps_encoded_slash)
        {
            let detail = "remove the encoded slash (%2F) from the path";
            return Err(Refusal::new(Stage::Request, Reason::MalformedRequest, detail));
        }
        match found {
            Found::Route(route) => Ok(route),
            Found::OtherMethods(methods) => Err(Refusal::new(
                Stage::Request,
                Reason::MethodNotAllowed,
                "use one of the methods in `allowed_methods`",
            )
            .members(Members { allowed_methods: Some(methods), ..Members::default() })),
            Found::Closed(why) => {
                let detail = "this operation is described, but closed here; ask the API's owner to open it";
                Err(Refusal::new(Stage::Request, Reason::NoRoute, detail).cause(why.to_owned()))
            }
            Found::Ambiguous => Err(Refusal::new(
                Stage::Request,
                Reason::MalformedRequest,
                "write the path without encoded reserved characters and without `;`: it may be read as another path",
            )),
            Found::Nothing => {
                Err(Refusal::new(Stage::Request, Reason::NoRoute, "no API here has this path; check host and path"))
            }
        }
    }
}
