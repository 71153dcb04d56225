//! Single-use values that nodes share: the first to claim one, on any node, holds it for a time.
//!
//! Called while a request is handled, and only for those with a DPoP proof. So claims have a deadline of their own,
//! much shorter than that of operators' commands, and requests share one connection instead of queueing for it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, RedisError, cmd};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::connection::connect;
use super::store_error::StoreError;

/// Deadline of one claim, including the time to open a connection.
const PATIENCE: Duration = Duration::from_millis(500);

/// Makes claims in a store.
pub(super) struct SingleUse {
    client: Client,
    /// Prefix of the names in Redis.
    prefix: String,
    connection: Mutex<Option<MultiplexedConnection>>,
    /// The runtime that drives the connection: the threads of requests do not live long enough.
    runtime: Handle,
}

impl SingleUse {
    /// Returns a handle that claims under this prefix. Must be called within the runtime that outlives requests.
    pub(super) fn new(client: Client, prefix: String) -> Self {
        Self { client, prefix, connection: Mutex::default(), runtime: Handle::current() }
    }

    /// Claims `what`; returns false if any node holds a claim on it that has not expired.
    pub(super) async fn claim(&self, what: &str, lifetime: Duration) -> Result<bool, StoreError> {
        let answer = tokio::time::timeout(PATIENCE, self.set(what, lifetime)).await;
        let failed = match answer {
            Ok(Ok(claimed)) => return Ok(claimed),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        // The next claim opens a new connection.
        self.connection.lock().await.take();
        Err(StoreError::Unreachable(failed))
    }

    async fn set(&self, what: &str, lifetime: Duration) -> Result<bool, RedisError> {
        let mut connection = self.connection().await?;
        let mut set = cmd("SET");
        set.arg(format!("{}{what}", self.prefix)).arg(1).arg("NX");
        set.arg("PX").arg(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
        let made: Option<String> = set.query_async(&mut connection).await?;
        Ok(made.is_some())
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut slot = self.connection.lock().await;
        if let Some(open) = &*slot {
            return Ok(open.clone());
        }
        let client = self.client.clone();
        let opening = self.runtime.spawn(async move { connect(&client, PATIENCE).await });
        let opened = opening.await.map_err(|error| RedisError::from(std::io::Error::other(error)))??;
        Ok(slot.insert(opened).clone())
    }
}
