//! How much every caller has used of its limits: one [`Account`] per caller, with a bucket for each limit.
//!
//! The ledger outlives policies, so a reload refills no bucket: a bucket stores only *when it will be full again*,
//! which means the same under the old rate and the new. It never decides; [`crate::stages::rate_limit`] does.

mod account;
mod limit_id;
mod used;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use self::account::Holder;
pub(crate) use self::account::{Account, InFlight, Uses};
pub(crate) use self::limit_id::LimitId;
pub(crate) use self::used::{Refused, Terms, Use, WRONG_CLOCK, alert};
use crate::exchange::ClientNetwork;
pub(crate) use crate::exchange::Tick;

/// The ledger's clock starts here, so that every moment is greater than 0.
const FIRST_TICK: u64 = 1_000_000_000;

/// The most callers known only by a token or an address that are kept; idle ones are forgotten first.
const CAPACITY: usize = 100_000;

/// The shortest time between two sweeps of a full map, in nanoseconds.
const SWEEP_EVERY: u64 = 1_000_000_000;

/// State of one limit that is decided alone: the tick at which it will be full again (GCRA's theoretical arrival time).
#[derive(Debug, Default)]
pub(crate) struct Bucket(pub(crate) AtomicU64);

impl Bucket {
    fn is_full(&self, now: Tick) -> bool {
        self.0.load(Ordering::Relaxed) <= now.0
    }
}

/// The failed attempts of one client address.
#[derive(Debug, Default)]
pub(crate) struct FailedAttempts {
    pub(crate) bucket: Bucket,
    /// Attempts that are under way.
    pub(crate) attempts: Attempts,
}

/// Attempts that are counted, but not decided yet.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// How many there are. Locked while one is counted, so that no other is counted in between.
    pub(crate) open: Mutex<usize>,
    /// Notified when one is decided.
    pub(crate) decided: Notify,
}

/// What may be forgotten while it says no more than a new one.
trait Idle {
    fn is_idle(&self, now: Tick) -> bool;
}

impl Idle for Account {
    fn is_idle(&self, now: Tick) -> bool {
        self.uses().are_idle(now)
    }
}

impl Idle for FailedAttempts {
    fn is_idle(&self, now: Tick) -> bool {
        self.bucket.is_full(now)
    }
}

/// The names of a consumer, and of a user that it acts for.
type ConsumerAndUser = (Box<str>, Box<str>);

/// Accounts by name, bounded. When all are busy, new callers share one account, so that memory is bounded and limits
/// still apply.
#[derive(Debug)]
struct Accounts<K, A> {
    known: HashMap<K, Arc<A>>,
    shared: Arc<A>,
    swept: Tick,
}

impl<K: std::hash::Hash + Eq, A: Idle> Accounts<K, A> {
    fn new(shared: A) -> Self {
        Self { known: HashMap::new(), shared: Arc::new(shared), swept: Tick(0) }
    }

    /// The account of `key`, which `make` makes if it is new.
    fn get(&mut self, key: K, make: impl FnOnce() -> A, capacity: usize, now: Tick) -> Arc<A> {
        if let Some(account) = self.known.get(&key) {
            return Arc::clone(account);
        }
        if self.known.len() >= capacity && now.0 >= self.swept.0.saturating_add(SWEEP_EVERY) {
            self.swept = now;
            // An account with another handle is in use, even if its buckets are idle.
            self.known.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_idle(now));
            if self.known.len() >= capacity {
                tracing::warn!(capacity, "so many callers are busy that new ones are counted together");
            }
        }
        if self.known.len() >= capacity {
            return Arc::clone(&self.shared);
        }
        let account = Arc::new(make());
        Arc::clone(self.known.entry(key).or_insert(account))
    }
}

/// The clock of a ledger: monotonic, from the start of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// One that starts now.
    pub(crate) fn starting(now: Instant) -> Self {
        Self(now)
    }

    /// `at` on this clock.
    pub(crate) fn tick(self, at: Instant) -> Tick {
        let since = u64::try_from(at.saturating_duration_since(self.0).as_nanos()).unwrap_or(u64::MAX / 2);
        Tick(FIRST_TICK.saturating_add(since))
    }
}

