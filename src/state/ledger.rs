//! How much every caller has used of its limits: one [`Account`] per caller, with a bucket for each limit.
//!
//! The ledger outlives policies, so a reload refills no bucket: a bucket stores only *when it will be full again*,
//! which means the same under the old rate and the new. It never decides; [`crate::stages::rate_limit`] does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::Notify;

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

/// Identifies a limit of a caller: the rate of its plan, of a route, or of a class of endpoints.
///
/// A digest of its name, so that it is the same in every policy and on every node, and compiling needs no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitId([u8; 16]);

impl LimitId {
    /// The rate of a plan. Without its name: who changes to another plan has used as much of that one.
    pub(crate) fn plan() -> Self {
        Self::of(&["plan"])
    }

    /// The rate of a route.
    pub(crate) fn route(api: &str, route: &str) -> Self {
        Self::of(&["route", api, route])
    }

    /// The rate of a class of endpoints.
    pub(crate) fn class(name: &str) -> Self {
        Self::of(&["class", name])
    }

    fn of(parts: &[&str]) -> Self {
        let mut hash = Context::new(&SHA256);
        for part in parts {
            // Each part with its length, so that no two lists of parts are the same bytes.
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.finish().as_ref().first_chunk().copied().unwrap_or_default())
    }
}

/// What one caller has used of its limits.
#[derive(Debug, Default)]
pub(crate) struct Account(Mutex<Uses>);

/// What has been used, by limit.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// The tick at which each bucket will be full again. Few, so a list is faster than a map.
    buckets: Vec<(LimitId, u64)>,
    /// Requests that are under way.
    pub(crate) in_flight: u32,
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Account>);

impl InFlight {
    /// Counts a request whose account is locked.
    pub(crate) fn begin(account: &Arc<Account>, uses: &mut Uses) -> Self {
        uses.in_flight = uses.in_flight.saturating_add(1);
        Self(Arc::clone(account))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut uses = self.0.uses();
        uses.in_flight = uses.in_flight.saturating_sub(1);
    }
}

impl Account {
    /// Locks the account for one decision, so that a request takes from all of its limits or from none.
    pub(crate) fn uses(&self) -> MutexGuard<'_, Uses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resets all buckets to full.
    fn forget(&self) {
        self.uses().buckets.clear();
    }
}

impl Uses {
    /// The tick at which the bucket of a limit will be full; 0: it has not been used.
    pub(crate) fn full_at(&self, limit: LimitId) -> u64 {
        self.buckets.iter().find(|(known, _)| *known == limit).map_or(0, |(_, full_at)| *full_at)
    }

