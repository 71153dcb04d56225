//! Counts in Redis, which many nodes share: keeps a connection, and counts the nodes that do.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, Script, ServerErrorKind, Value, cmd};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::breaker::Breaker;
use super::no_answer::NoAnswer;
use super::question::{Given, Question, SCRIPT};
use crate::error_text::without_codes;
use crate::state::redis::{Client, Connection, StoreDeadlines, is_broken};

/// How long to wait before a lost connection is opened again.
const ROUND: Duration = Duration::from_millis(50);
/// The longest time between two attempts to reach a store that has been given up.
const RETRY: Duration = Duration::from_millis(800);
/// How long to wait before a store is tried again that answered too late.
const AGAIN: Duration = Duration::from_millis(100);
/// How often each node says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After this time without a word, a node is not counted any more, in microseconds.
const GONE: u64 = 5_000_000;
/// How late an answer may come to be of use still.
const LATEST: Duration = Duration::from_secs(60);
/// How long a question waits for a connection at most.
const CONNECTED: Duration = Duration::from_secs(1);

/// Notes that a node lives, and returns how many do. KEYS: the nodes. ARGV: this node, the time after which one is gone (µs).
const ALIVE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
return redis.call('ZCARD', KEYS[1])
";

/// Redis, and the nodes that count in it.
pub(super) struct RedisCounts {
    client: Client,
    prefix: Box<str>,
    /// Digest of the script, by which servers know it.
    digest: String,
    deadlines: StoreDeadlines,
    connection: watch::Sender<Option<Connection>>,
    /// Notified when the connection is of no use any more.
    broken: Notify,
    /// Whether eviction has been warned of.
    warned: AtomicBool,
    /// This node among those that count.
    node: String,
    /// Nodes that live, this one included.
    nodes: AtomicU32,
}

impl From<RedisError> for NoAnswer {
    fn from(error: RedisError) -> Self {
        // One late answer is no reason to connect again.
        let is_broken = is_broken(&error) && !error.is_timeout();
        Self { why: without_codes(&error.to_string()), is_broken }
    }
}

impl RedisCounts {
    pub(super) fn new(client: Client, prefix: &str, deadlines: StoreDeadlines) -> Self {
        Self {
            client,
            prefix: prefix.into(),
            digest: Script::new(SCRIPT).get_hash().to_owned(),
            deadlines,
            connection: watch::Sender::new(None),
            broken: Notify::new(),
            warned: AtomicBool::new(false),
            node: Uuid::now_v7().to_string(),
            nodes: AtomicU32::new(1),
        }
    }

    /// How many nodes count in this store, this one included.
    pub(super) fn nodes(&self) -> u32 {
        self.nodes.load(Ordering::Relaxed).max(1)
    }

    fn nodes_key(&self) -> String {
        format!("{{{}}}:nodes", self.prefix)
    }

    /// Waits until there is a connection.
    pub(super) async fn connected(&self) {
        // An error means that there is no sender any more, which is `self`.
        let _ = self.connection.subscribe().wait_for(Option::is_some).await;
    }

    async fn open(&self) -> Result<Connection, NoAnswer> {
        let mut connection = self.connection.subscribe();
        let open = tokio::time::timeout(CONNECTED, connection.wait_for(Option::is_some)).await;
        let open = open.ok().and_then(Result::ok).and_then(|open| open.clone());
        open.ok_or_else(|| RedisError::from(std::io::Error::from(std::io::ErrorKind::NotConnected)).into())
    }

