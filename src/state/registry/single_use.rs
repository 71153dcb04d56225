//! SingleUse that nodes share: whoever claims something first, on any node, has it for a time.
//!
//! Asked on the way of a request, and only of those that bring a proof of possession. So there is a deadline of its own,
//! much shorter than that of what operators do, and requests share one connection instead of waiting in line for it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, RedisError, cmd};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::connection::connect;
use super::store_error::StoreError;

/// One claim, a connection that must be opened for it included.
const PATIENCE: Duration = Duration::from_millis(500);

/// Makes claims in a store.
pub(super) struct SingleUse {
    client: Client,
    /// What their names begin with.
    prefix: String,
    connection: Mutex<Option<MultiplexedConnection>>,
    /// Where the connection is driven: the threads of requests come and go with them.
    runtime: Handle,
}

impl SingleUse {
    /// Makes them under this prefix. Must be called within the runtime that outlives requests.
    pub(super) fn new(client: Client, prefix: String) -> Self {
        Self { client, prefix, connection: Mutex::default(), runtime: Handle::current() }
    }

    /// Whether nobody, on any node, has claimed this within its time.
    pub(super) async fn claim(&self, what: &str, lifetime: Duration) -> Result<bool, StoreError> {
        let answer = tokio::time::timeout(PATIENCE, self.set(what, lifetime)).await;
        let failed = match answer {
            Ok(Ok(claimed)) => return Ok(claimed),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        // The next one opens another.
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
