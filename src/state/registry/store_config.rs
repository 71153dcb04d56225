//! Which store a policy names.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// The store that a policy names.
#[derive(Debug, Clone)]
pub(crate) enum StoreConfig {
    /// In a folder of this machine, for one node.
    Embedded {
        /// The folder.
        folder: PathBuf,
    },
    /// In Redis or Valkey, for many nodes.
    Redis {
        /// `redis://` or `rediss://`; holds the password.
        url: SecretString,
        /// Prefix of the names of all keys.
        prefix: Box<str>,
        /// PEM of the authorities trusted for a `rediss://` server; default: the system's.
        ca: Option<String>,
        /// How long a request may wait for it.
        timeout: Duration,
    },
}

impl StoreConfig {
    /// The name used in metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Embedded { .. } => "embedded",
            Self::Redis { .. } => "redis",
        }
    }
}

impl PartialEq for StoreConfig {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Embedded { folder }, Self::Embedded { folder: other }) => folder == other,
            (
                Self::Redis { url, prefix, ca, timeout },
                Self::Redis { url: other_url, prefix: other_prefix, ca: other_ca, timeout: other_timeout },
            ) => {
                url.expose_secret() == other_url.expose_secret()
                    && (prefix, ca, timeout) == (other_prefix, other_ca, other_timeout)
            }
            _ => false,
        }
    }
}
