//! What one caller has used of its limits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::Notify;

use crate::exchange::Tick;

/// Longest name of a caller that is part of a store's key as it is.
const LONGEST_NAME: usize = 64;

/// Identifies a limit of a caller: the rate of its plan, of a route, or of a class of endpoints.
///
/// A digest of its name, so that it is the same in every policy and on every node, and compiling needs no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitId(pub(crate) [u8; 16]);

impl LimitId {
    /// The rate of a plan. Without its name: who changes to another plan has used as much of that one.
    pub(crate) fn plan() -> Self {
        Self(digest(&["plan"]))
    }

    /// The rate of a route.
    pub(crate) fn route(api: &str, route: &str) -> Self {
        Self(digest(&["route", api, route]))
    }

    /// The rate of a class of endpoints.
    pub(crate) fn class(name: &str) -> Self {
        Self(digest(&["class", name]))
    }
}

fn digest(parts: &[&str]) -> [u8; 16] {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        // Each part with its length, so that no two lists of parts are the same bytes.
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

/// What kind of caller has an account: names of different kinds may be the same.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holder {
    Consumer,
    Organization,
    Unlisted,
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

/// What has been used of one limit.
#[derive(Debug)]
pub(crate) struct Use {
    id: LimitId,
    /// The tick at which the bucket will be full again; 0: it has not been used. Where nodes count together, an estimate.
    pub(crate) full_at: u64,
    /// What the store has given to this node.
    pub(crate) block: Block,
}

/// A part of a caller's allowance that this node has taken from the store in advance, and spends without asking.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// What is left.
    pub(crate) tokens: u32,
    /// The tick at which what is left must be returned.
    pub(crate) lapses: u64,
    /// How much to take next.
    pub(crate) next: u32,
    /// The limit that it was taken under: the time to refill one, in nanoseconds, and the burst.
    pub(crate) limit: (u64, u32),
    /// What the store does not know yet: spent without it, or, if negative, returned to it.
    pub(crate) owed: i64,
    /// The store's last refusal.
    pub(crate) refused: Option<Refused>,
}

/// A refusal of the store that holds for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What it refused; less may be allowed.
    pub(crate) cost: u32,
    /// The tick at which it would be allowed, if nothing else changes.
    pub(crate) until: u64,
    /// The tick from which the store is asked again: others may have returned what they took.
    pub(crate) ask_again: u64,
    /// The window of the limit that it applied, in nanoseconds: another one may allow it.
    pub(crate) window: u64,
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
        let known = self.limits.iter().position(|known| known.id == id);
        let position = known.unwrap_or_else(|| {
            // A full bucket says no more than none, and limits of former policies would stay for ever. Those that are asked
            // about stay.
            self.limits.retain(|used| self.asking || !used.is_idle(now));
            self.limits.push(Use { id, full_at: 0, block: Block::default() });
            self.limits.len() - 1
        });
        &mut self.limits[position]
    }

    /// Forgets what another store knows and has given: this one has counted from the beginning.
    pub(crate) fn belong_to(&mut self, store: u64) {
        if self.store != store {
            (self.store, self.asking, self.returning) = (store, false, false);
            self.limits.iter_mut().for_each(|used| used.block = Block::default());
        }
    }

    /// Whether this store was asked last.
    pub(crate) fn belongs_to(&self, store: u64) -> bool {
        self.store == store
    }

    /// All limits of which something has been used.
    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Use> {
        self.limits.iter_mut()
    }

    /// Whether it says no more than that of a caller who never called.
    pub(super) fn are_idle(&self, now: Tick) -> bool {
        self.limits.iter().all(|used| used.is_idle(now))
    }
}

impl Use {
    /// Which limit.
    pub(crate) fn id(&self) -> LimitId {
        self.id
    }

    fn is_idle(&self, now: Tick) -> bool {
        self.full_at <= now.0 && self.block.tokens == 0 && self.block.owed >= 0
    }
}

impl Block {
    /// Takes what the store does not know yet. What was spent is refilled in the meantime: no more counts than what is missing
    /// until the bucket is full.
    pub(crate) fn take_owed(&mut self, full_at: u64, now: Tick) -> i64 {
        let owed = std::mem::take(&mut self.owed);
        let missing = full_at.saturating_sub(now.0).div_ceil(self.limit.0.max(1));
        owed.min(i64::try_from(missing).unwrap_or(i64::MAX))
    }

    /// What is left and has not lapsed. What has lapsed is to be returned.
    pub(crate) fn left(&mut self, now: Tick) -> u32 {
        if self.tokens > 0 && self.lapses <= now.0 {
            self.owed -= i64::from(self.tokens);
            // Less was needed than was taken.
            self.next = self.next.saturating_sub(self.tokens).max(1);
            self.tokens = 0;
        }
        self.tokens
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
    fn what_has_lapsed_is_returned_and_less_is_taken_next() {
        let block = Block { tokens: 30, lapses: NOW.0 + 1, next: 100, ..Block::default() };
        let (mut before, mut after) = (block, block);
        assert_eq!((before.left(NOW), before), (30, block));
        assert_eq!(after.left(Tick(NOW.0 + 1)), 0);
        assert_eq!((after.tokens, after.owed, after.next), (0, -30, 70));
    }

    /// After an outage of an hour, nobody owes what was spent an hour ago.
    #[test]
    fn what_was_spent_is_owed_until_it_is_refilled() {
        let (second, block) = (1_000_000_000, Block { owed: 50, limit: (1_000_000_000, 60), ..Block::default() });
        for (full_after, owed) in [(0, 0), (1, 1), (20 * second, 20), (60 * second, 50)] {
            assert_eq!({ block }.take_owed(NOW.0 + full_after, NOW), owed, "{full_after}");
        }
        assert_eq!(Block { owed: -3, ..block }.take_owed(NOW.0, NOW), -3);
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
        assert_eq!((used.block, used.full_at), (Block::default(), NOW.0 + 5), "a reload refills nobody");
        assert!(!uses.asking && !uses.returning && !uses.belongs_to(1));
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
