//! The limits that nodes count together, in Redis.
//!
//! A node takes a block of a caller's allowance in advance and spends it without asking ([`crate::state::ledger::Block`]).
//! So no more is let through in all than the limit allows, and most requests wait for nothing. What is not needed is
//! returned soon; what a node has spent while the store was away is counted when it is back.
//!
//! - `question`: what is asked, and the script that decides it; `breaker`: when the store is given up.

mod breaker;
mod question;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, Script, ServerErrorKind, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use self::breaker::Breaker;
use self::question::SCRIPT;
pub(crate) use self::question::{AskedLimit, Given, Question};
use super::ledger::{Account, Clock, Refused, Tick};
use super::redis::{Client, Connection, StoreDeadlines, is_broken};
use crate::error_text::without_codes;

/// How long a block may be kept: what is left is returned then.
const LAPSE: u64 = 100_000_000;
/// How long a refusal holds without asking again, in nanoseconds.
const ASK_AGAIN: u64 = 1_000_000_000;
/// How often blocks are looked at, and a lost connection is opened again.
const ROUND: Duration = Duration::from_millis(50);
/// How often each node says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After this time without a word, a node is not counted any more, in microseconds.
const GONE: u64 = 5_000_000;
/// How long a question waits for a connection at most.
const CONNECTED: Duration = Duration::from_secs(1);
/// How late an answer may come to be of use still.
const LATEST: Duration = Duration::from_secs(60);
/// How many questions that return blocks are sent at once.
const RETURNED: usize = 256;

/// Notes that a node lives, and returns how many do. KEYS: the nodes. ARGV: this node, the time after which one is gone (µs).
const ALIVE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
return redis.call('ZCARD', KEYS[1])
";

/// The counters in a store. Dropping it stops its tasks.
pub(crate) struct Counters {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

struct Shared {
    client: Client,
    prefix: Box<str>,
    /// Digest of the script, by which servers know it.
    digest: String,
    deadlines: StoreDeadlines,
    clock: Clock,
    /// The runtime of the tasks: the threads of requests do not live long enough.
    runtime: Handle,
    connection: watch::Sender<Option<Connection>>,
    /// Notified when the connection is of no use any more.
    broken: Notify,
    breaker: Breaker,
    /// This node among those that count.
    node: String,
    /// Nodes that live, this one included.
    nodes: AtomicU32,
    /// Questions that were answered in time, and those that were not.
    answered: AtomicU64,
    unanswered: AtomicU64,
    /// What was taken in advance, and what of it was returned.
    taken: AtomicU64,
    returned: AtomicU64,
    /// Accounts with something to return, in the order in which it lapses.
    returning: Mutex<VecDeque<(u64, Arc<Account>)>>,
}

impl Drop for Counters {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Counters {
    /// Starts to count in a store, whether or not it can be reached now. Must be called within the runtime that outlives
    /// requests.
    pub(crate) fn start(client: Client, prefix: &str, deadlines: StoreDeadlines, clock: Clock) -> Self {
        let shared = Arc::new(Shared {
            client,
            prefix: prefix.into(),
            digest: Script::new(SCRIPT).get_hash().to_owned(),
            deadlines,
            clock,
            runtime: Handle::current(),
            connection: watch::Sender::new(None),
            broken: Notify::new(),
            breaker: Breaker::default(),
            node: Uuid::now_v7().to_string(),
            nodes: AtomicU32::new(1),
            answered: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            returning: Mutex::default(),
        });
        let (keeping, returning) = (Arc::clone(&shared), Arc::clone(&shared));
        let tasks = [
            tokio::spawn(async move { keeping.keep_connected().await }),
            tokio::spawn(async move { returning.keep_returning().await }),
        ];
        Self { shared, tasks }
    }

    /// Whether the store answers, as far as is known: if not, it need not be asked.
    pub(crate) fn is_available(&self) -> bool {
        !self.shared.breaker.is_open()
    }

