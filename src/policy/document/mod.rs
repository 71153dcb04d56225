//! The policy file as written: plain serde types that mirror the language, and nothing else.
//!
//! Every field is optional here, also those the language requires: [`super::compile`] says what is missing, so that one
//! absent key never hides the other problems of a file. Nothing at request time sees these types.

mod audit;
mod auth;
mod consumers;
mod contracts;
mod cors;
mod egress;
mod headers;
mod one_or_list;
mod openapi;
mod plans;
pub(crate) mod schema;
mod secret;
mod secrets;
mod self_service;
mod store;
mod telemetry;
mod token_service;
mod upgrade;
mod upstream;
mod watch;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::Deserializer;

pub(crate) use self::audit::{
    Audit, AuditMap, Chain, ElasticsearchSink, FileSink, HttpSink, OtlpSink, Rotate, Sink, Spool, SyslogSink,
};
pub(crate) use self::auth::{ApiKeys, Auth, ClaimNames, Dpop, Introspection, Issuer, RequiredValues, TokenLocation};
pub(crate) use self::consumers::{AttributeValues, Consumer, Identity, Key, KeyRotation};
pub(crate) use self::contracts::{Content, MaskRule, Mode, Request, Response, SoapContract};
pub(crate) use self::cors::Cors;
pub(crate) use self::egress::Egress;
pub(crate) use self::headers::{ApiHeaders, Headers};
pub(crate) use self::openapi::OpenApi;
pub(crate) use self::plans::{Class, CountBy, Plan, Quotas};
pub(crate) use self::secret::Secret;
use self::secret::secret;
pub(crate) use self::secrets::{AppRole, Issue, Login, Secrets, Vault};
pub(crate) use self::self_service::SelfService;
pub(crate) use self::store::{Servers, Store};
pub(crate) use self::telemetry::{OtlpTraces, Telemetry};
pub(crate) use self::token_service::{Client, RefreshToken, TokenService};
use self::upgrade::Upgrade;
pub(crate) use self::upstream::{Eject, Health, RetriesMap, Upstream, UpstreamMap, UpstreamTls};
use self::upstream::{Pins, Retries, RetryCause};
pub(crate) use self::watch::Watch;
use self::watch::WatchMap;
use super::units::{Period, Rate, Size};

/// A Bartizan policy.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Document {
    /// Version of the policy language: 1. Required.
    #[schemars(range(min = 1, max = 1))]
    pub(crate) version: Option<u32>,
    /// Files that define `roles`, `plans`, `consumers` and `apis`, too: paths, or patterns with `*`, relative to this file, as are all
    /// paths in them.
    pub(crate) include: Vec<String>,
    /// Where the schemas are that `$ref` and `schemaLocation` name by URL: a URL and its file, or a prefix that ends with `/` and
    /// its folder. Nothing is fetched.
    pub(crate) catalog: BTreeMap<String, String>,
    /// How many worker threads serve requests: `auto` (one per core) or a number. Read at start only.
    #[schemars(extend("default" = "auto"))]
    pub(crate) workers: Option<Workers>,
    /// Whether every warning is an error.
    #[schemars(extend("default" = false))]
    pub(crate) strict: Option<bool>,
    /// Warnings of `check` that are meant: `unused_role`, `unused_plan`, `unused_class`, `unused_schema`, `no_credential`,
    /// `ungranted_scope` or `two_names`; and after a space, the only name that is meant: `unused_role auditor`.
    pub(crate) allow: Vec<String>,
    /// Addresses that accept requests. Required.
    pub(crate) listen: Vec<Listen>,
    /// Networks whose `X-Forwarded-For` is trusted, such as `10.0.0.0/8`.
    pub(crate) trusted_proxies: Vec<String>,
    /// Header fields of callers.
    pub(crate) headers: Headers,
    /// The admin listener. Default: none.
    pub(crate) admin: Option<Admin>,
    /// Deadlines for clients.
    pub(crate) timeouts: Timeouts,
    /// Limits on what clients may send.
    pub(crate) limits: Limits,
    /// Where secrets come from, beside environment variables and files.
    pub(crate) secrets: Secrets,
    /// How this process calls others: issuers for their keys, introspection endpoints, and the sinks of the record.
    pub(crate) egress: Egress,
    /// Where keys, revocations and other changes made at run time are kept. Default: none.
    pub(crate) store: Option<Store>,
    /// How callers are authenticated.
    pub(crate) auth: Auth,
    /// The OAuth 2.0 token service for the clients of consumers. Default: none.
    pub(crate) token_service: Option<TokenService>,
    /// What callers may see and do for themselves. Default: nothing.
    pub(crate) self_service: Option<SelfService>,
    /// Roles: a name and its scopes.
    pub(crate) roles: BTreeMap<String, Vec<String>>,
    /// Scopes that do most harm in the wrong hands. `bartizan ready` wants `only`, `proof_of_possession` or `max_age` at the routes
    /// that require one of them. Default: none; routes of the method DELETE are powerful anyway.
    pub(crate) powerful_scopes: Vec<String>,
    /// Plans: a name and its rate limits.
    pub(crate) plans: BTreeMap<String, Plan>,
    /// Consumers: a name, and which credentials and permissions the consumer has.
    pub(crate) consumers: BTreeMap<String, Consumer>,
    /// APIs: a name, the servers and the routes. At least one is required.
    pub(crate) apis: BTreeMap<String, Api>,
    /// The audit records: `none`, a list of sinks, or a map with `to`. Default: standard output.
    pub(crate) audit: Option<Audit>,
    /// Traces, which go to an OpenTelemetry collector.
    pub(crate) telemetry: Telemetry,
}

