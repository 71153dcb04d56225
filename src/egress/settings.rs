//! How the process calls others: `egress`, compiled.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rustls::ClientConfig;

use super::no_proxy::NoProxy;
use crate::url::HttpUrl;

/// Default of `connect_timeout`.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Default of `timeout`.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// How the process calls others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Egress {
    /// Connections go through it.
    pub(crate) proxy: Option<Proxy>,
    /// Until a connection is established: to the proxy, and through it.
    pub(crate) connect_timeout: Duration,
    /// For a whole exchange.
    pub(crate) timeout: Duration,
}

impl Default for Egress {
    fn default() -> Self {
        Self { proxy: None, connect_timeout: CONNECT_TIMEOUT, timeout: TIMEOUT }
    }
}

/// A proxy that opens tunnels by CONNECT (RFC 9110 §9.3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Scheme, host and port.
    pub(crate) url: HttpUrl,
    /// Its credentials; sensitive.
    pub(crate) authorization: Option<HeaderValue>,
    /// The authorities to trust, if it is https.
    pub(crate) trust: Option<Trust>,
    /// What is called without it.
    pub(crate) except: NoProxy,
}

/// The authorities that we trust as a client, and the certificate that we present, if any.
#[derive(Clone)]
pub(crate) struct Trust {
    /// The TLS configuration.
    pub(crate) config: Arc<ClientConfig>,
    /// Equal when the same authorities are trusted and the same certificate is presented. Never a secret.
    pub(crate) identity: Arc<str>,
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Trust {}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}