    /// How many nodes count in this store, this one included.
    pub(crate) fn nodes(&self) -> u32 {
        self.shared.nodes.load(Ordering::Relaxed).max(1)
    }

    /// Questions, by outcome.
    pub(crate) fn questions(&self) -> [(&'static str, u64); 2] {
        let Shared { answered, unanswered, .. } = &*self.shared;
        [("answered", answered.load(Ordering::Relaxed)), ("failed", unanswered.load(Ordering::Relaxed))]
    }

    /// What was taken from limits in advance, by what became of it; what was not returned was spent, or is held.
    pub(crate) fn tokens(&self) -> [(&'static str, u64); 2] {
        let Shared { taken, returned, .. } = &*self.shared;
        [("taken", taken.load(Ordering::Relaxed)), ("returned", returned.load(Ordering::Relaxed))]
    }

    /// Asks a question about an account that is marked as asking, and applies the answer to it. Whoever waits for it is
    /// notified.
    pub(crate) fn ask(&self, account: &Arc<Account>, question: Question, timeout: Duration) {
        let (shared, account) = (Arc::clone(&self.shared), Arc::clone(account));
        self.shared.runtime.spawn(async move {
            shared.put(&account, &question, timeout).await;
        });
    }

    /// Tells the store later what an account has spent without it.
    pub(crate) fn tell_later(&self, account: &Arc<Account>) {
        self.shared.return_later(account);
    }

    /// Returns all blocks, at the end of the process.
    pub(crate) async fn close(&self) {
        self.shared.return_lapsed(u64::MAX).await;
        let mut connection = self.shared.connection.borrow().clone();
        if let Some(connection) = &mut connection {
            let mut remove = cmd("ZREM");
            remove.arg(self.shared.nodes_key()).arg(&self.shared.node);
            // Nobody misses it for longer than it takes to be counted as gone.
            let _ = remove.query_async::<Value>(connection).await;
        }
    }
}

impl Shared {
    fn nodes_key(&self) -> String {
        format!("{{{}}}:nodes", self.prefix)
    }

    /// Puts a question about an account that is marked as asking, and applies the answer. After `timeout` the account waits
    /// no more, and whoever waits for the answer is notified; but what is given late is not lost.
    async fn put(&self, account: &Arc<Account>, question: &Question, timeout: Duration) {
        let answer = self.answer(question);
        tokio::pin!(answer);
        let in_time = tokio::time::timeout(timeout, &mut answer).await;
        match &in_time {
            Ok(Ok(given)) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.taken.fetch_add(given.iter().map(|given| u64::from(given.tokens)).sum(), Ordering::Relaxed);
                let returned = question.limits.iter().map(|asked| asked.owed.min(0).unsigned_abs()).sum();
                self.returned.fetch_add(returned, Ordering::Relaxed);
                if self.breaker.answered() {
                    tracing::info!("the store answers again; all nodes count limits together");
                }
            }
            Ok(Err(error)) => self.failed(error),
            Err(_) => self.failed(&timed_out()),
        }
        let given = in_time.as_ref().ok().and_then(|answer| answer.as_deref().ok());
        self.learn(account, question, given);
        account.answered.notify_waiters();
        if in_time.is_err()
            && let Ok(given) = answer.await
        {
            self.learn_late(account, question, &given);
        }
    }

    /// Asks the store.
    async fn answer(&self, question: &Question) -> Result<Vec<Given>, RedisError> {
        let mut connection = self.connection.subscribe();
        let open = tokio::time::timeout(CONNECTED, connection.wait_for(Option::is_some)).await;
        let open = open.ok().and_then(Result::ok).and_then(|open| open.clone());
        let mut open = open.ok_or_else(|| RedisError::from(std::io::Error::from(std::io::ErrorKind::NotConnected)))?;
        let known = question.command(&self.prefix, "EVALSHA", &self.digest);
        match known.query_async::<Value>(&mut open).await {
            // A server that was restarted or promoted does not know the script.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let whole = question.command(&self.prefix, "EVAL", SCRIPT);
                question.answer(whole.query_async(&mut open).await?)
            }
            reply => question.answer(reply?),
        }
    }

