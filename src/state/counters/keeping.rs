//! Keeps a connection to the store, and counts the nodes that do.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::{RedisError, cmd};

use super::shared::{Shared, timed_out};
use crate::state::redis::Connection;

/// How long to wait before a lost connection is opened again.
const ROUND: Duration = Duration::from_millis(50);
/// The longest time between two attempts to reach a store that has been given up.
const RETRY: Duration = Duration::from_millis(800);
/// How often each node says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After this time without a word, a node is not counted any more, in microseconds.
const GONE: u64 = 5_000_000;
/// How late an answer may come to be of use still.
const LATEST: Duration = Duration::from_secs(60);

/// Notes that a node lives, and returns how many do. KEYS: the nodes. ARGV: this node, the time after which one is gone (µs).
const ALIVE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
return redis.call('ZCARD', KEYS[1])
";

impl Shared {
    /// Opens the connection whenever there is none, and counts the nodes.
    pub(super) async fn keep_connected(&self) {
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
                    // One that answers, but too late for requests, is not asked by them.
                    let in_time = !self.breaker.is_open() || begun.elapsed() <= self.timeout();
                    if in_time {
                        self.closed(self.breaker.answered());
                    }
                    HEARTBEAT
                }
                Err(_) => {
                    self.connection.send_replace(None);
                    ROUND
                }
            };
            let now_answered = self.answered.load(Ordering::Relaxed);
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
        asked.unwrap_or_else(|_| Err(timed_out()))
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
