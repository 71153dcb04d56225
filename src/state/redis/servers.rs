//! Which servers of Redis a policy names.

use secrecy::{ExposeSecret, SecretString};

/// The servers that a policy names, and how they are one store. The URLs hold passwords.
#[derive(Debug, Clone)]
pub(crate) struct RedisServers {
    pub(crate) topology: Topology,
    /// PEM of the authorities trusted for servers with TLS; default: the system's.
    pub(crate) ca: Option<String>,
}

/// How servers are one store.
#[derive(Debug, Clone)]
pub(crate) enum Topology {
    /// One server.
    Single(SecretString),
    /// The primary that Sentinels name; another one after a failover.
    Sentinel {
        /// URLs of the Sentinels.
        sentinels: Vec<SecretString>,
        /// URL of the primary, with its name among Sentinels as host.
        primary: SecretString,
    },
    /// A cluster, with the URLs of some of its servers.
    Cluster(Vec<SecretString>),
}

impl RedisServers {
    /// All URLs, in the order in which they are written.
    fn urls(&self) -> impl Iterator<Item = &str> {
        let (list, last) = match &self.topology {
            Topology::Single(url) => (&[][..], Some(url)),
            Topology::Sentinel { sentinels, primary } => (&**sentinels, Some(primary)),
            Topology::Cluster(urls) => (&**urls, None),
        };
        list.iter().chain(last).map(ExposeSecret::expose_secret)
    }
}

impl PartialEq for RedisServers {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.topology) == std::mem::discriminant(&other.topology)
            && self.ca == other.ca
            && self.urls().eq(other.urls())
    }
}
