//! Limits that are counted in a store: in Redis, which many nodes share, or quotas in a folder of this machine.
//!
//! A node takes a block of a caller's allowance in advance and spends it without asking (`Block` of `state::ledger`).
//! So no more is let through in all than the limit allows, and most requests wait for nothing. What is not needed is
//! returned soon; what a node has spent while the store was away is counted when it is back.
//!
//! - `question`: what is asked, and the script that decides it; `shared`: how it is put, and what is made of the answer;
//! - `redis_counts`, `folder`: the stores; `breaker`: when one is given up; `returning`: what is reported to it later.

mod breaker;
mod folder;
mod no_answer;
mod question;
mod redis_counts;
mod returning;
mod shared;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

use self::folder::FolderCounts;
pub(crate) use self::question::{AskedLimit, Given, Question};
use self::redis_counts::RedisCounts;
use self::shared::{CountStore, Shared};
use super::ledger::{Account, Clock};
use super::redis::{Client, StoreDeadlines};

/// How long an operator waits for an answer.
const OPERATOR: Duration = Duration::from_secs(3);

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
    /// Starts to count in Redis, whether or not it can be reached now. Must be called within the runtime that outlives
    /// requests.
    pub(crate) fn in_redis(client: Client, prefix: &str, deadlines: StoreDeadlines, clock: Clock) -> Self {
        Self::start(CountStore::Redis(RedisCounts::new(client, prefix, deadlines)), clock)
    }

    /// Starts to count quotas in a folder of this machine, which exists. The error says why that is not possible. Blocks
    /// briefly; must be called like [`Self::in_redis`].
    pub(crate) fn in_folder(folder: &Path, clock: Clock) -> Result<Self, String> {
        Ok(Self::start(CountStore::Folder(FolderCounts::open(folder)?), clock))
    }

    fn start(store: CountStore, clock: Clock) -> Self {
        let shared = Arc::new(Shared::new(store, clock));
        let (keeping, returning) = (Arc::clone(&shared), Arc::clone(&shared));
        let tasks = [
            tokio::spawn(async move { keeping.keep().await }),
            tokio::spawn(async move { returning.keep_returning().await }),
        ];
        Self { shared, tasks }
    }

    /// Whether rates are counted in the store, too, because other nodes count in it.
    pub(crate) fn count_rates(&self) -> bool {
        matches!(self.shared.store, CountStore::Redis(_))
    }

    /// Whether the store answers, as far as is known: if not, it need not be asked.
    pub(crate) fn is_available(&self) -> bool {
        !self.shared.breaker.is_open()
    }

    /// Waits until it is connected.
    pub(crate) fn connected(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            match &shared.store {
                CountStore::Redis(redis) => redis.connected().await,
                CountStore::Folder(_) => {}
            }
        }
    }

    /// How many nodes count in this store, this one included.
    pub(crate) fn nodes(&self) -> u32 {
        match &self.shared.store {
            CountStore::Redis(redis) => redis.nodes(),
            CountStore::Folder(_) => 1,
        }
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

    /// Asks a question about an account that is marked as asking, and applies the answer to it. Those that wait for it are
    /// notified.
    pub(crate) fn ask(&self, account: &Arc<Account>, question: Question, timeout: Duration) {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        self.shared.timeout.store(timeout, Ordering::Relaxed);
        self.shared.runtime.spawn(Arc::clone(&self.shared).put(Arc::clone(account), question));
    }

    /// Tells this store from others of this process; later ones are higher.
    pub(crate) fn id(&self) -> u64 {
        self.shared.id()
    }

    /// Notes that the policy in force counts here, and no longer in another store, be that a former or a later one.
    pub(crate) fn take_over(&self) {
        self.shared.take_over();
    }

    /// Tells the store later what an account has spent without it.
    pub(crate) fn tell_later(&self, account: &Arc<Account>) {
        self.shared.return_later(account);
    }

    /// Asks what is left of limits of a caller, for an operator. The error says why the store does not answer.
    pub(crate) async fn look(&self, question: &Question) -> Result<Vec<Given>, String> {
        self.look_within(OPERATOR, question).await
    }

    /// The same, for somebody who waits no longer than this.
    pub(crate) async fn look_within(&self, most: Duration, question: &Question) -> Result<Vec<Given>, String> {
        let answer = tokio::time::timeout(most, self.shared.answer(question)).await;
        answer.map_err(|_| "it does not answer in time".to_owned())?.map_err(|error| error.why)
    }

    /// Resets these limits of a caller, for an operator. The error says why the store does not answer.
    pub(crate) async fn reset(&self, question: &Question) -> Result<(), String> {
        let done = async {
            match &self.shared.store {
                CountStore::Redis(redis) => redis.reset(question).await,
                CountStore::Folder(folder) => folder.reset(question).await,
            }
        };
        let done = tokio::time::timeout(OPERATOR, done).await;
        done.map_err(|_| "it does not answer in time".to_owned())?.map_err(|error| error.why)
    }

    /// Returns all blocks, at the end of the process.
    pub(crate) async fn close(&self) {
        self.shared.return_all().await;
        if let CountStore::Redis(redis) = &self.shared.store {
            redis.leave().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Instant;

    use jiff::Timestamp;
    use redis::cmd;

    use super::*;
    use crate::state::ledger::{Ledger, LimitId, Terms};
    use crate::state::redis::Connection;
    use crate::state::redis::server::Server;

    /// An hour: nothing is refilled while a test runs.
    const ONE: u64 = 3_600_000_000_000;
    const DAY: u32 = 86_400;

    fn start(server: &Server) -> Counters {
        let client = Client::new(&server.servers()).unwrap();
        let clock = Ledger::new(Instant::now()).clock();
        Counters::in_redis(client, "bartizan", StoreDeadlines(Duration::from_secs(30)), clock)
    }

    fn asked(name: &str, burst: u32, need: u32, want: u32) -> AskedLimit {
        let terms = Terms::Rate { one: ONE, burst };
        AskedLimit { id: LimitId::class(name), terms, need, want, worth: 1, owed: 0, since: 0 }
    }

    async fn connection(server: &Server) -> Connection {
        let client = Client::new(&server.servers()).unwrap();
        let patience = Duration::from_secs(30);
        StoreDeadlines(patience).connect(&client, patience).await.unwrap()
    }

    async fn put(counters: &Counters, limits: &[AskedLimit]) -> Vec<(u32, u32)> {
        let question = Question { account: "c:acme".into(), limits: limits.to_vec() };
        let given = counters.look(&question).await.unwrap();
        given.iter().map(|given| (given.tokens, given.left)).collect()
    }

    #[tokio::test]
    async fn all_limits_are_decided_before_anything_is_taken_from_one() {
        let Some(server) = Server::start() else { return };
        let counters = start(&server);
        let (plan, report) = (asked("plan", 100, 1, 1), asked("report", 2, 1, 1));
        assert_eq!(put(&counters, &[plan, report]).await, [(1, 99), (1, 1)]);
        assert_eq!(put(&counters, &[plan, report]).await, [(1, 98), (1, 0)]);
        assert_eq!(put(&counters, &[plan, report]).await, [(0, 98), (0, 0)], "refused by one");
        assert_eq!(put(&counters, &[plan]).await, [(1, 97)]);
    }

    #[tokio::test]
    async fn blocks_shrink_as_the_allowance_runs_out_and_what_is_returned_counts_again() {
        let Some(server) = Server::start() else { return };
        let counters = start(&server);
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
        let counters = start(&server);
        let terms = Terms::Rate { one: 1_000_000_000, burst: 10 };
        let (slow, fast) = (asked("plan", 5, 5, 5), AskedLimit { terms, ..asked("plan", 10, 1, 1) });
        assert_eq!(put(&counters, &[slow]).await, [(5, 0)]);
        assert_eq!(put(&counters, &[AskedLimit { need: 10, want: 10, ..fast }]).await, [(0, 0)]);
        let question = Question { account: "c:acme".into(), limits: vec![fast] };
        let refused = counters.look(&question).await.unwrap();
        assert!(refused[0].full_after <= 10_000_000_000 && refused[0].wait <= 1_000_000_000, "{refused:?}");
    }

    /// A key without an end would lock its caller out for ever, once its policy is gone.
    #[tokio::test]
    async fn every_key_ends_with_its_bucket_and_a_full_one_is_not_kept() {
        let Some(server) = Server::start() else { return };
        let counters = start(&server);
        put(&counters, &[asked("plan", 5, 2, 2), asked("report", 9, 1, 1)]).await;
        put(&counters, &[quota(u32::MAX, 60, 1, u32::MAX)]).await;
        let mut connection = connection(&server).await;
        let keys: Vec<String> = cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        assert_eq!(keys.iter().filter(|key| key.starts_with("{bartizan:c:acme}:")).count(), 3, "{keys:?}");
        for key in &keys {
            let left: i64 = cmd("PTTL").arg(key).query_async(&mut connection).await.unwrap();
            assert!(0 < left && left <= 86_400_000 + 3_600_000, "{key} {left}");
            let size: u64 = cmd("MEMORY").arg("USAGE").arg(key).query_async(&mut connection).await.unwrap();
            assert!(size <= 200, "{key} {size}");
        }
        put(&counters, &[AskedLimit { need: 0, want: 0, owed: -2, ..asked("plan", 5, 0, 0) }]).await;
        let left: u64 = cmd("DBSIZE").query_async(&mut connection).await.unwrap();
        assert_eq!(left, keys.len() as u64 - 1);
    }

    /// A quota in the window that began so many seconds before the tests, and ends a day later: every call means the same window.
    fn quota(count: u32, ago: u32, need: u32, want: u32) -> AskedLimit {
        static BEGUN: LazyLock<u32> = LazyLock::new(|| u32::try_from(Timestamp::now().as_second()).unwrap());
        let since = *BEGUN - ago;
        let terms = Terms::Quota { count, since, ends: since + DAY };
        AskedLimit { id: LimitId::quota(None, "day"), terms, need, want, worth: 1, owed: 0, since: 0 }
    }

    fn told(quota: AskedLimit, owed: i64, since: u32) -> AskedLimit {
        AskedLimit { need: 0, want: 0, owed, since, ..quota }
    }

    async fn ask(counters: &Counters, account: &str, asked: AskedLimit) -> Given {
        counters.look(&Question { account: account.into(), limits: vec![asked] }).await.unwrap()[0]
    }

    /// Redis and a folder count quotas alike.
    async fn in_both(test: impl AsyncFn(&Counters)) {
        let folder = tempfile::tempdir().unwrap();
        test(&Counters::in_folder(folder.path(), Ledger::new(Instant::now()).clock()).unwrap()).await;
        if let Some(server) = Server::start() {
            test(&start(&server)).await;
        }
    }

    #[tokio::test]
    async fn a_quota_is_given_in_blocks_that_shrink_and_to_the_last_one() {
        in_both(async |counters| {
            let (asks, mut given) = (quota(20, 60, 1, 8), Vec::new());
            for _ in 0..14 {
                let answer = ask(counters, "c:acme", asks).await;
                given.push((answer.tokens, answer.alert));
            }
            let shares = [(5, 0), (3, 0), (3, 0), (2, 0), (1, 0), (1, 0), (1, 80), (1, 0), (1, 0), (1, 0), (1, 100)];
            assert_eq!(given, [&shares[..], &[(0, 0); 3]].concat());
            let refused = ask(counters, "c:acme", asks).await;
            let left = u64::from(DAY - 60) * 1_000_000_000;
            assert!(refused.wait <= left && refused.wait > left - 600_000_000_000, "{refused:?}");
            assert_eq!(ask(counters, "c:globex", asks).await.tokens, 5);
        })
        .await;
    }

    #[tokio::test]
    async fn a_quota_begins_anew_with_its_window_and_never_goes_back() {
        in_both(async |counters| {
            let yesterday = quota(10, DAY + 60, 10, 10);
            assert_eq!(ask(counters, "c:acme", yesterday).await.tokens, 10);
            assert_eq!(ask(counters, "c:acme", AskedLimit { need: 1, want: 1, ..yesterday }).await.tokens, 0);
            let today = ask(counters, "c:acme", quota(10, 60, 4, 4)).await;
            assert_eq!((today.tokens, today.left), (4, 6));
            // What was given yesterday, or spent, is returned in vain.
            let Terms::Quota { since, .. } = yesterday.terms else { unreachable!() };
            for owed in [-10, 3] {
                assert_eq!(ask(counters, "c:acme", told(quota(10, 60, 0, 0), owed, since)).await.left, 6);
            }
            // A node whose clock is slow counts in today's window.
            let slow = ask(counters, "c:acme", AskedLimit { need: 1, want: 1, ..yesterday }).await;
            assert_eq!((slow.tokens, slow.left, slow.since), (1, 5, today.since));
            // What is returned of today counts again, and what was spent in an outage is counted.
            assert_eq!(ask(counters, "c:acme", told(quota(10, 60, 0, 0), -2, today.since)).await.left, 7);
            assert_eq!(ask(counters, "c:acme", told(quota(10, 60, 0, 0), 50, today.since)).await.left, 0);
        })
        .await;
    }

    #[tokio::test]
    async fn a_raised_quota_holds_at_once_and_a_lowered_one_until_its_window_ends() {
        in_both(async |counters| {
            assert_eq!(ask(counters, "c:acme", quota(10, 60, 10, 10)).await.tokens, 10);
            assert_eq!(ask(counters, "c:acme", quota(12, 60, 2, 2)).await.tokens, 2);
            assert_eq!(ask(counters, "c:acme", quota(5, 60, 1, 1)).await.tokens, 0);
            assert_eq!(ask(counters, "c:acme", quota(13, 60, 1, 1)).await.tokens, 1);
        })
        .await;
    }

    #[tokio::test]
    async fn a_reset_gives_the_whole_quota_and_not_what_was_taken_before() {
        in_both(async |counters| {
            let before = ask(counters, "c:acme", quota(10, 60, 10, 10)).await;
            let question = Question { account: "c:acme".into(), limits: vec![quota(10, 60, 0, 0)] };
            counters.reset(&question).await.unwrap();
            let after = ask(counters, "c:acme", quota(10, 60, 4, 4)).await;
            assert_eq!((after.tokens, after.left), (4, 6));
            assert!(after.since > before.since);
            let returned = ask(counters, "c:acme", told(quota(10, 60, 0, 0), -5, before.since)).await;
            assert_eq!(returned.left, 6);
        })
        .await;
    }

    /// A clock that is far ahead would freeze the quota of everybody; one that was set back refills nobody.
    #[tokio::test]
    async fn a_window_of_the_future_is_not_begun_and_not_kept() {
        let Some(server) = Server::start() else { return };
        let (redis, ahead) = (start(&server), Question { account: "c:acme".into(), limits: vec![quota_ahead(3600)] });
        let error = redis.look(&ahead).await.unwrap_err();
        assert!(error.contains("more than a minute ahead"), "{error}");
        in_both(async |counters| {
            let today = ask(counters, "c:acme", quota(10, 60, 10, 10)).await;
            assert_eq!(today.tokens, 10);
            assert_eq!(
                ask(counters, "c:acme", AskedLimit { need: 1, want: 1, ..quota(10, DAY, 1, 1) }).await.tokens,
                0
            );
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let counters = Counters::in_folder(folder.path(), Ledger::new(Instant::now()).clock()).unwrap();
        let wrong = counters.look(&Question { limits: vec![quota_ahead(400 * DAY)], ..ahead }).await.unwrap();
        assert_eq!(wrong[0].tokens, 10);
        assert_eq!(ask(&counters, "c:acme", quota(10, 60, 3, 3)).await.tokens, 3);
    }

    fn quota_ahead(seconds: u32) -> AskedLimit {
        let since = u32::try_from(Timestamp::now().as_second()).unwrap() + seconds;
        AskedLimit { terms: Terms::Quota { count: 10, since, ends: since + DAY }, ..quota(10, 0, 10, 10) }
    }

    /// Who looks takes nothing, and no alert from the one that it is for.
    #[tokio::test]
    async fn who_looks_changes_nothing() {
        in_both(async |counters| {
            assert_eq!(ask(counters, "c:acme", quota(10, 60, 7, 7)).await.alert, 0);
            let terms = quota(8, 60, 0, 0).terms;
            let looks = ask(counters, "c:acme", AskedLimit::look(LimitId::quota(None, "day"), terms)).await;
            assert_eq!((looks.left, looks.tokens, looks.alert), (1, 0, 0));
            assert_eq!(ask(counters, "c:acme", quota(8, 60, 1, 1)).await.alert, 100);
            let unknown = AskedLimit::look(LimitId::quota(None, "day"), terms);
            assert_eq!(ask(counters, "c:globex", unknown).await.left, 8);
        })
        .await;
    }

    /// What the store was told in an answer that came too late is not spent again meanwhile, and alerts are not lost.
    #[tokio::test]
    async fn a_late_answer_is_learnt() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(Instant::now());
        let counters = Counters::in_folder(folder.path(), ledger.clock()).unwrap();
        let (account, id) = (ledger.listed("acme"), LimitId::quota(None, "day"));
        let asks = quota(100, 60, 0, 0);
        let Terms::Quota { since, .. } = asks.terms else { unreachable!() };
        let question =
            |owed| Question { account: account.name().into(), limits: vec![AskedLimit { owed, since, ..asks }] };
        let now = ledger.tick(Instant::now());
        {
            let mut uses = account.uses();
            uses.belong_to(counters.id());
            uses.of(id, now).block.owed = 90;
            assert_eq!((uses.of(id, now).take_owed(asks.terms, now), uses.of(id, now).block.telling), (90, 90));
        }
        // The question has no answer in time; then it has one.
        counters.shared.learn(&account, &question(90), None);
        assert_eq!(account.uses().of(id, now).block.owed, 90);
        let given = counters.look(&question(90)).await.unwrap();
        counters.shared.learn_late(&account, &question(90), &given);
        {
            let mut uses = account.uses();
            let used = uses.of(id, now);
            assert_eq!((used.used, used.block.owed, used.block.telling, used.alert), (90, 0, 0, 80));
        }
        // One of yesterday changes nothing of today.
        let yesterday = Given { since: since - DAY, tokens: 5, ..given[0] };
        counters.shared.learn_late(&account, &question(0), &[yesterday]);
        assert_eq!(account.uses().of(id, now).block.owed, 0);
    }

    /// A process that is killed, or starts anew, refills nobody.
    #[tokio::test]
    async fn a_folder_keeps_what_was_used() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Counters::in_folder(folder.path(), Ledger::new(Instant::now()).clock());
        let asks = quota(10, 60, 3, 3);
        for left in [7, 4, 1] {
            let counters = open().unwrap();
            assert_eq!(ask(&counters, "c:acme", asks).await.left, left);
            assert!(open().err().unwrap().contains("in use by another process"));
            let shared = Arc::downgrade(&counters.shared);
            drop(counters);
            // The tasks end, and then the file is closed.
            while shared.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(ask(&open().unwrap(), "c:acme", asks).await.tokens, 0);
    }

    #[test]
    fn a_folder_whose_file_is_damaged_is_not_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("counts.redb"), [7; 5000]).unwrap();
        let error = Counters::in_folder(folder.path(), Ledger::new(Instant::now()).clock()).err().unwrap();
        assert!(error.contains("counts.redb"), "{error}");
    }

    /// What an answer gives is spent until it lapses, and then returned, so that others may spend it.
    #[tokio::test]
    async fn what_lapses_is_returned() {
        let Some(server) = Server::start() else { return };
        let ledger = Ledger::new(Instant::now());
        let client = Client::new(&server.servers()).unwrap();
        let patience = StoreDeadlines(Duration::from_secs(30));
        let counters = Counters::in_redis(client, "bartizan", patience, ledger.clock());
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
