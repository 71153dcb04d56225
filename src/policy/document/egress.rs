//! `egress`, as written.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::secret::secret;
use crate::policy::units::Period;

/// How this process calls others.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Egress {
    /// Proxy that opens tunnels by CONNECT: `http://HOST:PORT` or `https://HOST:PORT`, with `USER:PASSWORD@` if it asks for them.
    /// Default: none; environment variables are not read.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) proxy: Option<SecretString>,
    /// PEM file of the authorities that issue the certificate of an https proxy. Default: the system's.
    pub(crate) proxy_ca: Option<String>,
    /// What is called without the proxy, beside this machine: names, `.SUFFIX`, addresses and networks, or `*`.
    pub(crate) no_proxy: Vec<String>,
    /// Establishing a connection, through the proxy if there is one.
    #[schemars(extend("default" = "5s"))]
    pub(crate) connect_timeout: Option<Period>,
    /// A whole exchange, unless a sink has its own `timeout`; introspections wait for 3s at most.
    #[schemars(extend("default" = "10s"))]
    pub(crate) timeout: Option<Period>,
}