    fn failed(&self, error: &RedisError) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let given_up = self.breaker.failed();
        if given_up {
            let error = without_codes(&error.to_string());
            tracing::warn!(
                error,
                "the store does not answer about limits; each node follows `store.limits.on_failure`"
            );
        }
        // One late answer is no reason to connect again.
        if given_up || (is_broken(error) && !error.is_timeout()) {
            self.connection.send_replace(None);
            self.broken.notify_one();
        }
    }

    /// Applies an answer; without one, what the question has told is still to be told.
    fn learn(&self, account: &Arc<Account>, question: &Question, answer: Option<&[Given]>) {
        let now = self.clock.tick(Instant::now());
        let mut uses = account.uses();
        uses.asking = false;
        for (index, asked) in question.limits.iter().enumerate() {
            let used = uses.of(asked.id, now);
            let block = &mut used.block;
            match answer.and_then(|answer| answer.get(index)) {
                None => block.owed += asked.owed,
                Some(given) => {
                    used.full_at = now.0.saturating_add(given.full_after);
                    if asked.want > 0 {
                        block.tokens = block.left(now).saturating_add(given.tokens);
                        block.lapses = now.0 + LAPSE;
                        block.next = asked.want.saturating_mul(2);
                        block.refused = (given.tokens < asked.want && given.wait > 0).then(|| Refused {
                            cost: asked.need.max(1),
                            until: now.0.saturating_add(given.wait),
                            ask_again: now.0.saturating_add(given.wait.min(ASK_AGAIN)),
                            window: asked.one.saturating_mul(asked.burst.into()),
                        });
                    }
                }
            }
        }
        drop(uses);
        self.return_later(account);
    }

    /// Applies an answer that came when nobody waited for it any more: what it gave is returned in time.
    fn learn_late(&self, account: &Arc<Account>, question: &Question, given: &[Given]) {
        let now = self.clock.tick(Instant::now());
        let mut uses = account.uses();
        for (asked, given) in question.limits.iter().zip(given) {
            let block = &mut uses.of(asked.id, now).block;
            block.owed -= asked.owed + i64::from(given.tokens);
        }
        drop(uses);
        self.return_later(account);
    }

    /// Looks at an account again once its blocks have lapsed, if it has any.
    fn return_later(&self, account: &Arc<Account>) {
        let mut uses = account.uses();
        if !uses.returning && uses.all().any(|used| used.block.tokens > 0 || used.block.owed != 0) {
            uses.returning = true;
            let lapses = self.clock.tick(Instant::now()).0 + LAPSE;
            self.returning.lock().unwrap_or_else(PoisonError::into_inner).push_back((lapses, Arc::clone(account)));
        }
    }

