//! The limits that nodes count together, in Redis.
//!
//! A node takes a block of a caller's allowance in advance and spends it without asking (`Block` of `state::ledger`).
//! So no more is let through in all than the limit allows, and most requests wait for nothing. What is not needed is
//! returned soon; what a node has spent while the store was away is counted when it is back.
//!
//! - `question`: what is asked, and the script that decides it; `shared`: how it is put, and what is made of the answer;
//! - `breaker`: when the store is given up; `keeping`: the connection; `returning`: what is told to the store later.

mod breaker;
mod keeping;
mod question;
mod returning;
mod shared;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Script, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::breaker::Breaker;
use self::question::SCRIPT;
pub(crate) use self::question::{AskedLimit, Question};
use self::shared::Shared;
use super::ledger::{Account, Clock};
use super::redis::{Client, StoreDeadlines};

/// How long a request waits for an answer before a policy has said so, in nanoseconds.
const FIRST_TIMEOUT: u64 = 25_000_000;

/// The counters in a store. Dropping it stops its tasks.
pub(crate) struct Counters {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
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
        static STORES: AtomicU64 = AtomicU64::new(1);
        let shared = Arc::new(Shared {
            id: STORES.fetch_add(1, Ordering::Relaxed),
            client,
            prefix: prefix.into(),
            digest: Script::new(SCRIPT).get_hash().to_owned(),
            deadlines,
            clock,
            runtime: Handle::current(),
            connection: watch::Sender::new(None),
            broken: Notify::new(),
            breaker: Breaker::default(),
            timeout: AtomicU64::new(FIRST_TIMEOUT),
            warned: AtomicBool::new(false),
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
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        self.shared.timeout.store(timeout, Ordering::Relaxed);
        self.shared.runtime.spawn(Arc::clone(&self.shared).put(Arc::clone(account), question));
    }

    /// Tells this store from others of this process.
    pub(crate) fn id(&self) -> u64 {
        self.shared.id
    }

    /// Tells the store later what an account has spent without it.
    pub(crate) fn tell_later(&self, account: &Arc<Account>) {
        self.shared.return_later(account);
    }

    /// Returns all blocks, at the end of the process.
    pub(crate) async fn close(&self) {
        self.shared.return_all().await;
        let mut connection = self.shared.connection.borrow().clone();
        if let Some(connection) = &mut connection {
            let mut remove = cmd("ZREM");
            remove.arg(self.shared.nodes_key()).arg(&self.shared.node);
            // Nobody misses it for longer than it takes to be counted as gone.
            let _ = remove.query_async::<Value>(connection).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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
        let given = Arc::clone(&counters.shared).answer(question).await.unwrap();
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
        let refused = Arc::clone(&counters.shared).answer(question).await.unwrap();
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
        {
            let mut uses = account.uses();
            uses.belong_to(counters.id());
            uses.asking = true;
        }
        counters.ask(
            &account,
            Question { account: account.name().into(), limits: vec![plan] },
            Duration::from_secs(30),
        );
        answered.await;
        let now = ledger.tick(Instant::now());
        {
            let mut uses = account.uses();
            assert!(!uses.asking && uses.returning && uses.of(id, now).block.next == 40);
        }
        // The process ends: what is left is returned at once.
        counters.close().await;
        assert_eq!(put(&counters, &[AskedLimit { need: 0, want: 0, ..plan }]).await, [(0, 100)]);
    }
}