    /// Stores when the bucket of a limit will be full.
    pub(crate) fn set(&mut self, limit: LimitId, full_at: u64, now: Tick) {
        if let Some((_, known)) = self.buckets.iter_mut().find(|(known, _)| *known == limit) {
            *known = full_at;
            return;
        }
        // A full bucket says no more than none, and limits of former policies would stay for ever.
        self.buckets.retain(|(_, full_at)| *full_at > now.0);
        self.buckets.push((limit, full_at));
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
trait Idle: Default {
    fn is_idle(&self, now: Tick) -> bool;
}

impl Idle for Account {
    fn is_idle(&self, now: Tick) -> bool {
        self.uses().buckets.iter().all(|(_, full_at)| *full_at <= now.0)
    }
}

impl Idle for FailedAttempts {
    fn is_idle(&self, now: Tick) -> bool {
        self.bucket.is_full(now)
    }
}

/// Accounts by name, bounded. When all are busy, new callers share one account, so that memory is bounded and limits
/// still apply.
#[derive(Debug)]
struct Accounts<K, A> {
    known: HashMap<K, Arc<A>>,
    shared: Arc<A>,
    swept: Tick,
}

impl<K: std::hash::Hash + Eq, A: Idle> Accounts<K, A> {
    fn new() -> Self {
        Self { known: HashMap::new(), shared: Arc::default(), swept: Tick(0) }
    }

    fn get(&mut self, key: K, capacity: usize, now: Tick) -> Arc<A> {
        if let Some(account) = self.known.get(&key) {
            return Arc::clone(account);
        }
        if self.known.len() >= capacity && now.0 >= self.swept.0.saturating_add(SWEEP_EVERY) {
            self.swept = now;
            // An account with another handle is in use, even if its buckets are idle.
            self.known.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_idle(now));
        }
        if self.known.len() >= capacity {
            return Arc::clone(&self.shared);
        }
        Arc::clone(self.known.entry(key).or_default())
    }
}

/// All accounts of this process.
#[derive(Debug)]
pub(crate) struct Ledger {
    started: Instant,
    /// Consumers that a policy or operators have listed: bounded by those lists, and never forgotten.
    listed: Mutex<HashMap<Box<str>, Arc<Account>>>,
    /// Organizations whose consumers are counted together: bounded by the same lists.
    organizations: Mutex<HashMap<Box<str>, Arc<Account>>>,
    /// Callers known by a token alone.
    unlisted: Mutex<Accounts<Box<str>, Account>>,
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
            started,
            listed: Mutex::default(),
            organizations: Mutex::default(),
            unlisted: Mutex::new(Accounts::new()),
            addresses: Mutex::new(Accounts::new()),
            failing: Mutex::new(Accounts::new()),
            failing_until: AtomicU64::new(0),
        }
    }

    /// `at` on the ledger's clock.
    pub(crate) fn tick(&self, at: Instant) -> Tick {
        let since = u64::try_from(at.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX / 2);
        Tick(FIRST_TICK.saturating_add(since))
    }

    /// The account of a consumer that the policy lists.
    pub(crate) fn listed(&self, name: &str) -> Arc<Account> {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(listed.entry(name.into()).or_default())
    }

    /// The account of an organization.
    pub(crate) fn organization(&self, name: &str) -> Arc<Account> {
        let mut organizations = self.organizations.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(organizations.entry(name.into()).or_default())
    }

    /// The account of a caller known by a token alone.
    pub(crate) fn unlisted(&self, name: &str, now: Tick) -> Arc<Account> {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner).get(name.into(), CAPACITY, now)
    }

    /// The account of a client address.
    pub(crate) fn address(&self, address: IpAddr, now: Tick) -> Arc<Account> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(address.into(), CAPACITY, now)
    }

    /// Where failed attempts from a client address are counted. When too many addresses fail, new ones share an account
    /// that is never used to refuse a request.
    pub(crate) fn failed(&self, address: IpAddr, now: Tick) -> Arc<FailedAttempts> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).get(address.into(), CAPACITY, now)
    }

    /// The account of a client address, for an attempt that is not decided yet. `None` when too many addresses fail: the
    /// account they share is never used to refuse a request.
    pub(crate) fn attempting(&self, address: IpAddr, now: Tick) -> Option<Arc<FailedAttempts>> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let account = failing.get(address.into(), CAPACITY, now);
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
        let Self { started: _, listed, organizations, unlisted, addresses, failing, failing_until } = self;
        listed.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|account| account.forget());
        organizations.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|account| account.forget());
        unlisted.lock().unwrap_or_else(PoisonError::into_inner).known.clear();
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
        let mut accounts = Accounts::<_, Account>::new();
        let busy = accounts.get("busy", 2, Tick(FIRST_TICK));
        busy.uses().set(LimitId::plan(), u64::MAX, Tick(FIRST_TICK));
        drop(busy);
        drop(accounts.get("idle", 2, Tick(FIRST_TICK)));

        let third = accounts.get("third", 2, Tick(FIRST_TICK + SWEEP_EVERY));
        assert!(accounts.known.contains_key("busy") && accounts.known.contains_key("third"), "idle made room");

        let fourth = accounts.get("fourth", 2, Tick(FIRST_TICK + 2 * SWEEP_EVERY));
        let fifth = accounts.get("fifth", 2, Tick(FIRST_TICK + 2 * SWEEP_EVERY));
        assert!(Arc::ptr_eq(&fourth, &fifth) && !Arc::ptr_eq(&third, &fourth), "newcomers share one account");
        assert_eq!(accounts.known.len(), 2);
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

    #[test]
    fn an_account_keeps_no_bucket_of_a_former_limit_once_it_is_full() {
        let (account, now, later) = (Account::default(), Tick(FIRST_TICK), Tick(FIRST_TICK + 10));
        let [used, idle, new] = ["used", "idle", "new"].map(LimitId::class);
        let mut uses = account.uses();
        uses.set(used, later.0, now);
        uses.set(idle, now.0, now);
        uses.set(new, later.0 + 1, now);
        assert_eq!((uses.buckets.len(), uses.full_at(used), uses.full_at(idle)), (2, later.0, 0));
        uses.set(idle, later.0 + 1, later);
        assert_eq!((uses.buckets.len(), uses.full_at(used), uses.full_at(new)), (2, 0, later.0 + 1));
    }
}
