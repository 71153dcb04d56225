//! The store that many nodes share: Redis 7 or Valkey.
//!
//! Each kind of entry is a hash, with its ids in a sorted set, and every change is also added to a stream, in the same
//! atomic step. Each node follows that stream, so that changes are pushed to it and none is missed. After a lost
//! connection it reads everything again before it trusts its memory; until then the last known state stays in force.
//!
//! All names begin with the policy's prefix in braces, so that a cluster keeps them in one slot.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamRangeReply, StreamReadReply};
use redis::{Client, FromRedisValue, RedisError, Script, TlsCertificates, Value, cmd};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::connection::connect;
use super::entry::{Change, Entry, Kind, LastUse};
use super::health::Health;
use super::memory::Memory;
use super::single_use::SingleUse;
use super::store_error::StoreError;

/// Timeout of one command.
const ANSWER: Duration = Duration::from_secs(2);
/// How long one read of the stream blocks: a reply at least this often shows that the server is alive.
const WAIT: Duration = Duration::from_millis(400);
/// Wait before reconnecting; doubled up to a second.
const RETRY: Duration = Duration::from_millis(50);
/// Approximate length of the stream, in changes.
const KEPT: usize = 100_000;
/// Entries per step when everything is read.
const STEP: usize = 1000;

/// Makes changes and adds them to the stream, atomically. KEYS: the stream, then hash and ids of each kind. ARGV: op,
/// position of the kind in `Kind::ALL`, its name, id and value of each change. Returns the position of the last change
/// in the stream, or `exists`, with nothing changed, if an entry to be created exists already.
const APPLY: &str = r"
local last
for i = 2, #ARGV, 5 do
  if ARGV[i] == 'create' and redis.call('HEXISTS', KEYS[2 + 2 * tonumber(ARGV[i + 1])], ARGV[i + 3]) == 1 then
    return 'exists'
  end
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
  else
    redis.call('HDEL', hash, id)
    redis.call('ZREM', ids, id)
  end
  last = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'op', op, 'kind', name, 'id', id, 'value', value)
end
return last
";

/// The reply of [`APPLY`] if an entry to be created exists already.
const EXISTS: &str = "exists";

/// Stores uses of keys that are later than the stored ones. KEYS: the hash. ARGV: id, time and value of each.
const NOTE_USES: &str = r"
for i = 1, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or cjson.decode(known).at < ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  end
end
";

/// An entry's position in the stream.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position(u64, u64);

