//! The policy file as written: plain serde types that mirror the language, and nothing else.
//!
//! Every field is optional here, also those the language requires: [`super::compile`] says what is missing, so that one
//! absent key never hides the other problems of a file. Nothing at request time sees these types.

mod callers;
mod messages;
mod openapi;

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

pub(crate) use self::callers::{Auth, ClaimNames, Consumer, Dpop, Identity, Introspection, Issuer, Key};
pub(crate) use self::messages::{Content, Mode, Request, Response};
pub(crate) use self::openapi::OpenApi;
use super::units::{Period, Rate, Size};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Document {
    /// Version of the policy language; 1.
    pub(crate) version: Option<u32>,
    /// How many workers serve requests.
    pub(crate) workers: Option<Workers>,
    /// Where requests are taken.
    pub(crate) listen: Vec<Listen>,
    /// Networks whose forwarded headers are believed.
    pub(crate) trusted_proxies: Vec<String>,
    /// The admin listener.
    pub(crate) admin: Option<Admin>,
    /// Deadlines towards clients.
    pub(crate) timeouts: Timeouts,
    /// Bounds on what clients may send.
    pub(crate) limits: Limits,
    /// Where what changes at run time is kept.
    pub(crate) store: Option<Store>,
    /// How callers are known.
    pub(crate) auth: Auth,
    /// Role name → scopes.
    pub(crate) roles: BTreeMap<String, Vec<String>>,
    /// Plan name → limits.
    pub(crate) plans: BTreeMap<String, Plan>,
    /// Consumer name → who it is and what it may do at most.
    pub(crate) consumers: BTreeMap<String, Consumer>,
    /// API name → where it is and what of it is open.
    pub(crate) apis: BTreeMap<String, Api>,
    /// Where the record goes; absent means standard output.
    pub(crate) audit: Option<Audit>,
}

/// `workers: auto` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    /// One per core this process may use.
    Auto,
    /// Exactly so many.
    Count(u32),
}

/// One entry of `listen`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Listen {
    /// `IP:PORT`.
    pub(crate) address: Option<String>,
    /// Present: TLS.
    pub(crate) tls: Option<ListenTls>,
}

/// Server certificate of a listener.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ListenTls {
    /// PEM chain, a file.
    pub(crate) certificate: Option<String>,
    /// PEM key: a file, or (through a reference) the PEM itself.
    #[serde(deserialize_with = "secret")]
    pub(crate) key: Option<SecretString>,
    /// PEM file of the authorities that vouch for clients.
    pub(crate) client_ca: Option<String>,
    /// `optional` or `required`.
    pub(crate) client_certificate: Option<String>,
    /// PEM files of revocation lists.
    pub(crate) client_crls: Vec<String>,
}

/// The admin listener.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    /// `IP:PORT`.
    pub(crate) address: Option<String>,
    /// A Unix socket, beside or in place of the address.
    pub(crate) socket: Option<AdminSocket>,
    /// Bearer token for all but health, readiness and metrics.
    #[serde(deserialize_with = "secret")]
    pub(crate) token: Option<SecretString>,
    /// More tokens, with names and rights.
    pub(crate) tokens: Vec<AdminToken>,
}

/// A Unix socket.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminSocket {
    /// Its file.
    pub(crate) path: Option<String>,
    /// Permissions of that file, as octal digits.
    pub(crate) mode: Option<String>,
}

/// A token of the admin listener.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminToken {
    /// Who has it, for the record.
    pub(crate) name: Option<String>,
    /// The token.
    #[serde(deserialize_with = "secret")]
    pub(crate) token: Option<SecretString>,
    /// `read` or `operate`.
    pub(crate) rights: Option<String>,
}

/// Where what changes at run time is kept: `store: FOLDER`, or `store: { redis: URL }`.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// A folder of this machine.
    pub(crate) folder: Option<String>,
    /// URL of Redis or Valkey.
    pub(crate) redis: Option<SecretString>,
    /// What the names of all its keys begin with.
    pub(crate) prefix: Option<String>,
    /// PEM file of the authorities that vouch for a `rediss://` server; default: the system's.
    pub(crate) ca: Option<String>,
    /// `refuse` or `serve`: what to do when it is out of reach.
    pub(crate) on_failure: Option<String>,
}

/// Deadlines towards clients.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// All request headers.
    pub(crate) request_headers: Option<Period>,
    /// The whole request body.
    pub(crate) request_body: Option<Period>,
    /// A kept-alive connection doing nothing.
    pub(crate) idle: Option<Period>,
    /// Finishing what is in flight at shutdown.
    pub(crate) drain: Option<Period>,
}

/// Bounds on what clients may send.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// All headers of a request together, request line included.
    pub(crate) header_size: Option<Size>,
    /// Number of headers.
    pub(crate) headers: Option<u32>,
    /// Bodies that no schema checks.
    pub(crate) body_size: Option<Size>,
    /// Open client connections.
    pub(crate) connections: Option<u32>,
    /// Open connections from one address.
    pub(crate) per_client: Option<u32>,
}

