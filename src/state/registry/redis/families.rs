//! Families of refresh tokens in Redis: one key each, which expires with the family.

use jiff::Timestamp;
use redis::{Script, cmd};

use crate::state::redis::{Client, RequestConnection, StoreDeadlines};
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

/// Reads and writes families, while requests are handled.
pub(in crate::state::registry) struct Families {
    /// Prefix of the names in Redis.
    prefix: String,
    connection: RequestConnection,
}

impl Families {
    /// Must be called within the runtime that outlives requests.
    pub(super) fn new(client: Client, prefix: String, deadlines: StoreDeadlines) -> Self {
        Self { prefix, connection: RequestConnection::new(client, deadlines) }
    }

    /// Returns the family with this id.
    pub(in crate::state::registry) async fn get(&self, id: &str) -> Result<Option<Family>, StoreError> {
        let name = format!("{}{id}", self.prefix);
        let found =
            self.connection.run(async |mut connection| cmd("GET").arg(&name).query_async(&mut connection).await);
        let found: Option<Vec<u8>> = found.await.map_err(StoreError::Unreachable)?;
        found.map(|bytes| Family::decode(id, &bytes)).transpose()
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
        let swapped = self.connection.run(async |mut connection| call.invoke_async(&mut connection).await).await;
        swapped.map_err(StoreError::Unreachable)
    }
}
