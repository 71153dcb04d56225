//! The store that many nodes share: Redis 7 or Valkey.
//!
//! Each kind of entry is a hash, with its ids in a sorted set, and every change is also added to a stream, in the same
//! atomic step. Each node follows that stream ([`follower`]), so that changes are pushed to it and none is missed.
//!
//! All names begin with the policy's prefix in braces, so that a cluster keeps them in one slot ([`key_names`]).

mod families;
mod follower;
mod key_names;
mod retry_log;
mod stream;

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use redis::{RedisError, Script, cmd};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

pub(super) use self::families::Families;
use self::follower::Follower;
use self::key_names::KeyNames;
use self::stream::{KEPT, Position, decode, failed};
use super::entry::{Change, Entry, Kind, LastUse};
use super::memory::Memory;
use super::single_use::SingleUse;
use super::store_error::StoreError;
use crate::state::redis::{Client, Connection, RedisServers, StoreDeadlines, is_broken};

/// Makes changes and adds them to the stream, atomically. KEYS: the stream, then hash and ids of each kind. ARGV: op,
/// position of the kind in `Kind::ALL`, its name, id and value of each change; `expect` has the value that is there now. Returns
/// the position of the last change in the stream; or, with nothing changed, `exists` if an entry to be created exists already, and
/// `changed` if one is not as it is expected. A change that is there as a whole was made by this script before: a client of Redis sends
/// it again if its connection is lost before the answer.
const APPLY: &str = r"
local last, conflict
local made = true
for i = 2, #ARGV, 5 do
  local op, value = ARGV[i], ARGV[i + 4]
  local found = redis.call('HGET', KEYS[2 + 2 * tonumber(ARGV[i + 1])], ARGV[i + 3])
  if op == 'create' and found then
    conflict = conflict or 'exists'
  elseif op == 'expect' and found ~= value then
    conflict = conflict or 'changed'
  end
  if op == 'remove' then
    made = made and not found
  elseif op == 'remove_if' then
    made = made and found ~= value
  elseif op ~= 'expect' then
    made = made and found == value
  end
end
if conflict then
  local newest = made and redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  return newest and newest[1] or conflict
end
for i = 2, #ARGV, 5 do
  local op, kind, name, id, value = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local hash, ids = KEYS[2 + 2 * kind], KEYS[3 + 2 * kind]
  if op == 'create' then
    op = 'put'
  end
  if op == 'put' then
    redis.call('HSET', hash, id, value)
    redis.call('ZADD', ids, 0, id)
  elseif op == 'expect' then
    op = nil
  elseif op == 'remove' or redis.call('HGET', hash, id) == value then
    op, value = 'remove', ''
    redis.call('HDEL', hash, id)
    redis.call('ZREM', ids, id)
  else
    op = nil
  end
  last = op and redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'op', op, 'kind', name, 'id', id, 'value', value) or last
end
return last
";

/// The reply of [`APPLY`] if an entry to be created exists already.
const EXISTS: &str = "exists";
/// The reply of [`APPLY`] if an entry to be replaced has been changed.
const CHANGED: &str = "changed";

/// Stores uses of keys that are later than the stored ones. KEYS: the hash. ARGV: id, time and value of each.
const NOTE_USES: &str = r"
for i = 1, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or cjson.decode(known).at < ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  end
end
";