/// How much a consumer may ask.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plan {
    /// Sustained rate.
    pub(crate) rate: Option<Rate>,
    /// How many at once; default one second's worth.
    pub(crate) burst: Option<u32>,
    /// Tighter rates, by class of endpoints.
    pub(crate) classes: BTreeMap<String, Rate>,
}

/// One API.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Api {
    /// Host names it answers to; empty: any.
    pub(crate) hosts: Vec<String>,
    /// Where it is.
    pub(crate) upstream: Option<Upstream>,
    /// What it is, in OpenAPI: its operations become routes.
    pub(crate) openapi: Option<OpenApi>,
    /// Which stages only report.
    pub(crate) mode: Option<Mode>,
    /// `METHOD /path` → who may use it, and how.
    pub(crate) routes: BTreeMap<String, Route>,
}

/// The servers of an API: `upstream: http://…` is short for `upstream: { servers: [http://…] }`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// Base URLs.
    pub(crate) servers: Vec<String>,
    /// How one is chosen.
    pub(crate) balance: Option<String>,
    /// PEM file of the authorities that vouch for https servers; default: the system's.
    pub(crate) ca: Option<String>,
    /// Until a connection stands.
    pub(crate) connect_timeout: Option<Period>,
    /// Until the response's headers.
    pub(crate) response_timeout: Option<Period>,
    /// Between two bytes of a body.
    pub(crate) idle_timeout: Option<Period>,
    /// Whether the caller's credential goes upstream.
    pub(crate) forward_credentials: Option<bool>,
    /// Written in the short form: places of servers are the place of the value itself.
    pub(crate) short: bool,
}

/// One route.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Route {
    /// All of them are needed.
    pub(crate) scopes: Option<Vec<String>>,
    /// `true`: open to anybody.
    pub(crate) public: Option<bool>,
    /// Approved consumers alone.
    pub(crate) only: Option<Vec<String>>,
    /// One of these proofs is needed.
    pub(crate) proof_of_possession: Option<Vec<String>>,
    /// A token issued at most so long ago is needed.
    pub(crate) max_age: Option<Period>,
    /// The class of endpoints it is of.
    pub(crate) class: Option<String>,
    /// Limit on this route beside the plan.
    pub(crate) rate: Option<Rate>,
    /// Which stages only report; over what its API says.
    pub(crate) mode: Option<Mode>,
    /// What a request must be.
    pub(crate) request: Option<Request>,
    /// What answers must be.
    pub(crate) response: Option<Response>,
}

/// `audit: none`, or a list of sinks.
#[derive(Debug)]
pub(crate) enum Audit {
    /// No record, on purpose.
    None,
    /// Every sink gets every record.
    Sinks(Vec<Sink>),
}

/// One sink.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sink {
    /// Standard output.
    Stdout,
    /// A file.
    File(FileSink),
}

/// A file that records are appended to.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileSink {
    /// Its path.
    pub(crate) path: Option<String>,
}

/// Text that is not to be printed.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(SecretString::from(text)))
}

/// The long form of [`Store`].
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename = "Store")]
struct StoreMap {
    #[serde(deserialize_with = "secret")]
    redis: Option<SecretString>,
    prefix: Option<String>,
    ca: Option<String>,
    on_failure: Option<String>,
}

impl<'de> Deserialize<'de> for Store {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Store;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a folder such as `state/`, or a map with `redis`")
            }
            fn visit_str<E: serde::de::Error>(self, folder: &str) -> Result<Store, E> {
                Ok(Store { folder: Some(folder.to_owned()), ..Store::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Store, A::Error> {
                let map = StoreMap::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let StoreMap { redis, prefix, ca, on_failure } = map;
                Ok(Store { folder: None, redis, prefix, ca, on_failure })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The long form of [`Upstream`].
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename = "Upstream")]
struct UpstreamMap {
    servers: Vec<String>,
    balance: Option<String>,
    ca: Option<String>,
    connect_timeout: Option<Period>,
    response_timeout: Option<Period>,
    idle_timeout: Option<Period>,
    forward_credentials: Option<bool>,
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Upstream;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL such as `http://127.0.0.1:9000`, or a map with `servers`")
            }
            fn visit_str<E: serde::de::Error>(self, url: &str) -> Result<Upstream, E> {
                Ok(Upstream { servers: vec![url.to_owned()], short: true, ..Upstream::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Upstream, A::Error> {
                let map = UpstreamMap::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Upstream {
                    servers: map.servers,
                    balance: map.balance,
                    ca: map.ca,
                    connect_timeout: map.connect_timeout,
                    response_timeout: map.response_timeout,
                    idle_timeout: map.idle_timeout,
                    forward_credentials: map.forward_credentials,
                    short: false,
                })
            }
        }
        deserializer.deserialize_any(Either)
    }
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

impl<'de> Deserialize<'de> for Audit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NoneOrList;
        impl<'de> Visitor<'de> for NoneOrList {
            type Value = Audit;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, or a list of sinks such as `[stdout]`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Audit, E> {
                match text {
                    "none" => Ok(Audit::None),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Audit, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq)).map(Audit::Sinks)
            }
        }
        deserializer.deserialize_any(NoneOrList)
    }
}