impl Position {
    fn parse(text: &str) -> Option<Self> {
        let (milliseconds, sequence) = text.split_once('-')?;
        Some(Self(milliseconds.parse().ok()?, sequence.parse().ok()?))
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// The names of this store's keys in Redis.
#[derive(Debug, Clone)]
struct KeyNames(Box<str>);

impl KeyNames {
    fn of(&self, what: &str) -> String {
        format!("{{{}}}:{what}", self.0)
    }

    fn hash(&self, kind: Kind) -> String {
        self.of(kind.as_str())
    }

    fn ids(&self, kind: Kind) -> String {
        format!("{}:ids", self.hash(kind))
    }

    fn stream(&self) -> String {
        self.of("changes")
    }

    /// Set once, when the store is first used: if it is missing or different, this is not the same store.
    fn identity(&self) -> String {
        self.of("identity")
    }

    fn uses(&self) -> String {
        self.of("use")
    }
}

/// An open store.
pub(super) struct Redis {
    client: Client,
    names: KeyNames,
    /// The connection for commands; opened on demand.
    connection: Mutex<Option<MultiplexedConnection>>,
    /// How far this node has followed the stream.
    position: watch::Receiver<Option<Position>>,
    follower: JoinHandle<()>,
    claims: SingleUse,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Redis {
    /// Starts to follow a store, whether or not it can be reached now.
    pub(super) fn open(
        url: &SecretString,
        prefix: &str,
        ca: Option<&str>,
        memory: &Arc<Memory>,
        health: &Arc<AtomicU8>,
    ) -> Result<Self, StoreError> {
        let root = ca.map(|ca| ca.as_bytes().to_vec());
        let client = match root {
            None => Client::open(url.expose_secret()),
            Some(root_cert) => Client::build_with_tls(
                url.expose_secret(),
                TlsCertificates { client_tls: None, root_cert: Some(root_cert) },
            ),
        };
        let client = client.map_err(|error| StoreError::Unusable(format!("the store's URL is invalid: {error}")))?;
        let names = KeyNames(prefix.into());
        let (sender, position) = watch::channel(None);
        let follower = Follower {
            client: client.clone(),
            names: names.clone(),
            memory: Arc::clone(memory),
            health: Arc::clone(health),
            position: sender,
            identity: None,
            lost: false,
        };
        let follower = tokio::spawn(follower.run());
        let claims = SingleUse::new(client.clone(), names.of("claim:"));
        Ok(Self { client, names, connection: Mutex::default(), position, follower, claims })
    }

    /// Returns the single-use values that nodes share.
    pub(super) fn claims(&self) -> &SingleUse {
        &self.claims
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
                Change::Put(entry) => ("put", entry.kind(), entry.id(), entry.encode()),
                Change::Create(entry) => ("create", entry.kind(), entry.id(), entry.encode()),
                Change::Remove(kind, id) => ("remove", *kind, id.clone(), Vec::new()),
            };
            let position = Kind::ALL.iter().position(|known| *known == kind).unwrap_or_default();
            call.arg(op).arg(position).arg(kind.as_str()).arg(id).arg(value);
        }
        let made: Option<String> = self.run(async |connection| call.invoke_async(connection).await).await?;
        if made.as_deref() == Some(EXISTS) {
            return Err(StoreError::Exists);
        }
        let Some(made) = made.as_deref().and_then(Position::parse) else { return Ok(()) };
        let mut position = self.position.clone();
        let followed = position.wait_for(|at| at.is_some_and(|at| at >= made));
        match tokio::time::timeout(ANSWER, followed).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StoreError::Unreachable("the change was stored, but is not in force on this node yet".to_owned())),
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

    /// Returns when all keys were last used, on any node.
    pub(super) async fn uses(&self) -> Result<Vec<(String, LastUse)>, StoreError> {
        let name = self.names.uses();
        self.run(async |connection| read_uses(connection, &name).await).await
    }

    /// Runs a command over the connection, opening one if needed. Drops the connection after a fatal error.
    async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, StoreError> {
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take() {
            Some(open) => open,
            None => connect(&self.client, ANSWER).await.map_err(|error| failed(&error))?,
        };
        let done = command(&mut connection).await;
        if done.as_ref().is_err_and(|error| error.is_unrecoverable_error() || error.is_timeout()) {
            return Err(done.map_or_else(|error| failed(&error), |_| StoreError::Unreachable(String::new())));
        }
        *slot = Some(connection);
        done.map_err(|error| failed(&error))
    }
}

fn failed(error: &RedisError) -> StoreError {
    StoreError::Unreachable(error.to_string())
}

fn decode(kind: Kind, id: &str, value: &[u8]) -> Result<Entry, StoreError> {
    // An entry that cannot be read may be a revocation, so it is an error and never skipped.
    Entry::decode(kind, value)
        .map_err(|error| StoreError::Unusable(format!("the store's {} {id:?} cannot be read: {error}", kind.as_str())))
}

async fn read_uses(connection: &mut MultiplexedConnection, name: &str) -> Result<Vec<(String, LastUse)>, RedisError> {
    let all: Vec<(String, Vec<u8>)> = cmd("HGETALL").arg(name).query_async(connection).await?;
    Ok(all.into_iter().filter_map(|(id, value)| Some((id, serde_json::from_slice(&value).ok()?))).collect())
}

/// Follows the stream of changes.
struct Follower {
    client: Client,
    names: KeyNames,
    memory: Arc<Memory>,
    health: Arc<AtomicU8>,
    position: watch::Sender<Option<Position>>,
    /// Identity of the store that was read last.
    identity: Option<String>,
    /// The store has lost data before: revocations and suspensions are kept even if it no longer has them.
    lost: bool,
}

impl Follower {
    async fn run(mut self) {
        let mut wait = RETRY;
        loop {
            let begun = std::time::Instant::now();
            let Err(error) = self.follow().await;
            if Health::load(&self.health) != Health::Loading {
                Health::Stale.store(&self.health);
            }
            tracing::warn!(%error, "the store cannot be reached; the last known state stays in force");
            // A connection that lasted for a while is retried at once.
            wait =
                if begun.elapsed() > Duration::from_secs(5) { RETRY } else { (wait * 2).min(Duration::from_secs(1)) };
            tokio::time::sleep(wait).await;
        }
    }