/// An open store.
pub(super) struct Redis {
    client: Client,
    names: KeyNames,
    deadlines: StoreDeadlines,
    /// The connection for commands; opened on demand.
    connection: Mutex<Option<Connection>>,
    /// How far this node has followed the stream.
    position: watch::Receiver<Option<Position>>,
    follower: JoinHandle<()>,
    claims: SingleUse,
    families: Families,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Redis {
    /// Starts to follow a store, whether or not it can be reached now.
    pub(super) fn open(
        servers: &RedisServers,
        prefix: &str,
        deadlines: StoreDeadlines,
        memory: &Arc<Memory>,
        health: &Arc<AtomicU8>,
    ) -> Result<Self, StoreError> {
        let client = Client::new(servers);
        let client = client.map_err(|error| StoreError::Unusable(format!("the store's URL is invalid: {error}")))?;
        let names = KeyNames(prefix.into());
        let (sender, position) = watch::channel(None);
        let (memory, health) = (Arc::clone(memory), Arc::clone(health));
        let follower = Follower::new(client.clone(), names.clone(), deadlines, memory, health, sender);
        let follower = tokio::spawn(follower.run());
        let claims = SingleUse::new(client.clone(), names.of("claim:"), deadlines);
        let families = Families::new(client.clone(), names.of("family:"), deadlines);
        Ok(Self { client, names, deadlines, connection: Mutex::default(), position, follower, claims, families })
    }

    /// Returns the single-use values that nodes share.
    pub(super) fn claims(&self) -> &SingleUse {
        &self.claims
    }

    /// Returns the families of refresh tokens.
    pub(super) fn families(&self) -> &Families {
        &self.families
    }

    /// Waits until everything has been read once.
    pub(super) fn loaded(&self) -> impl Future<Output = ()> + use<> {
        let mut position = self.position.clone();
        async move {
            // An error means that the follower has ended, so there is nothing to wait for.
            let _ = position.wait_for(Option::is_some).await;
        }
    }

    /// Makes all changes or none. They are in force on this node when this returns.
    pub(super) async fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
        let script = Script::new(APPLY);
        let mut call = script.prepare_invoke();
        call.key(self.names.stream());
        for kind in Kind::ALL {
            call.key(self.names.hash(kind)).key(self.names.ids(kind));
        }
        call.arg(KEPT);
        for change in changes {
            let (op, kind, id, value) = match change {
                Change::Swap(entries) => {
                    let (before, after) = &**entries;
                    call.arg("expect").arg(position(before.kind())).arg(before.kind().as_str());
                    call.arg(before.id()).arg(before.encode());
                    ("put", after.kind(), after.id(), after.encode())
                }
                Change::Put(entry) => ("put", entry.kind(), entry.id(), entry.encode()),
                Change::Create(entry) => ("create", entry.kind(), entry.id(), entry.encode()),
                Change::Remove(kind, id) => ("remove", *kind, id.clone(), Vec::new()),
                Change::RemoveIf(entry) => ("remove_if", entry.kind(), entry.id(), entry.encode()),
            };
            call.arg(op).arg(position(kind)).arg(kind.as_str()).arg(id).arg(value);
        }
        let made: Option<String> = self.run(async |connection| call.invoke_async(connection).await).await?;
        match made.as_deref() {
            Some(EXISTS) => return Err(StoreError::Exists),
            Some(CHANGED) => return Err(StoreError::Changed),
            _ => {}
        }
        let Some(made) = made.as_deref().and_then(Position::parse) else { return Ok(()) };
        let mut position = self.position.clone();
        let followed = position.wait_for(|at| at.is_some_and(|at| at >= made));
        match tokio::time::timeout(self.deadlines.operator(), followed).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StoreError::NotInForce),
        }
    }

    /// Returns up to `limit` entries of a kind, by id, after `after`.
    pub(super) async fn page(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let from = after.map_or("-".to_owned(), |after| format!("({after}"));
        let (ids_name, hash) = (self.names.ids(kind), self.names.hash(kind));
        let ids: Vec<String> = self
            .run(async |connection| {
                let mut range = cmd("ZRANGEBYLEX");
                range.arg(&ids_name).arg(&from).arg("+").arg("LIMIT").arg(0).arg(limit);
                range.query_async(connection).await
            })
            .await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<Option<Vec<u8>>> =
            self.run(async |connection| cmd("HMGET").arg(&hash).arg(&ids).query_async(connection).await).await?;
        let known = ids.iter().zip(values).filter_map(|(id, value)| Some((id, value?)));
        known.map(|(id, value)| decode(kind, id, &value)).collect()
    }

    /// Returns one entry.
    pub(super) async fn get(&self, kind: Kind, id: &str) -> Result<Option<Entry>, StoreError> {
        let hash = self.names.hash(kind);
        let value: Option<Vec<u8>> =
            self.run(async |connection| cmd("HGET").arg(&hash).arg(id).query_async(connection).await).await?;
        value.map(|value| decode(kind, id, &value)).transpose()
    }

    /// Stores when keys were last used.
    pub(super) async fn note_uses(&self, uses: &[(Box<str>, LastUse)]) -> Result<(), StoreError> {
        let script = Script::new(NOTE_USES);
        let mut call = script.prepare_invoke();
        call.key(self.names.uses());
        for (id, last) in uses {
            let value = serde_json::to_vec(last).unwrap_or_default();
            call.arg(&**id).arg(last.at.to_string()).arg(value);
        }
        self.run(async |connection| call.invoke_async::<()>(connection).await).await
    }

    /// Returns when each of these keys was last used, on any node.
    pub(super) async fn uses(&self, keys: &[Box<str>]) -> Result<Vec<Option<LastUse>>, StoreError> {
        let mut command = cmd("HMGET");
        command.arg(self.names.uses());
        for key in keys {
            command.arg(&**key);
        }
        let found = self.run(async |connection| command.query_async::<Vec<Option<Vec<u8>>>>(connection).await).await?;
        Ok(found.into_iter().map(|value| serde_json::from_slice(&value?).ok()).collect())
    }

    /// Runs a command over the connection, opening one if needed. Drops the connection after a fatal error.
    async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, StoreError> {
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take() {
            Some(open) => open,
            None => {
                let connecting = self.deadlines.connect(&self.client, self.deadlines.operator());
                connecting.await.map_err(|error| failed(&error))?
            }
        };
        let done = command(&mut connection).await;
        if done.as_ref().is_err_and(is_broken) {
            return Err(done.map_or_else(|error| failed(&error), |_| StoreError::Unreachable(String::new())));
        }
        *slot = Some(connection);
        done.map_err(|error| failed(&error))
    }
}

