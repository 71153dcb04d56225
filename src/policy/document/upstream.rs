//! `apis.*.upstream`, as written.

use std::fmt;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Unexpected, Visitor};

use super::one_or_list;
use super::secret::secret;
use crate::policy::share::Share;
use crate::policy::units::Period;

/// The servers of an API: `upstream: http://…` is short for `upstream: { servers: [http://…] }`.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    pub(crate) settings: UpstreamMap,
    /// Written in the short form: places of servers are the place of the value itself.
    pub(crate) short: bool,
}

/// The servers of an API, and how they are called.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Upstream")]
#[schemars(inline)]
pub(crate) struct UpstreamMap {
    /// URLs of the servers: `http` or `https`, host and port, and a path that is put before that of every request; or a Unix
    /// socket, as `unix:/run/orders.sock`. Each address of a name is a server of its own. Required.
    pub(crate) servers: Vec<String>,
    /// How often names are resolved. The last addresses stay while that fails.
    #[schemars(extend("default" = "30s"))]
    pub(crate) resolve: Option<Period>,
    /// What is spoken with the servers: `http1`; `h2`, HTTP/2 with `https` servers; or `h2c`, HTTP/2 with `http` ones. gRPC needs
    /// HTTP/2.
    #[schemars(extend("enum" = ["http1", "h2", "h2c"], "default" = "http1"))]
    pub(crate) protocol: Option<String>,
    /// `Host` of requests: `upstream`, the host of the server; `preserve`, the one that the client sent; or a host to write.
    #[schemars(extend("default" = "upstream"))]
    pub(crate) host: Option<String>,
    /// How a server is chosen: one after the other, or of two at random the one with fewer requests in flight.
    #[schemars(extend("enum" = ["round_robin", "least_requests"], "default" = "round_robin"))]
    pub(crate) balance: Option<String>,
    /// How servers are asked whether they are healthy. Default: they are not asked.
    pub(crate) health: Option<Health>,
    /// When a server that fails is left alone for a while. Default: never.
    pub(crate) eject: Option<Eject>,
    /// When no server is healthy: `try` calls one all the same, `refuse` answers 503.
    #[schemars(extend("enum" = ["try", "refuse"], "default" = "try"))]
    pub(crate) none_left: Option<String>,
    /// When a request is sent once more: a number, or a map. Default: only an idempotent one whose connection had been used
    /// before, and broke before any response.
    pub(crate) retries: Option<Retries>,
    /// Connections to each server.
    pub(crate) connections: ConnectionSettings,
    /// Requests in flight on this node; further ones are 503. Default: no limit.
    #[schemars(range(min = 1))]
    pub(crate) requests: Option<u32>,
    /// TLS with `https` servers. Default: their certificates are of the system's authorities.
    pub(crate) tls: UpstreamTls,
    /// Establishing a connection.
    #[schemars(extend("default" = "1s"))]
    pub(crate) connect_timeout: Option<Period>,
    /// Time until the response headers; after that, 504.
    #[schemars(extend("default" = "15s"))]
    pub(crate) response_timeout: Option<Period>,
    /// Time between two bytes of a body.
    #[schemars(extend("default" = "60s"))]
    pub(crate) idle_timeout: Option<Period>,
    /// Whether the caller's token or key is forwarded.
    #[schemars(extend("default" = false))]
    pub(crate) forward_credentials: Option<bool>,
}

/// TLS with `https` servers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpstreamTls {
    /// PEM file of the authorities that issue the servers' certificates. Default: the system's.
    pub(crate) ca: Option<String>,
    /// PEM file of the certificate to present. Default: none.
    pub(crate) certificate: Option<String>,
    /// PEM file of its private key, or a reference to the PEM itself.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) key: Option<SecretString>,
    /// The name that is asked for and that the certificate must have. Default: the host of the server's URL.
    pub(crate) server_name: Option<String>,
    /// What the server's public key must be as well: `sha256:` and 64 hexadecimal digits of its SubjectPublicKeyInfo, or a list.
    /// Default: any key that the authorities vouch for.
    pub(crate) pin: Option<Pins>,
}

