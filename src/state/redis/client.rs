//! Opens connections to the servers of a store.

use std::sync::Arc;

use redis::cluster::{ClusterClient, ClusterConfig};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates, TlsMode,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::connection::Connection;
use super::servers::{RedisServers, Topology};

/// Opens connections. Clones share what is known of the servers.
#[derive(Clone)]
pub(crate) enum Client {
    Single(Box<redis::Client>),
    Sentinel(Arc<Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

impl Client {
    /// Prepares connections; asks no server yet.
    pub(crate) fn new(servers: &RedisServers) -> Result<Self, RedisError> {
        // Every caller has a deadline, and an attempt that ends after it is of no use.
        Self::trying(servers, 2)
    }

    /// Prepares connections for commands that must not be executed twice: none is sent again, and one that a cluster sends to
    /// another server fails.
    pub(crate) fn trying_once(servers: &RedisServers) -> Result<Self, RedisError> {
        Self::trying(servers, 0)
    }

    fn trying(servers: &RedisServers, retries: u32) -> Result<Self, RedisError> {
        let certificates =
            || TlsCertificates { client_tls: None, root_cert: servers.ca.as_ref().map(|ca| ca.as_bytes().to_vec()) };
        Ok(match &servers.topology {
            Topology::Single(url) => Self::Single(Box::new(match servers.ca {
                None => redis::Client::open(url.expose_secret())?,
                Some(_) => redis::Client::build_with_tls(url.expose_secret(), certificates())?,
            })),
            Topology::Sentinel { sentinels, primary } => {
                let client = sentinel(sentinels, primary, certificates)?;
                Self::Sentinel(Arc::new(Mutex::new(client)))
            }
            Topology::Cluster(urls) => {
                let builder = ClusterClient::builder(urls.iter().map(ExposeSecret::expose_secret));
                let builder = builder.retries(retries);
                let builder = if servers.ca.is_some() { builder.certs(certificates()) } else { builder };
                Self::Cluster(Box::new(builder.build()?))
            }
        })
    }

    /// Opens a connection, with these timeouts of opening it and of each answer.
    pub(super) async fn connect(
        &self,
        timeouts: &AsyncConnectionConfig,
        cluster: ClusterConfig,
    ) -> Result<Connection, RedisError> {
        Ok(match self {
            Self::Single(client) => {
                Connection::Single(client.get_multiplexed_async_connection_with_config(timeouts).await?)
            }
            Self::Sentinel(client) => {
                let primary = client.lock().await.async_get_client().await?;
                Connection::Single(primary.get_multiplexed_async_connection_with_config(timeouts).await?)
            }
            Self::Cluster(client) => Connection::Cluster(client.get_async_connection_with_config(cluster).await?),
        })
    }
}

fn sentinel(
    sentinels: &[SecretString],
    primary: &SecretString,
    certificates: impl Fn() -> TlsCertificates,
) -> Result<SentinelClient, RedisError> {
    let parse =
        |url: &SecretString| -> Result<ConnectionInfo, RedisError> { url.expose_secret().into_connection_info() };
    let sentinels = sentinels.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let primary = parse(primary)?;
    let is_encrypted = |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let name = match primary.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    let addresses = sentinels.iter().map(|info| info.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?;
    // Sentinels of one primary share their credentials.
    if let Some(first) = sentinels.first() {
        if let Some(user) = first.redis_settings().username() {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = first.redis_settings().password() {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if is_encrypted(first) {
            builder = builder.set_client_to_sentinel_tls_mode(TlsMode::Secure);
            builder = builder.set_client_to_sentinel_certificates(certificates());
        }
    }
    builder = builder.set_client_to_redis_db(primary.redis_settings().db());
    if let Some(user) = primary.redis_settings().username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = primary.redis_settings().password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if is_encrypted(&primary) {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        builder = builder.set_client_to_redis_certificates(certificates());
    }
    builder.build()
}