/// `workers: auto` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    /// One per core this process may use.
    Auto,
    /// This many.
    Count(u32),
}

/// An address that accepts requests: HTTP/1.1 and HTTP/2.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Listen {
    /// IP address and port, such as `0.0.0.0:8443`. Required.
    pub(crate) address: Option<String>,
    /// `https`, or `https:PORT`: every request is answered with 308, and the same URL with https.
    pub(crate) redirect: Option<String>,
    /// Whether connections begin with a PROXY protocol header, version 1 or 2, which only `trusted_proxies` may send. The address
    /// in it is that of the client.
    #[schemars(extend("default" = false))]
    pub(crate) proxy_protocol: Option<bool>,
    /// Takes client certificates from a header of `trusted_proxies`, which have made the handshake. Default: they are not.
    pub(crate) client_certificate_header: Option<ClientCertificateHeader>,
    /// Enables TLS. Default: cleartext.
    pub(crate) tls: Option<ListenTls>,
}

/// Client certificates in a header of trusted proxies.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientCertificateHeader {
    /// `rfc9440`: `Client-Cert` and `Client-Cert-Chain`; `xfcc`: `X-Forwarded-Client-Cert` with `Cert` or `Chain`. Required.
    #[schemars(extend("enum" = ["rfc9440", "xfcc"]))]
    pub(crate) format: Option<String>,
    /// PEM file of the authorities that issue client certificates, whose chains are verified here, too. Required.
    pub(crate) client_ca: Option<String>,
    /// PEM files of certificate revocation lists, read again at SIGHUP.
    pub(crate) client_crls: Vec<String>,
}

/// TLS settings of a listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ListenTls {
    /// PEM file of the certificate chain. Required, unless there is `issue` or `certificates`.
    pub(crate) certificate: Option<String>,
    /// PEM file of the private key, or a reference to the PEM itself. Required, unless there is `issue` or `certificates`.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) key: Option<SecretString>,
    /// A certificate that the vault issues, in place of `certificate` and `key`. Its key is made here.
    pub(crate) issue: Option<Issue>,
    /// Several certificates, in place of `certificate`, `key` and `issue`. A client is shown the one for the DNS name that it
    /// asks for (SNI), exact names before wildcards; the first is for all other clients.
    pub(crate) certificates: Option<Vec<ServerCertificate>>,
    /// PEM file of the authorities that issue client certificates. Default: none are requested.
    pub(crate) client_ca: Option<String>,
    /// Whether clients must present a certificate.
    #[schemars(extend("enum" = ["optional", "required"], "default" = "optional"))]
    pub(crate) client_certificate: Option<String>,
    /// PEM files of certificate revocation lists, read again at SIGHUP.
    pub(crate) client_crls: Vec<String>,
}