/// A pinned key, or a list: one of them must be the server's.
#[derive(Debug)]
pub(crate) struct Pins(pub(crate) Vec<String>);

/// How servers are asked whether they are healthy: by GET, for a status from 200 to 299.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Health {
    /// Path and query. Required.
    pub(crate) path: Option<String>,
    /// How often.
    #[schemars(extend("default" = "5s"))]
    pub(crate) every: Option<Period>,
    /// How long an answer may take.
    #[schemars(extend("default" = "1s"))]
    pub(crate) timeout: Option<Period>,
    /// So many good answers in a row make a server healthy again.
    #[schemars(range(min = 1), extend("default" = 2))]
    pub(crate) healthy_after: Option<u32>,
    /// So many bad or missing ones make it unhealthy.
    #[schemars(range(min = 1), extend("default" = 3))]
    pub(crate) unhealthy_after: Option<u32>,
}

/// When a server that fails is left alone for a while.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Eject {
    /// After so many failures in a row: no connection, no response, or 502, 503 or 504.
    #[schemars(range(min = 1), extend("default" = 5))]
    pub(crate) after: Option<u32>,
    /// For how long.
    #[serde(rename = "for")]
    #[schemars(extend("default" = "30s"))]
    pub(crate) lasts: Option<Period>,
    /// At most this share of the API's servers, rounded down.
    #[schemars(extend("default" = "50%"))]
    pub(crate) most: Option<Share>,
}

/// When a request is sent once more: `retries: 1` is short for `retries: { most: 1 }`.
#[derive(Debug, Default)]
pub(crate) struct Retries(pub(crate) RetriesMap);

/// When a request is sent once more. One that is not idempotent (RFC 9110 §9.2.2) only goes if nothing of it was sent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Retries")]
#[schemars(inline)]
pub(crate) struct RetriesMap {
    /// How often.
    #[schemars(range(min = 1, max = 5), extend("default" = 1))]
    pub(crate) most: Option<u32>,
    /// For at most this share of all requests: servers that are slow are not made slower.
    #[schemars(extend("default" = "20%"))]
    pub(crate) budget: Option<Share>,
    /// Pause before the first; it doubles.
    #[schemars(extend("default" = "25ms"))]
    pub(crate) backoff: Option<Period>,
    /// After what: `connect` (no connection, or one that broke before the response), and statuses such as `503`.
    #[schemars(with = "Option<Vec<RetryCause>>", extend("default" = ["connect"]))]
    pub(crate) on: Option<Vec<RetryCause>>,
}

/// `connect`, or a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RetryCause(pub(crate) String);

/// Connections to each server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Connections")]
pub(crate) struct ConnectionSettings {
    /// Most connections of each worker to a server. Further requests wait for their turn as long as `connect_timeout`; then they are
    /// refused with 503 `overloaded`.
    #[schemars(range(min = 1), extend("default" = 256))]
    pub(crate) most: Option<u32>,
    /// A connection of this age takes no further request. Default: whatever its age.
    pub(crate) age: Option<Period>,
    /// How long a connection without a request is kept; a server may say less (`Keep-Alive: timeout`).
    #[schemars(extend("default" = "60s"))]
    pub(crate) idle: Option<Period>,
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
                let settings = UpstreamMap { servers: vec![url.to_owned()], ..UpstreamMap::default() };
                Ok(Upstream { settings, short: true })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Upstream, A::Error> {
                let settings = UpstreamMap::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Upstream { settings, short: false })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Pins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_list::read(deserializer, "a public key such as `sha256:…`, or a list of keys").map(Self)
    }
}

impl<'de> Deserialize<'de> for Retries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Retries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as `1`, or a map with `most`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Retries, E> {
                let invalid = |_| E::invalid_value(Unexpected::Str(text), &self);
                let most = Some(text.parse().map_err(invalid)?);
                Ok(Retries(RetriesMap { most, ..RetriesMap::default() }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Retries, A::Error> {
                RetriesMap::deserialize(MapAccessDeserializer::new(map)).map(Retries)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for RetryCause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = RetryCause;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`connect`, or a status such as `503`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RetryCause, E> {
                Ok(RetryCause(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}