/// The position of a kind in the keys of [`APPLY`].
fn position(kind: Kind) -> usize {
    Kind::ALL.iter().position(|known| *known == kind).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::entry::suspension;
    use super::*;
    use crate::state::epoch::Epoch;
    use crate::state::redis::server::Server;

    fn open(server: &Server) -> Redis {
        let deadlines = StoreDeadlines(Duration::from_secs(30));
        let memory = Arc::new(Memory::new(Epoch::default()));
        Redis::open(&server.servers(), "bartizan", deadlines, &memory, &Arc::default()).unwrap()
    }

    /// Sweeping reads entries, and removes those that have ended: one that was replaced meanwhile has not.
    #[tokio::test]
    async fn what_was_replaced_since_it_was_read_is_not_removed() {
        let Some(server) = Server::start() else { return };
        let store = open(&server);
        store.loaded().await;
        let created = ["a", "b", "c"].map(|name| Change::Create(suspension(name, "ended")));
        store.apply(&created).await.unwrap();
        let replaced = [Change::Put(suspension("b", "again")), Change::Remove(Kind::Suspension, "c".to_owned())];
        store.apply(&replaced).await.unwrap();
        let sweep = ["b", "a", "c"].map(|name| Change::RemoveIf(suspension(name, "ended")));
        store.apply(&sweep).await.unwrap();
        assert_eq!(store.page(Kind::Suspension, None, 10).await.unwrap(), [suspension("b", "again")]);
        // Nothing is left to remove, and nothing new is in the stream to wait for.
        store.apply(&sweep).await.unwrap();
        assert_eq!(store.page(Kind::Suspension, None, 10).await.unwrap(), [suspension("b", "again")]);
    }

    /// Of two that replace the same entry, on whatever nodes, one does, and nothing of the other's change is made.
    #[tokio::test]
    async fn what_was_changed_since_it_was_read_is_not_replaced() {
        let Some(server) = Server::start() else { return };
        let (store, other) = (open(&server), open(&server));
        store.loaded().await;
        other.loaded().await;
        let swap = |after: &str| Change::Swap(Box::new((suspension("a", "open"), suspension("a", after))));
        let beside = |name: &str| Change::Create(suspension(name, "beside"));
        assert_eq!(store.apply(&[beside("b"), swap("first")]).await, Err(StoreError::Changed), "there is none");
        store.apply(&[Change::Create(suspension("a", "open"))]).await.unwrap();
        let first = [beside("b"), swap("first")];
        let second = [beside("c"), swap("second")];
        let done = tokio::join!(store.apply(&first), other.apply(&second));
        let left = store.page(Kind::Suspension, None, 10).await.unwrap();
        let expected = match done {
            (Ok(()), Err(StoreError::Changed)) => [suspension("a", "first"), suspension("b", "beside")],
            (Err(StoreError::Changed), Ok(())) => [suspension("a", "second"), suspension("c", "beside")],
            both => panic!("{both:?}"),
        };
        assert_eq!(left, expected);
    }

    /// A client of Redis sends a script again if the connection is lost before the answer: what was made then is made.
    #[tokio::test]
    async fn a_change_that_is_sent_twice_is_made_once() {
        let Some(server) = Server::start() else { return };
        let store = open(&server);
        store.loaded().await;
        let swap = |before: &str, after: &str| {
            let swap = Change::Swap(Box::new((suspension("a", before), suspension("a", after))));
            [swap, Change::Create(suspension("b", after))]
        };
        store.apply(&[Change::Create(suspension("a", "open"))]).await.unwrap();
        for _ in 0..2 {
            store.apply(&swap("open", "claimed")).await.unwrap();
        }
        let create = [Change::Create(suspension("c", "once"))];
        for _ in 0..2 {
            store.apply(&create).await.unwrap();
        }
        assert_eq!(store.apply(&[Change::Create(suspension("c", "other"))]).await, Err(StoreError::Exists));
        assert_eq!(store.apply(&swap("open", "other")).await, Err(StoreError::Changed));
        // Half of a change is none.
        store.apply(&[Change::Remove(Kind::Suspension, "b".to_owned())]).await.unwrap();
        assert_eq!(store.apply(&swap("open", "claimed")).await, Err(StoreError::Changed));
        let length: usize = store
            .run(async |connection| cmd("XLEN").arg(store.names.stream()).query_async(connection).await)
            .await
            .unwrap();
        assert_eq!(length, 5, "nothing is announced twice");
    }
}
