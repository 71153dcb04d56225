//! Which store a policy names.

use std::path::PathBuf;
use std::time::Duration;

use crate::state::redis::RedisServers;

/// The store that a policy names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StoreConfig {
    /// In a folder of this machine, for one node.
    Embedded {
        /// The folder.
        folder: PathBuf,
    },
    /// In Redis or Valkey, for many nodes.
    Redis {
        /// Its servers.
        servers: RedisServers,
        /// Prefix of the names of all keys.
        prefix: Box<str>,
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
