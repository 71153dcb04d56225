//! What one caller has used of its limits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::limit_id::{LimitId, digest};
use super::used::Use;
use crate::exchange::Tick;

/// Longest name of a caller that is part of a store's key as it is.
const LONGEST_NAME: usize = 64;

/// What kind of caller has an account: names of different kinds may be the same.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holder {
    Consumer,
    Organization,
    Unlisted,
    /// A user that a consumer acts for.
    User,
    Address,
}

/// What one caller has used of its limits.
#[derive(Debug)]
pub(crate) struct Account {
    /// Its name in a store that nodes share.
    name: Box<str>,
    uses: Mutex<Uses>,
    /// Notified when the store has answered.
    pub(crate) answered: Notify,
}

/// What has been used, by limit.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// Few, so a list is faster than a map.
    limits: Vec<Use>,
    /// Requests that are under way.
    pub(crate) in_flight: u32,
    /// Requests that wait for the store's answer.
    pub(crate) waiting: u32,
    /// Whether the store is being asked.
    pub(crate) asking: bool,
    /// The store that was asked last, among those of this process.
    store: u64,
    /// Whether what is left of blocks will be returned to the store in time.
    pub(crate) returning: bool,
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
    pub(super) fn new(holder: Holder, name: &str) -> Self {
        let kind = match holder {
            Holder::Consumer => 'c',
            Holder::Organization => 'o',
            Holder::Unlisted => 'u',
            Holder::User => 'p',
            Holder::Address => 'a',
        };
        // Callers choose some of these names: none may end the part of a key that a cluster looks at, or be a long one.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:@/*".contains(&byte);
        let name = if name.len() <= LONGEST_NAME && name.bytes().all(is_plain) {
            format!("{kind}:{name}")
        } else {
            let digits: Vec<String> = digest(&[name]).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{kind}#{}", digits.concat())
        };
        Self { name: name.into(), uses: Mutex::default(), answered: Notify::new() }
    }

    /// Its name in a store that nodes share: short, and without braces.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Locks the account for one decision, so that a request takes from all of its limits or from none.
    pub(crate) fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resets all buckets to full.
    pub(super) fn forget(&self) {
        self.uses().limits.clear();
    }
}

impl Uses {
    /// What has been used of a limit.
    pub(crate) fn of(&mut self, id: LimitId, now: Tick) -> &mut Use {
        let known = self.limits.iter().position(|known| known.id() == id);
        let position = known.unwrap_or_else(|| {
            // A full bucket says no more than none, and limits of former policies would stay for ever. Those that are asked
            // about stay.
            self.limits.retain(|used| self.asking || !used.is_idle(now));
            self.limits.push(Use::new(id));
            self.limits.len() - 1
        });
        &mut self.limits[position]
    }

    /// Forgets what a former store knows and has given: this one has counted from the beginning. Returns false, with nothing
    /// changed, if a later store has taken over: requests of the policy before would take the account back and forth.
    pub(crate) fn belong_to(&mut self, store: u64) -> bool {
        if self.store < store {
            (self.store, self.asking, self.returning) = (store, false, false);
            self.limits.iter_mut().for_each(Use::belong_to_another_store);
        }
        self.store == store
    }

    /// Whether this store was asked last.
    pub(crate) fn belongs_to(&self, store: u64) -> bool {
        self.store == store
    }

    /// Forgets what has been used of some limits.
    pub(crate) fn forget(&mut self, limits: &[LimitId]) {
        self.limits.retain(|used| !limits.contains(&used.id()));
    }

    /// All limits of which something has been used.
    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Use> {
        self.limits.iter_mut()
    }

    /// Whether it says no more than that of a caller who never called.
    pub(super) fn are_idle(&self, now: Tick) -> bool {
        self.limits.iter().all(|used| used.may_be_forgotten(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick(1_000_000_000);

    #[test]
    fn an_account_keeps_no_bucket_of_a_former_limit_once_it_is_full() {
        let (account, later) = (Account::new(Holder::Consumer, "acme"), Tick(NOW.0 + 10));
        let [used, idle, new] = ["used", "idle", "new"].map(LimitId::class);
        let mut uses = account.uses();
        uses.of(used, NOW).full_at = later.0;
        uses.of(idle, NOW).full_at = NOW.0;
        uses.of(new, NOW).full_at = later.0 + 1;
        assert_eq!((uses.limits.len(), uses.of(used, NOW).full_at), (2, later.0));
        uses.of(idle, later).full_at = later.0 + 1;
        assert_eq!((uses.limits.len(), uses.of(new, later).full_at), (2, later.0 + 1));
        uses.of(new, later).block.owed = -1;
        uses.of(used, later).block.owed = 1;
        uses.of(LimitId::class("other"), Tick(later.0 + 2));
        assert_eq!(uses.limits.len(), 2, "what the store has to be told is kept");
    }

    #[test]
    fn another_store_has_given_nothing() {
        let account = Account::new(Holder::Consumer, "acme");
        let mut uses = account.uses();
        uses.belong_to(1);
        (uses.asking, uses.returning) = (true, true);
        uses.of(LimitId::plan(), NOW).block.tokens = 3;
        uses.of(LimitId::plan(), NOW).full_at = NOW.0 + 5;
        uses.belong_to(1);
        assert_eq!((uses.asking, uses.of(LimitId::plan(), NOW).block.tokens), (true, 3));
        uses.belong_to(2);
        let used = uses.of(LimitId::plan(), NOW);
        assert_eq!((used.block.tokens, used.full_at), (0, NOW.0 + 5), "a reload refills nobody");
        assert!(!uses.asking && !uses.returning && !uses.belongs_to(1));
        uses.of(LimitId::plan(), NOW).block.tokens = 7;
        assert!(!uses.belong_to(1), "it is not taken back");
        assert!(uses.belong_to(2) && uses.of(LimitId::plan(), NOW).block.tokens == 7);
    }

    #[test]
    fn names_in_the_store_are_short_and_of_one_holder() {
        for (holder, name, expected) in [
            (Holder::Consumer, "acme", "c:acme"),
            (Holder::Organization, "acme", "o:acme"),
            (Holder::Unlisted, "corp:alice@a.example", "u:corp:alice@a.example"),
            (Holder::Address, "2001:db8::", "a:2001:db8::"),
        ] {
            assert_eq!(Account::new(holder, name).name(), expected);
        }
        let long = "x".repeat(LONGEST_NAME + 1);
        let names = ["corp:}", "corp:{", "corp:\n", "corp:ä", &long, &long[1..]];
        let names = names.map(|name| Account::new(Holder::Unlisted, name).name().to_owned());
        assert!(names[..5].iter().all(|name| name.starts_with("u#") && name.len() == 34), "{names:?}");
        assert!((0..6).all(|one| !names[..one].contains(&names[one])), "{names:?}");
    }
}