    async fn follow(&mut self) -> Result<Infallible, StoreError> {
        let mut connection = connect(&self.client, WAIT + ANSWER).await.map_err(|error| failed(&error))?;
        self.read_everything(&mut connection).await?;
        Health::Ready.store(&self.health);
        tracing::info!(revocations = self.memory.revoked.len(), "the store was read");
        let stream = self.names.stream();
        loop {
            let at = self.position.borrow().unwrap_or_default();
            let mut read = cmd("XREAD");
            read.arg("BLOCK").arg(u64::try_from(WAIT.as_millis()).unwrap_or(400)).arg("COUNT").arg(STEP);
            read.arg("STREAMS").arg(&stream).arg(at.to_string());
            let came: Option<StreamReadReply> =
                read.query_async(&mut connection).await.map_err(|error| failed(&error))?;
            for entry in came.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
                let position = Position::parse(&entry.id)
                    .ok_or_else(|| StoreError::Unusable(format!("{:?} is not a position in the stream", entry.id)))?;
                let text = |name: &str| entry.map.get(name).and_then(|value| String::from_redis_value_ref(value).ok());
                let (op, kind) = (text("op"), text("kind"));
                let change = change(op.as_deref(), kind.as_deref(), text("id"), entry.map.get("value"))?;
                self.memory.apply(change);
                self.position.send_replace(Some(position));
            }
        }
    }

    /// Reads everything in the store, replacing the working set.
    async fn read_everything(&mut self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let fail = |error: RedisError| failed(&error);
        let name = self.names.identity();
        let fresh = uuid::Uuid::now_v7().to_string();
        let _: Value = cmd("SET").arg(&name).arg(&fresh).arg("NX").query_async(connection).await.map_err(fail)?;
        let identity: String = cmd("GET").arg(&name).query_async(connection).await.map_err(fail)?;
        // Before reading: changes made during the read arrive again on the stream.
        let newest: StreamRangeReply = cmd("XREVRANGE")
            .arg(self.names.stream())
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .query_async(connection)
            .await
            .map_err(fail)?;
        let newest = newest.ids.first().and_then(|entry| Position::parse(&entry.id)).unwrap_or_default();
        let before = *self.position.borrow();
        let other = self.identity.as_ref().is_some_and(|known| *known != identity);
        if other || before.is_some_and(|before| newest < before) {
            self.lost = true;
            tracing::error!("the store has lost data; revocations and suspensions known here stay in force");
        }

        let mut load = self.memory.load();
        for kind in Kind::ALL {
            let mut cursor = 0_u64;
            loop {
                let mut scan = cmd("HSCAN");
                scan.arg(self.names.hash(kind)).arg(cursor).arg("COUNT").arg(STEP);
                let (next, entries): (u64, Vec<(String, Vec<u8>)>) =
                    scan.query_async(connection).await.map_err(fail)?;
                for (id, value) in entries {
                    load.put(decode(kind, &id, &value)?);
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        let uses = read_uses(connection, &self.names.uses()).await.map_err(fail)?;
        load.finish(self.lost);
        for (key, last) in uses {
            self.memory.learn_use(&key, last);
        }
        self.identity = Some(identity);
        self.position.send_replace(Some(newest));
        Ok(())
    }
}

/// Parses a change from the stream.
fn change(
    op: Option<&str>,
    kind: Option<&str>,
    id: Option<String>,
    value: Option<&Value>,
) -> Result<Change, StoreError> {
    let unknown = || StoreError::Unusable("the stream of changes holds an invalid entry".to_owned());
    let (kind, id) = (kind.and_then(Kind::of).ok_or_else(unknown)?, id.ok_or_else(unknown)?);
    match op {
        Some("put") => {
            let value = value.and_then(|value| Vec::<u8>::from_redis_value_ref(value).ok()).ok_or_else(unknown)?;
            Ok(Change::Put(decode(kind, &id, &value)?))
        }
        Some("remove") => Ok(Change::Remove(kind, id)),
        _ => Err(unknown()),
    }
}