    /// Asks.
    pub(super) async fn answer(&self, question: &Question) -> Result<Vec<Given>, NoAnswer> {
        let mut open = self.open().await?;
        let known = question.command(&self.prefix, "EVALSHA", &self.digest);
        let reply = match known.query_async::<Value>(&mut open).await {
            // A server that was restarted or promoted does not know the script.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                question.command(&self.prefix, "EVAL", SCRIPT).query_async(&mut open).await?
            }
            reply => reply?,
        };
        Ok(question.answer(reply)?)
    }

    /// Resets the usage of a caller.
    pub(super) async fn reset(&self, question: &Question) -> Result<(), NoAnswer> {
        let mut open = self.open().await?;
        let reset = question.reset(&self.prefix);
        let asked = tokio::time::timeout(self.deadlines.operator(), reset.query_async::<Value>(&mut open)).await;
        asked.map_err(|_| NoAnswer::timed_out())??;
        Ok(())
    }

    /// The connection is opened again.
    pub(super) fn is_broken(&self) {
        self.connection.send_replace(None);
        self.broken.notify_one();
    }

    /// Says that this node does not count any more.
    pub(super) async fn leave(&self) {
        let mut connection = self.connection.borrow().clone();
        if let Some(connection) = &mut connection {
            let mut remove = cmd("ZREM");
            remove.arg(self.nodes_key()).arg(&self.node);
            // Nobody misses it for longer than it takes to be counted as gone.
            let _ = remove.query_async::<Value>(connection).await;
        }
    }

    /// Opens the connection whenever there is none, and counts the nodes. `questions` are those that have been
    /// answered.
    pub(super) async fn keep_connected(
        &self,
        breaker: &Breaker,
        timeout: impl Fn() -> Duration,
        questions: &AtomicU64,
    ) {
        let (mut retry, mut answered) = (ROUND, 0);
        loop {
            let connection = self.connection.borrow().clone();
            let begun = Instant::now();
            let alive = match connection {
                Some(mut open) => self.alive(&mut open).await,
                None => match self.deadlines.connect(&self.client, LATEST).await {
                    Ok(mut opened) => {
                        let alive = self.alive(&mut opened).await;
                        if alive.is_ok() {
                            self.warn_of_eviction(&mut opened).await;
                            self.connection.send_replace(Some(opened));
                        }
                        alive
                    }
                    Err(error) => Err(error),
                },
            };
            let wait = match alive {
                Ok(nodes) => {
                    self.nodes.store(nodes, Ordering::Relaxed);
                    // One that answers, but too late for requests, is not asked by them, but tried again soon.
                    if !breaker.is_open() || begun.elapsed() <= timeout() {
                        breaker.answered();
                        HEARTBEAT
                    } else {
                        AGAIN
                    }
                }
                Err(_) => {
                    self.connection.send_replace(None);
                    ROUND
                }
            };
            let now_answered = questions.load(Ordering::Relaxed);
            retry = if now_answered == answered { (retry * 2).min(RETRY) } else { ROUND };
            answered = now_answered;
            // A broken connection is opened again at once, unless the last one was of no use either.
            if tokio::time::timeout(wait, self.broken.notified()).await.is_ok() || wait == ROUND {
                tokio::time::sleep(retry).await;
            }
        }
    }

    /// Warns, once, of a server that removes keys when its memory is full: that refills limits.
    async fn warn_of_eviction(&self, connection: &mut Connection) {
        let mut info = cmd("INFO");
        info.arg("memory");
        // One that may not be asked, or is a cluster, is not examined.
        let asked = tokio::time::timeout(self.deadlines.operator(), info.query_async::<String>(connection)).await;
        let policy = asked.ok().and_then(Result::ok).as_deref().and_then(evicting).map(str::to_owned);
        if let Some(policy) = policy.filter(|_| !self.warned.swap(true, Ordering::Relaxed)) {
            tracing::warn!(
                policy,
                "the store may remove what it counts when its memory is full, which refills limits; set \
                 `maxmemory-policy noeviction`"
            );
        }
    }

    async fn alive(&self, connection: &mut Connection) -> Result<u32, RedisError> {
        let mut alive = cmd("EVAL");
        alive.arg(ALIVE).arg(1).arg(self.nodes_key()).arg(&self.node).arg(GONE);
        let asked = tokio::time::timeout(self.deadlines.operator(), alive.query_async::<u32>(connection)).await;
        asked.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }
}

/// The policy by which a server removes keys, if it does (`INFO memory`).
fn evicting(info: &str) -> Option<&str> {
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"))?.trim();
    (policy != "noeviction").then_some(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_removes_keys_is_recognised() {
        for (info, policy) in [
            ("# Memory\r\nused_memory:1\r\nmaxmemory_policy:noeviction\r\n", None),
            ("maxmemory_policy:allkeys-lru\r\n", Some("allkeys-lru")),
            ("maxmemory_policy:volatile-ttl\r\nallocator:x\r\n", Some("volatile-ttl")),
            ("used_memory:1\r\n", None),
        ] {
            assert_eq!(evicting(info), policy, "{info}");
        }
    }
}
