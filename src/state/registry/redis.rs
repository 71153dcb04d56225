//! The store that many nodes share: Redis 7 or Valkey.
//!
//! Each kind of entry is a hash with its ids in a sorted set beside it, and every change is also put on a stream, in the
//! same atomic step. Each node follows that stream: it is pushed to, and what it missed while it was away is not lost. When
//! it was away it reads everything anew before it trusts its memory again; until then what it knew stays in force.
//!
//! All names begin with the policy's prefix in braces, so that a cluster keeps them together.

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

/// One command.
const ANSWER: Duration = Duration::from_secs(2);
/// The stream is waited on for so long at a time: an answer at least this often tells that the server is there.
const WAIT: Duration = Duration::from_millis(400);
/// After the connection broke; doubled up to a second.
const RETRY: Duration = Duration::from_millis(50);
/// Changes that the stream keeps.
const KEPT: usize = 100_000;
/// Entries of one step of reading everything.
const STEP: usize = 1000;

/// Makes changes and tells of them, all at once. KEYS: the stream, then hash and ids of each kind. ARGV: op, position of
/// the kind in `Kind::ALL`, its name, id and value of each change. Returns the place of the last change in the stream, or
/// `exists`, and has changed nothing, when what is to be created is there.
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

/// What [`APPLY`] says when what is to be created is there.
const EXISTS: &str = "exists";

/// Notes uses of keys, where they are later than what is noted. KEYS: the hash. ARGV: id, time and value of each.
const NOTE_USES: &str = r"
for i = 1, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or cjson.decode(known).at < ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  end
end
";

/// An entry's place in the stream.
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

/// The names of our keys.
#[derive(Debug, Clone)]
struct Names(Box<str>);

impl Names {
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

    /// Made once, when the store is first used: a store without it, or with another, is not the one we knew.
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
    names: Names,
    /// For commands; opened when there is one.
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
    /// Begins to follow a store, whether or not it can be reached now.
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
        let client = client.map_err(|error| StoreError::Unusable(format!("the store's URL is no use: {error}")))?;
        let names = Names(prefix.into());
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

    /// What nodes claim from each other.
    pub(super) fn claims(&self) -> &SingleUse {
        &self.claims
    }

    /// Waits until everything has been read once.
    pub(super) fn loaded(&self) -> impl Future<Output = ()> + use<> {
        let mut position = self.position.clone();
        async move {
            // An error means that the follower is gone, and then there is nothing to wait for.
            let _ = position.wait_for(Option::is_some).await;
        }
    }

    /// Makes all changes or none. This node has them in force when this returns.
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
            _ => Err(StoreError::Unreachable("the change was kept, but did not come back to this node yet".to_owned())),
        }
    }

    /// Up to `limit` entries of a kind, by id, behind `after`.
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

    /// One entry.
    pub(super) async fn get(&self, kind: Kind, id: &str) -> Result<Option<Entry>, StoreError> {
        let hash = self.names.hash(kind);
        let value: Option<Vec<u8>> =
            self.run(async |connection| cmd("HGET").arg(&hash).arg(id).query_async(connection).await).await?;
        value.map(|value| decode(kind, id, &value)).transpose()
    }

    /// Notes when keys were last used.
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

    /// When all keys were last used, on any node.
    pub(super) async fn uses(&self) -> Result<Vec<(String, LastUse)>, StoreError> {
        let name = self.names.uses();
        self.run(async |connection| read_uses(connection, &name).await).await
    }

    /// Runs a command over the connection, which is opened when there is none. After an error there is none again.
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
    // An entry that cannot be read may be a revocation: it is told, and never passed over.
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
    names: Names,
    memory: Arc<Memory>,
    health: Arc<AtomicU8>,
    position: watch::Sender<Option<Position>>,
    /// Of the store that was read last.
    identity: Option<String>,
    /// The store has once lost what it had: what restricts is kept whatever it says now.
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
            tracing::warn!(%error, "the store is out of reach; what is known stays in force");
            // What held for a while is tried again at once.
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
                    .ok_or_else(|| StoreError::Unusable(format!("{:?} is no place in a stream", entry.id)))?;
                let text = |name: &str| entry.map.get(name).and_then(|value| String::from_redis_value_ref(value).ok());
                let (op, kind) = (text("op"), text("kind"));
                let change = change(op.as_deref(), kind.as_deref(), text("id"), entry.map.get("value"))?;
                self.memory.apply(change);
                self.position.send_replace(Some(position));
            }
        }
    }

    /// Reads all that the store has, in place of what is known.
    async fn read_everything(&mut self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let fail = |error: RedisError| failed(&error);
        let name = self.names.identity();
        let fresh = uuid::Uuid::now_v7().to_string();
        let _: Value = cmd("SET").arg(&name).arg(&fresh).arg("NX").query_async(connection).await.map_err(fail)?;
        let identity: String = cmd("GET").arg(&name).query_async(connection).await.map_err(fail)?;
        // Before reading: what changes meanwhile comes again with the stream.
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
            tracing::error!("the store has lost what it had; revocations and suspensions known here stay in force");
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

/// A change, as the stream tells it.
fn change(
    op: Option<&str>,
    kind: Option<&str>,
    id: Option<String>,
    value: Option<&Value>,
) -> Result<Change, StoreError> {
    let unknown = || StoreError::Unusable("the stream of changes holds what is no change".to_owned());
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