    /// Opens the connection whenever there is none, and counts the nodes.
    async fn keep_connected(&self) {
        loop {
            let connection = self.connection.borrow().clone();
            let alive = match connection {
                Some(mut open) => self.alive(&mut open).await,
                None => match self.deadlines.connect(&self.client, LATEST).await {
                    Ok(mut opened) => {
                        let alive = self.alive(&mut opened).await;
                        if alive.is_ok() {
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
                    if self.breaker.answered() {
                        tracing::info!("the store answers again; all nodes count limits together");
                    }
                    HEARTBEAT
                }
                Err(_) => {
                    self.connection.send_replace(None);
                    ROUND
                }
            };
            // A broken connection is opened again at once, the first time.
            let _ = tokio::time::timeout(wait, self.broken.notified()).await;
        }
    }

    async fn alive(&self, connection: &mut Connection) -> Result<u32, RedisError> {
        let mut alive = cmd("EVAL");
        alive.arg(ALIVE).arg(1).arg(self.nodes_key()).arg(&self.node).arg(GONE);
        let asked = tokio::time::timeout(self.deadlines.operator(), alive.query_async::<u32>(connection)).await;
        asked.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Returns what has lapsed, for ever.
    async fn keep_returning(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(ROUND).await;
            if !self.breaker.is_open() {
                let now = self.clock.tick(Instant::now());
                self.return_lapsed(now.0).await;
            }
        }
    }

    /// Returns what has lapsed until `now`.
    async fn return_lapsed(self: &Arc<Self>, now: u64) {
        loop {
            let mut due = Vec::new();
            {
                let mut returning = self.returning.lock().unwrap_or_else(PoisonError::into_inner);
                while due.len() < RETURNED && returning.front().is_some_and(|(lapses, _)| *lapses <= now) {
                    due.extend(returning.pop_front().map(|(_, account)| account));
                }
            }
            if due.is_empty() {
                return;
            }
            let mut returned = JoinSet::new();
            for account in due {
                let shared = Arc::clone(self);
                returned.spawn(async move { shared.give_back(account, Tick(now)).await });
            }
            returned.join_all().await;
        }
    }

    /// Tells the store what an account owes or returns.
    async fn give_back(&self, account: Arc<Account>, now: Tick) {
        let limits = {
            let mut uses = account.uses();
            uses.returning = false;
            if uses.asking {
                // The answer that it waits for decides when to look again.
                return;
            }
            let limits: Vec<AskedLimit> = uses.all().filter_map(|used| AskedLimit::to_tell(used, now)).collect();
            uses.asking = !limits.is_empty();
            limits
        };
        if limits.is_empty() {
            self.return_later(&account);
            return;
        }
        let question = Question { account: account.name().into(), limits };
        self.put(&account, &question, self.deadlines.request()).await;
    }
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ledger::{Ledger, LimitId};
    use crate::state::redis::server::Server;

    /// An hour: nothing is refilled while a test runs.
    const ONE: u64 = 3_600_000_000_000;

    fn start(server: &Server, clock: Clock) -> Counters {
        let client = Client::new(&server.servers()).unwrap();
        Counters::start(client, "bartizan", StoreDeadlines(Duration::from_secs(30)), clock)
    }

    fn asked(name: &str, burst: u32, need: u32, want: u32) -> AskedLimit {
        AskedLimit { id: LimitId::class(name), one: ONE, burst, need, want, worth: 1, owed: 0 }
    }

    async fn put(counters: &Counters, limits: &[AskedLimit]) -> Vec<(u32, u32)> {
        let question = Question { account: "c:acme".into(), limits: limits.to_vec() };
        let given = counters.shared.answer(&question).await.unwrap();
        given.iter().map(|given| (given.tokens, given.left)).collect()
    }

    #[tokio::test]
    async fn all_limits_are_decided_before_anything_is_taken_from_one() {
        let Some(server) = Server::start() else { return };
        let counters = start(&server, Ledger::new(Instant::now()).clock());
        let (plan, report) = (asked("plan", 100, 1, 1), asked("report", 2, 1, 1));
        assert_eq!(put(&counters, &[plan, report]).await, [(1, 99), (1, 1)]);
        assert_eq!(put(&counters, &[plan, report]).await, [(1, 98), (1, 0)]);
        assert_eq!(put(&counters, &[plan, report]).await, [(0, 98), (0, 0)], "refused by one");
        assert_eq!(put(&counters, &[plan]).await, [(1, 97)]);
    }

    #[tokio::test]
    async fn blocks_shrink_as_the_allowance_runs_out_and_what_is_returned_counts_again() {
        let Some(server) = Server::start() else { return };
        let counters = start(&server, Ledger::new(Instant::now()).clock());
        let plan = asked("plan", 100, 1, 40);
        let mut given = Vec::new();
        for _ in 0..6 {
            given.extend(put(&counters, &[plan]).await);
        }
        assert_eq!(given, [(25, 75), (18, 57), (14, 43), (10, 33), (8, 25), (6, 19)]);
        let returns = AskedLimit { need: 0, want: 0, owed: -50, ..plan };
        assert_eq!(put(&counters, &[returns]).await, [(0, 69)]);
        let spent = AskedLimit { need: 0, want: 0, owed: 1000, ..plan };
        assert_eq!(put(&counters, &[spent]).await, [(0, 0)], "nobody is locked out for longer than the window");
        assert_eq!(put(&counters, &[AskedLimit { need: 0, want: 0, owed: -1000, ..plan }]).await, [(0, 100)]);
    }

    /// A raised limit holds at once, and a lowered one locks out for no longer than its own window; also when it refuses.
    #[tokio::test]
    async fn another_limit_counts_from_its_own_window() {
        let Some(server) = Server::start() else { return };
        let counters = start(&server, Ledger::new(Instant::now()).clock());
        let (slow, fast) = (asked("plan", 5, 5, 5), AskedLimit { one: 1_000_000_000, ..asked("plan", 10, 1, 1) });
        assert_eq!(put(&counters, &[slow]).await, [(5, 0)]);
        assert_eq!(put(&counters, &[AskedLimit { need: 10, want: 10, ..fast }]).await, [(0, 0)]);
        let question = Question { account: "c:acme".into(), limits: vec![fast] };
        let refused = counters.shared.answer(&question).await.unwrap();
        assert!(refused[0].full_after <= 10_000_000_000 && refused[0].wait <= 1_000_000_000, "{refused:?}");
    }

    /// A key without an end would lock its caller out for ever, once its policy is gone.
    #[tokio::test]
    async fn every_key_ends_with_its_bucket_and_a_full_one_is_not_kept() {
        let Some(server) = Server::start() else { return };
        let counters = start(&server, Ledger::new(Instant::now()).clock());
        put(&counters, &[asked("plan", 5, 2, 2), asked("report", 9, 1, 1)]).await;
        let mut connection = counters.shared.connection.borrow().clone().unwrap();
        let keys: Vec<String> = cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        assert_eq!(keys.iter().filter(|key| key.starts_with("{bartizan:c:acme}:")).count(), 2, "{keys:?}");
        for key in &keys {
            let left: i64 = cmd("PTTL").arg(key).query_async(&mut connection).await.unwrap();
            assert!(0 < left && left <= 2 * 3_600_000 + 1_000, "{key} {left}");
            let size: u64 = cmd("MEMORY").arg("USAGE").arg(key).query_async(&mut connection).await.unwrap();
            assert!(size <= 200, "{key} {size}");
        }
        put(&counters, &[AskedLimit { need: 0, want: 0, owed: -2, ..asked("plan", 5, 0, 0) }]).await;
        let left: u64 = cmd("DBSIZE").query_async(&mut connection).await.unwrap();
        assert_eq!(left, keys.len() as u64 - 1);
    }

    /// What an answer gives is spent until it lapses, and then returned, so that others may spend it.
    #[tokio::test]
    async fn what_lapses_is_returned() {
        let Some(server) = Server::start() else { return };
        let ledger = Ledger::new(Instant::now());
        let counters = start(&server, ledger.clock());
        let account = ledger.listed("acme");
        let (plan, id) = (asked("plan", 100, 1, 20), LimitId::class("plan"));
        let answered = account.answered.notified();
        account.uses().asking = true;
        counters.ask(
            &account,
            Question { account: account.name().into(), limits: vec![plan] },
            Duration::from_secs(30),
        );
        answered.await;
        let now = ledger.tick(Instant::now());
        {
            let mut uses = account.uses();
            uses.of(id, now).block.limit = (ONE, 100);
            assert!(!uses.asking && uses.returning && uses.of(id, now).block.next == 40);
        }
        // The process ends: what is left is returned at once.
        counters.close().await;
        assert_eq!(put(&counters, &[AskedLimit { need: 0, want: 0, ..plan }]).await, [(0, 100)]);
    }
}
