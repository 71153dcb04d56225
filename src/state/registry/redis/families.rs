//! Families of refresh tokens in Redis: one key each, which expires with the family.

use jiff::Timestamp;
use redis::{RedisError, Script, cmd};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::error_text::without_codes;
use crate::state::redis::{Client, Connection, StoreDeadlines};
use crate::state::registry::family::Family;
use crate::state::registry::store_error::StoreError;

/// Stores a value if the key has the expected one; an empty one means none. KEYS: the key. ARGV: the expected value, the value,
/// and its lifetime in milliseconds.
const SWAP: &str = r"
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
";

/// Reads and writes families. Called while requests are handled: it has their deadline, and they share one connection.
pub(in crate::state::registry) struct Families {
    client: Client,
    /// Prefix of the names in Redis.
    prefix: String,
    deadlines: StoreDeadlines,
    connection: Mutex<Option<Connection>>,
    /// The runtime that drives the connection: the threads of requests do not live long enough.
    runtime: Handle,
}

impl Families {
    /// Must be called within the runtime that outlives requests.
    pub(super) fn new(client: Client, prefix: String, deadlines: StoreDeadlines) -> Self {
        Self { client, prefix, deadlines, connection: Mutex::default(), runtime: Handle::current() }
    }

    /// Returns the family with this id.
    pub(in crate::state::registry) async fn get(&self, id: &str) -> Result<Option<Family>, StoreError> {
        let name = format!("{}{id}", self.prefix);
        let found: Option<Vec<u8>> =
            self.run(async |mut connection| cmd("GET").arg(&name).query_async(&mut connection).await).await?;
        found.map(|bytes| decode(id, &bytes)).transpose()
    }

    /// Stores a family in place of `before`; returns false, with nothing changed, if another is there.
    pub(in crate::state::registry) async fn swap(
        &self,
        before: Option<&Family>,
        after: &Family,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let name = format!("{}{}", self.prefix, after.id);
        let left = i64::try_from(after.end().duration_since(now).as_millis()).unwrap_or(i64::MAX).max(1);
        let script = Script::new(SWAP);
        let mut call = script.prepare_invoke();
        call.key(name).arg(before.map(Family::encode).unwrap_or_default()).arg(after.encode()).arg(left);
        self.run(async |mut connection| call.invoke_async(&mut connection).await).await
    }

    async fn run<T>(&self, command: impl AsyncFnOnce(Connection) -> Result<T, RedisError>) -> Result<T, StoreError> {
        let deadline = self.deadlines.request();
        let running = async { command(self.connection().await?).await };
        let failed = match tokio::time::timeout(deadline, running).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => without_codes(&error.to_string()),
            Err(_) => format!("no answer within {deadline:?}"),
        };
        // The next command opens a new connection.
        self.connection.lock().await.take();
        Err(StoreError::Unreachable(failed))
    }

    async fn connection(&self) -> Result<Connection, RedisError> {
        let mut slot = self.connection.lock().await;
        if let Some(open) = &*slot {
            return Ok(open.clone());
        }
        let (client, deadlines) = (self.client.clone(), self.deadlines);
        let opening = self.runtime.spawn(async move { deadlines.connect(&client, deadlines.request()).await });
        let opened = opening.await.map_err(|error| RedisError::from(std::io::Error::other(error)))??;
        Ok(slot.insert(opened).clone())
    }
}

fn decode(id: &str, bytes: &[u8]) -> Result<Family, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Unusable(format!("the store's family {id:?} cannot be read: {error}")))
}