/// All accounts of this process.
#[derive(Debug)]
pub(crate) struct Ledger {
    clock: Clock,
    /// Consumers that a policy or operators have listed: bounded by those lists, and never forgotten.
    listed: Mutex<HashMap<Box<str>, Arc<Account>>>,
    /// Organizations whose consumers are counted together: bounded by the same lists.
    organizations: Mutex<HashMap<Box<str>, Arc<Account>>>,
    /// Callers known by a token alone.
    unlisted: Mutex<Accounts<Box<str>, Account>>,
    /// Users that consumers act for, by both names.
    users: Mutex<Accounts<ConsumerAndUser, Account>>,
    /// When too many users are busy, new ones of a consumer share one of these.
    crowds: Mutex<Accounts<Box<str>, Account>>,
    /// Callers of public routes.
    addresses: Mutex<Accounts<ClientNetwork, Account>>,
    /// Client addresses whose attempts failed.
    failing: Mutex<Accounts<ClientNetwork, FailedAttempts>>,
    /// After this tick no address has failed lately, so none is looked up.
    failing_until: AtomicU64,
}

impl Ledger {
    /// An empty one, whose clock starts at `started`.
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            clock: Clock::starting(started),
            listed: Mutex::default(),
            organizations: Mutex::default(),
            unlisted: Mutex::new(Accounts::new(Account::new(Holder::Unlisted, "*"))),
            users: Mutex::new(Accounts::new(Account::new(Holder::User, "*"))),
            crowds: Mutex::new(Accounts::new(Account::new(Holder::User, "*"))),
            addresses: Mutex::new(Accounts::new(Account::new(Holder::Address, "*"))),
            failing: Mutex::new(Accounts::new(FailedAttempts::default())),
            failing_until: AtomicU64::new(0),
        }
    }

    /// `at` on the ledger's clock.
    pub(crate) fn tick(&self, at: Instant) -> Tick {
        self.clock.tick(at)
    }

    /// Its clock.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// The account of a consumer that the policy lists.
    pub(crate) fn listed(&self, name: &str) -> Arc<Account> {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Account::new(Holder::Consumer, name));
        Arc::clone(listed.entry(name.into()).or_insert_with(new))
    }

    /// The account of an organization.
    pub(crate) fn organization(&self, name: &str) -> Arc<Account> {
        let mut organizations = self.organizations.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Account::new(Holder::Organization, name));
        Arc::clone(organizations.entry(name.into()).or_insert_with(new))
    }

    /// The account of a caller known by a token alone.
    pub(crate) fn unlisted(&self, name: &str, now: Tick) -> Arc<Account> {
        let new = || Account::new(Holder::Unlisted, name);
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner).get(name.into(), new, CAPACITY, now)
    }

    /// The account of a user that a consumer acts for; `user` names its issuer, too.
    pub(crate) fn user(&self, consumer: &str, user: &str, now: Tick) -> Arc<Account> {
        // The names with their lengths, so that no two pairs have the same.
        let new = || Account::new(Holder::User, &format!("{}:{consumer}:{user}", consumer.len()));
        let account = {
            let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            let account = users.get((consumer.into(), user.into()), new, CAPACITY, now);
            (!Arc::ptr_eq(&account, &users.shared)).then_some(account)
        };
        account.unwrap_or_else(|| {
            let new = || Account::new(Holder::User, &format!("{}:{consumer}:*", consumer.len()));
            self.crowds.lock().unwrap_or_else(PoisonError::into_inner).get(consumer.into(), new, CAPACITY, now)
        })
    }

    /// The account of a client address.
    pub(crate) fn address(&self, address: IpAddr, now: Tick) -> Arc<Account> {
        let network = ClientNetwork::from(address);
        let new = || Account::new(Holder::Address, &network.to_string());
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(network, new, CAPACITY, now)
    }

    /// Where failed attempts from a client address are counted. When too many addresses fail, new ones share an account
    /// that is never used to refuse a request.
    pub(crate) fn failed(&self, address: IpAddr, now: Tick) -> Arc<FailedAttempts> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.get(address.into(), FailedAttempts::default, CAPACITY, now)
    }

    /// The account of a client address, for an attempt that is not decided yet. `None` when too many addresses fail: the
    /// account they share is never used to refuse a request.
    pub(crate) fn attempting(&self, address: IpAddr, now: Tick) -> Option<Arc<FailedAttempts>> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let account = failing.get(address.into(), FailedAttempts::default, CAPACITY, now);
        (!Arc::ptr_eq(&account, &failing.shared)).then_some(account)
    }

    /// Notes that the failed attempts of some address count until then.
    pub(crate) fn note_failing(&self, until: u64) {
        self.failing_until.fetch_max(until, Ordering::Relaxed);
    }

    /// The account of a client address whose attempts failed. Takes no lock unless some address has failed lately.
    pub(crate) fn failing(&self, address: IpAddr, now: Tick) -> Option<Arc<FailedAttempts>> {
        if now.0 >= self.failing_until.load(Ordering::Relaxed) {
            return None;
        }
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).known.get(&ClientNetwork::from(address)).cloned()
    }

    /// Resets all limits, for rehearsals: every test begins with fresh limits.
    pub(crate) fn forget(&self) {
        let Self { clock: _, listed, organizations, unlisted, users, crowds, addresses, failing, failing_until } = self;
        listed.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|account| account.forget());
        organizations.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|account| account.forget());
        unlisted.lock().unwrap_or_else(PoisonError::into_inner).known.clear();
        users.lock().unwrap_or_else(PoisonError::into_inner).known.clear();
        crowds.lock().unwrap_or_else(PoisonError::into_inner).known.clear();
        addresses.lock().unwrap_or_else(PoisonError::into_inner).known.clear();
        failing.lock().unwrap_or_else(PoisonError::into_inner).known.clear();
        failing_until.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_forgets_idle_callers_and_lets_busy_newcomers_share() {
        let mut accounts = Accounts::new(Account::new(Holder::Unlisted, "*"));
        let get = |accounts: &mut Accounts<_, _>, name: &'static str, now| {
            accounts.get(name, || Account::new(Holder::Unlisted, name), 2, Tick(now))
        };
        let busy = get(&mut accounts, "busy", FIRST_TICK);
        busy.uses().of(LimitId::plan(), Tick(FIRST_TICK)).full_at = u64::MAX;
        drop(busy);
        drop(get(&mut accounts, "idle", FIRST_TICK));

        let third = get(&mut accounts, "third", FIRST_TICK + SWEEP_EVERY);
        assert!(accounts.known.contains_key("busy") && accounts.known.contains_key("third"), "idle made room");

        let fourth = get(&mut accounts, "fourth", FIRST_TICK + 2 * SWEEP_EVERY);
        let fifth = get(&mut accounts, "fifth", FIRST_TICK + 2 * SWEEP_EVERY);
        assert!(Arc::ptr_eq(&fourth, &fifth) && !Arc::ptr_eq(&third, &fourth), "newcomers share one account");
        assert_eq!(accounts.known.len(), 2);
    }

    /// A user of one consumer is none of another, and the crowd of one is not that of another.
    #[test]
    fn users_have_accounts_of_their_own() {
        let ledger = Ledger::new(Instant::now());
        let user = |consumer: &str, user: &str| ledger.user(consumer, user, Tick(FIRST_TICK));
        let alice = user("app", "corp:alice");
        assert!(Arc::ptr_eq(&alice, &user("app", "corp:alice")));
        for (consumer, name) in
            [("app", "corp:bob"), ("web", "corp:alice"), ("app", "partner:alice"), ("app:corp", "alice")]
        {
            let other = user(consumer, name);
            assert!(!Arc::ptr_eq(&alice, &other) && alice.name() != other.name(), "{consumer} {name}");
        }
        let mut users = Accounts::new(Account::new(Holder::User, "*"));
        std::mem::swap(&mut *ledger.users.lock().unwrap(), &mut users);
        let mut held = Vec::new();
        for number in 0..CAPACITY {
            held.push(user("app", &number.to_string()));
        }
        let crowd = user("app", "one too many");
        assert!(Arc::ptr_eq(&crowd, &user("app", "another")) && !Arc::ptr_eq(&crowd, &user("web", "another")));
    }

    #[test]
    fn an_ipv6_subscriber_has_one_account() {
        let ledger = Ledger::new(Instant::now());
        let now = Tick(FIRST_TICK);
        let one = ledger.address("2001:db8:1:2::1".parse().unwrap(), now);
        let same = ledger.address("2001:db8:1:2:ffff::9".parse().unwrap(), now);
        let other = ledger.address("2001:db8:1:3::1".parse().unwrap(), now);
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn limits_and_listed_accounts_stay_the_same() {
        let limits = [
            LimitId::route("orders", "GET /a"),
            LimitId::route("orders", "GET /b"),
            LimitId::route("order", "sGET /a"),
            LimitId::class("reports"),
            LimitId::class("orders"),
            LimitId::plan(),
        ];
        for (one, limit) in limits.iter().enumerate() {
            assert_eq!(limits.iter().position(|other| other == limit), Some(one), "no two limits share a bucket");
        }
        assert_eq!(limits[0], LimitId::route("orders", "GET /a"));
        let ledger = Ledger::new(Instant::now());
        assert!(Arc::ptr_eq(&ledger.listed("acme"), &ledger.listed("acme")));
    }
}
