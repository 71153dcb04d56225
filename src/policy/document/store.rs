//! `store`: where what changes at run time is kept.

use std::fmt;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::secret::{Secret, secret};
use crate::policy::units::Period;

/// Where what changes at run time is kept: `store: FOLDER`, or `store: { redis: … }`.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// A folder of this machine.
    pub(crate) folder: Option<String>,
    /// The servers of Redis or Valkey.
    pub(crate) redis: Option<Servers>,
    /// Prefix of all its keys in Redis.
    pub(crate) prefix: Option<String>,
    /// PEM file of the authorities for servers with TLS; default: the system's.
    pub(crate) ca: Option<String>,
    /// How long a request waits for it.
    pub(crate) timeout: Option<Period>,
    /// `refuse` or `serve`: what to do while it is unavailable.
    pub(crate) on_failure: Option<String>,
    /// How limits are counted in Redis.
    pub(crate) limits: Option<StoreLimits>,
}

/// The servers of Redis or Valkey: `redis: URL`, or a map.
#[derive(Debug)]
pub(crate) enum Servers {
    /// One server.
    Url(SecretString),
    /// A cluster, or a primary that Sentinels name.
    Several(SeveralServers),
}

/// Servers of Redis or Valkey that replace each other.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct SeveralServers {
    /// URLs of some servers of a cluster; the others are found.
    #[schemars(with = "Vec<String>")]
    pub(crate) cluster: Option<Vec<Secret>>,
    /// URLs of the Sentinels, which name the primary.
    #[schemars(with = "Vec<String>")]
    pub(crate) sentinel: Option<Vec<Secret>>,
    /// The primary's name among Sentinels, such as `main`; with a password, TLS or a database: `rediss://:PASSWORD@main/0`.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) master: Option<SecretString>,
}

/// How the limits of consumers are counted in Redis.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreLimits {
    /// While Redis does not answer: `refuse` with 503, count this node's share by itself (`local`), or `allow` everything.
    #[schemars(extend("enum" = ["refuse", "local", "allow"], "default" = "refuse"))]
    pub(crate) on_failure: Option<String>,
    /// How long a request waits for an answer about limits.
    #[schemars(extend("default" = "25ms"))]
    pub(crate) timeout: Option<Period>,
}

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Servers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL such as `redis://127.0.0.1:6379`, or a map with `cluster` or `sentinel`")
            }
            fn visit_str<E: serde::de::Error>(self, url: &str) -> Result<Servers, E> {
                Ok(Servers::Url(url.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Servers, A::Error> {
                SeveralServers::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Servers::Several)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A store in Redis or Valkey, for several nodes.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Store")]
#[schemars(inline)]
pub(super) struct StoreMap {
    /// URL of Redis 7 or Valkey: `redis://` or, with TLS, `rediss://`. Or `cluster` or `sentinel` with URLs. Required.
    redis: Option<Servers>,
    /// Prefix of all its keys in Redis.
    #[schemars(extend("default" = "bartizan"))]
    prefix: Option<String>,
    /// PEM file of the authorities that issue the server's certificate. Default: the system's.
    ca: Option<String>,
    /// How long a request waits for it; after that, it is unavailable.
    #[schemars(extend("default" = "500ms"))]
    timeout: Option<Period>,
    /// While the store is unavailable: `refuse` requests with a credential, or `serve` with the last known state.
    #[schemars(extend("enum" = ["refuse", "serve"], "default" = "refuse"))]
    on_failure: Option<String>,
    /// How limits are counted, so that all nodes count together.
    limits: Option<StoreLimits>,
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
                let StoreMap { redis, prefix, ca, timeout, on_failure, limits } = map;
                Ok(Store { folder: None, redis, prefix, ca, timeout, on_failure, limits })
            }
        }
        deserializer.deserialize_any(Either)
    }
}