/// One of the certificates of a listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerCertificate {
    /// PEM file of the certificate chain. Required, unless there is `issue`.
    pub(crate) certificate: Option<String>,
    /// PEM file of the private key, or a reference to the PEM itself. Required, unless there is `issue`.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) key: Option<SecretString>,
    /// A certificate that the vault issues, in place of `certificate` and `key`. Its key is made here.
    pub(crate) issue: Option<Issue>,
}

/// The admin listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    /// IP address and port. Required without `socket`.
    pub(crate) address: Option<String>,
    /// Enables TLS at `address`. Default: cleartext.
    pub(crate) tls: Option<ListenTls>,
    /// A Unix socket, in addition to `address` or instead of it.
    pub(crate) socket: Option<AdminSocket>,
    /// Bearer token with all rights. Without any token, only health, readiness and metrics are available.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) token: Option<SecretString>,
    /// More bearer tokens, each with a name and rights.
    pub(crate) tokens: Vec<AdminToken>,
}

/// A Unix socket.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminSocket {
    /// Path of the socket. Its folder must exist. Required.
    pub(crate) path: Option<String>,
    /// Permissions of the socket file, as octal digits in quotes.
    #[schemars(extend("default" = "0600"))]
    pub(crate) mode: Option<String>,
}

/// A token of the admin listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminToken {
    /// Name of the token's owner, for the audit record. Required.
    pub(crate) name: Option<String>,
    /// The token. Required.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) token: Option<SecretString>,
    /// `read` allows GET; `operate` allows everything.
    #[schemars(extend("enum" = ["read", "operate"], "default" = "read"))]
    pub(crate) rights: Option<String>,
}

/// Deadlines for clients. Each applies to the whole operation, not to the time between two bytes; only `stall` limits
/// the time without progress.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// Receiving all request headers.
    #[schemars(extend("default" = "10s"))]
    pub(crate) request_headers: Option<Period>,
    /// Receiving the whole request body; a route can override it with `request.timeout`.
    #[schemars(extend("default" = "30s"))]
    pub(crate) request_body: Option<Period>,
    /// How long an idle connection is kept open.
    #[schemars(extend("default" = "75s"))]
    pub(crate) idle: Option<Period>,
    /// Finishing the requests in flight at shutdown.
    #[schemars(extend("default" = "30s"))]
    pub(crate) drain: Option<Period>,
    /// How long a client may take nothing of its response.
    #[schemars(extend("default" = "60s"))]
    pub(crate) stall: Option<Period>,
}

/// Limits on what clients may send.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Size of the request line and all headers, from 1KiB to 1MiB; more is refused with 431, a longer target with 414.
    #[schemars(extend("default" = "32KiB"))]
    pub(crate) header_size: Option<Size>,
    /// Number of request headers, from 8 to 1000; more is refused with 431.
    #[schemars(extend("default" = 100))]
    pub(crate) headers: Option<u32>,
    /// Size of a body that no schema validates; a route can override it with `request.max_size`.
    #[schemars(extend("default" = "10MiB"))]
    pub(crate) body_size: Option<Size>,
    /// Open client connections, but never more than the process may open; past it the longest idle one is closed, and
    /// new ones wait while all are busy.
    #[schemars(extend("default" = 10000))]
    pub(crate) connections: Option<u32>,
    /// Open connections of one client: an IPv4 address or an IPv6 /64; more are closed.
    #[schemars(extend("default" = 1000))]
    pub(crate) per_client: Option<u32>,
    /// Bodies of requests and responses that are held and decoded to be checked, with what judging XML keeps of them (keys,
    /// identifiers), all together, at least 1MiB; past it
    /// requests are refused with 503. Beside it, a connection of HTTP/2 holds at most 512 KiB that it has received and
    /// nobody has read (with some 300 bytes for each frame that they came in), and 512 KiB that its client does not take,
    /// with 8 KiB for each of its 128 streams (32 KiB from upstreams over HTTP/2, 60 KiB of WebSockets).
    #[schemars(extend("default" = "256MiB"))]
    pub(crate) memory: Option<Size>,
}

