//! What the process itself calls: key sets, introspection endpoints, and the sinks of the record.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;

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