/// An API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Api {
    /// Host names that the API answers to; `*.shop.example` is any name with one label before `shop.example`, and comes after
    /// names that are written whole. Default: any.
    pub(crate) hosts: Vec<String>,
    /// Path that is taken off the front of the path of every request. All routes without `rewrite` begin with it.
    pub(crate) strip: Option<String>,
    /// Kinds of credentials that the API takes. What is not listed is not looked at, and goes on to the upstream as it came. Default: all.
    pub(crate) authenticate_by: Option<Vec<CredentialKind>>,
    /// The servers of the API: a URL, or a map with `servers`. Required.
    pub(crate) upstream: Option<Upstream>,
    /// OpenAPI 3.0 or 3.1 description whose operations become routes: a file, or a map with `document`.
    pub(crate) openapi: Option<OpenApi>,
    /// `report` records what would be refused, and lets it through.
    #[schemars(extend("default" = "enforce"))]
    pub(crate) mode: Option<Mode>,
    /// Header fields of requests to this API, and of its responses.
    pub(crate) headers: ApiHeaders,
    /// Which pages of other origins may call the API from a browser. Default: what the upstream says goes on to them.
    pub(crate) cors: Option<Cors>,
    /// Routes: `METHOD /path` and who may call it. `{name}` matches one segment, `{name...}` the rest of the path.
    pub(crate) routes: BTreeMap<String, Route>,
}

/// A kind of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CredentialKind {
    /// A token of an issuer, or one that is introspected.
    Token,
    /// An API key.
    ApiKey,
    /// The client certificate of the connection.
    Certificate,
}

/// A route. It has either `scopes` or `public: true`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Route {
    /// Scopes of which the caller needs all. `[]` admits every authenticated caller.
    pub(crate) scopes: Option<Vec<String>>,
    /// `true` admits everybody, without a credential.
    pub(crate) public: Option<bool>,
    /// The only consumers that may call the route. Default: no such list.
    pub(crate) only: Option<Vec<String>>,
    /// Networks that the client's address must be in, else 403 `network_not_allowed`. Default: any.
    pub(crate) from: Option<Vec<String>>,
    /// What a request names that must be the caller's, else 403 `not_yours`: `path.NAME`, `query.NAME` or `header.NAME`, and
    /// `caller.ATTRIBUTE`, `caller.consumer` or `caller.user`. Default: not compared; `{}` says that this is meant.
    #[serde(rename = "where")]
    #[schemars(extend("propertyNames" = {"pattern": "^(path|query|header)[.]."}))]
    pub(crate) ownership: Option<BTreeMap<String, String>>,
    /// Accepted proofs of possession, of which the caller needs one. Default: none is needed.
    #[schemars(extend("items" = {"type": "string", "enum": ["certificate", "bound_token", "dpop"]}))]
    pub(crate) proof_of_possession: Option<Vec<String>>,
    /// Maximum time since the token was issued. Default: no limit.
    pub(crate) max_age: Option<Period>,
    /// Class of the route: requests also count against `classes` of the caller's plan.
    pub(crate) class: Option<String>,
    /// What a request takes from each of its limits. Default: 1.
    #[schemars(range(min = 1))]
    pub(crate) cost: Option<u32>,
    /// Rate limit of the route per consumer, in addition to the plan; on a public route, per client address.
    pub(crate) rate: Option<Rate>,
    /// Path that the upstream gets in place of the request's, with names of the route: `/internal/customers/{id}`.
    pub(crate) rewrite: Option<String>,
    /// Whether a path may have an encoded slash (`%2F`), which goes to the upstream as it came.
    #[schemars(extend("enum" = ["refuse", "keep"], "default" = "refuse"))]
    pub(crate) encoded_slash: Option<String>,
    /// `report` records what would be refused, and lets it through. Default: the mode of the API.
    pub(crate) mode: Option<Mode>,
    /// What requests must look like.
    pub(crate) request: Option<Request>,
    /// What responses must look like.
    pub(crate) response: Option<Response>,
    /// What requests may become. Default: nothing else.
    pub(crate) upgrade: Option<Upgrade>,
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match (text.as_str(), text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(count @ 1..=1024)) => Ok(Self::Count(count)),
            _ => Err(serde::de::Error::custom("`workers` is `auto` or a number from 1 to 1024")),
        }
    }
}
