//! What has been used of one limit.

use super::limit_id::LimitId;
use crate::exchange::Tick;

/// What has been used of one limit.
#[derive(Debug, Default)]
pub(crate) struct Use {
    id: LimitId,
    /// The tick at which nothing will have been used any more: a bucket is full, or a quota resets; 0: it has not been
    /// used. Where a store counts, an estimate.
    pub(crate) full_at: u64,
    /// `full_at` if the request that is being decided is taken, or the last one was.
    pub(crate) planned: u64,
    /// Of a quota: how much has been used. Where a store counts, by its last answer.
    pub(crate) used: u32,
    /// Of a quota: when counting began, in seconds since 1970.
    pub(crate) since: u32,
    /// Of a quota: the highest share, in percent, that has been noted for an alert.
    pub(crate) told: u8,
    /// Of a quota: a share, in percent, that is to be reported; 0: none.
    pub(crate) alert: u8,
    /// What the store has given to this node.
    pub(crate) block: Block,
    /// Whether the store knows what has been used, so that it may be forgotten here.
    pub(crate) is_stored: bool,
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
    /// The limit that it was taken under.
    pub(crate) terms: Option<Terms>,
    /// Of a quota: when the store began to count what `tokens` and `owed` are part of, in seconds since 1970.
    pub(crate) since: u32,
    /// What the store does not know yet: spent without it, or, if negative, returned to it.
    pub(crate) owed: i64,
    /// What the store is being told that was spent without it, until it answers.
    pub(crate) telling: u32,
    /// The store's last refusal.
    pub(crate) refused: Option<Refused>,
}

/// How a limit is counted in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terms {
    /// A rate.
    Rate {
        /// Time to refill one, in nanoseconds.
        one: u64,
        burst: u32,
    },
    /// A quota, in one window of its calendar; in seconds since 1970.
    Quota {
        count: u32,
        since: u32,
        /// The first second after the window.
        ends: u32,
    },
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
    /// The limit that it applied: another one may allow it.
    pub(crate) under: Terms,
}

/// The share of a quota, in percent, that is worth an alert once it is used; 0: none yet.
fn alert_share(used: u32, most: u32) -> u8 {
    match (u64::from(used), u64::from(most)) {
        (used, most) if used >= most => 100,
        (used, most) if used * 5 >= most * 4 => 80,
        _ => 0,
    }
}

/// A count that begins this much later than now, in seconds, was started by a wrong clock.
pub(crate) const WRONG_CLOCK: u32 = 86_400;

/// Decides what to report: the share that was told by now, and the one to tell; 0: none. What was told is forgotten once
/// usage is ten percent below it, as after the quota was raised.
pub(crate) fn alert(used: u32, most: u32, told: u8) -> (u8, u8) {
    let share = alert_share(used, most);
    let is_far_below = u64::from(used) * 100 < u64::from(most) * u64::from(told.saturating_sub(10));
    match if is_far_below { 0 } else { told } {
        told if share > told => (share, share),
        told => (told, 0),
    }
}

impl Terms {
    /// Whether what one refuses the other does, too.
    pub(crate) fn is_same_limit(self, other: Self) -> bool {
        match (self, other) {
            (Self::Rate { .. }, Self::Rate { .. }) => self.window() == other.window(),
            (Self::Quota { count, since, .. }, Self::Quota { count: other, since: begun, .. }) => {
                (count, since) == (other, begun)
            }
            _ => false,
        }
    }

    /// Time to refill a burst, in nanoseconds; a quota is not refilled.
    fn window(self) -> u64 {
        match self {
            Self::Rate { one, burst } => one.saturating_mul(burst.into()),
            Self::Quota { .. } => 0,
        }
    }
}

impl Use {
    /// Nothing has been used.
    pub(super) fn new(id: LimitId) -> Self {
        Self { id, ..Self::default() }
    }

    /// Which limit.
    pub(crate) fn id(&self) -> LimitId {
        self.id
    }

    /// Forgets what a former store knows and has given.
    pub(super) fn belong_to_another_store(&mut self) {
        (self.block, self.is_stored) = (Block::default(), false);
    }

    /// Whether it says no more than that of a caller who never called.
    pub(super) fn is_idle(&self, now: Tick) -> bool {
        self.full_at.max(self.planned) <= now.0 && self.block.tokens == 0 && self.block.owed >= 0
    }

    /// Whether nothing is lost if it is forgotten once no request is being decided: the store may know it, or it is a quota of
    /// which nothing has been used.
    pub(super) fn may_be_forgotten(&self, now: Tick) -> bool {
        let is_unused = self.since > 0 && self.used == 0;
        self.is_idle(now) || ((self.is_stored || is_unused) && self.block.tokens == 0 && self.block.owed == 0)
    }

    /// Takes what the store does not know yet, which is counted on these terms from now on. What was spent of a rate is refilled
    /// in the meantime: no more counts than what is missing until the bucket is full.
    pub(crate) fn take_owed(&mut self, terms: Terms, now: Tick) -> i64 {
        self.block.terms = Some(terms);
        let owed = std::mem::take(&mut self.block.owed);
        self.block.telling = u32::try_from(owed.max(0)).unwrap_or(u32::MAX);
        match terms {
            Terms::Rate { one, .. } => {
                let missing = self.full_at.saturating_sub(now.0).div_ceil(one.max(1));
                owed.min(i64::try_from(missing).unwrap_or(i64::MAX))
            }
            Terms::Quota { .. } => owed,
        }
    }
}

impl Block {
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
    fn what_has_lapsed_is_returned_and_less_is_taken_next() {
        let block = Block { tokens: 30, lapses: NOW.0 + 1, next: 100, ..Block::default() };
        let (mut before, mut after) = (block, block);
        assert_eq!((before.left(NOW), before), (30, block));
        assert_eq!(after.left(Tick(NOW.0 + 1)), 0);
        assert_eq!((after.tokens, after.owed, after.next), (0, -30, 70));
    }

    /// After an outage of an hour, nobody owes what was spent of a rate an hour ago; of a quota, all of it.
    #[test]
    fn what_was_spent_is_owed_until_it_is_refilled() {
        let (second, rate) = (1_000_000_000, Terms::Rate { one: 1_000_000_000, burst: 60 });
        let quota = Terms::Quota { count: 100, since: 0, ends: 86_400 };
        let owed = |terms, full_after, owed| {
            let block = Block { owed, ..Block::default() };
            Use { full_at: NOW.0 + full_after, block, ..Use::default() }.take_owed(terms, NOW)
        };
        for (full_after, expected) in [(0, 0), (1, 1), (20 * second, 20), (60 * second, 50)] {
            assert_eq!((owed(rate, full_after, 50), owed(quota, full_after, 50)), (expected, 50), "{full_after}");
        }
        assert_eq!(owed(rate, 0, -3), -3);
    }

    #[test]
    fn a_refusal_holds_under_the_same_limit_alone() {
        let rate = |one, burst| Terms::Rate { one, burst };
        let quota = |count, since| Terms::Quota { count, since, ends: since + 86_400 };
        for (one, other, same) in [
            (rate(10, 6), rate(10, 6), true),
            (rate(10, 6), rate(20, 3), true),
            (rate(10, 6), rate(10, 7), false),
            (quota(5, 0), quota(5, 0), true),
            (quota(5, 0), quota(6, 0), false),
            (quota(5, 0), quota(5, 86_400), false),
            (rate(10, 6), quota(6, 0), false),
        ] {
            assert_eq!(one.is_same_limit(other), same, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_share_is_told_once_until_usage_is_far_below_it() {
        let mut told = 0;
        for (used, most, alert) in [
            (79, 100, 0),
            (80, 100, 80),
            (79, 100, 0),
            (81, 100, 0),
            (100, 100, 100),
            (95, 100, 0),
            (100, 100, 0),
            (100, 200, 0),
            (160, 200, 80),
            (200, 200, 100),
            (u32::MAX, u32::MAX, 0),
        ] {
            let now = super::alert(used, most, told);
            told = now.0;
            assert_eq!(now.1, alert, "{used} of {most}");
        }
    }

    /// What a store knows need not be kept here, so that a quota of a month does not fill the memory with callers.
    #[test]
    fn what_the_store_knows_may_be_forgotten() {
        let used = || Use { full_at: NOW.0 + 1, is_stored: true, ..Use::default() };
        let with = |block| Use { block, ..used() }.may_be_forgotten(NOW);
        let unstored = |used, since| Use { is_stored: false, used, since, full_at: NOW.0 + 1, ..Use::default() };
        assert!(used().may_be_forgotten(NOW) && !used().is_idle(NOW));
        assert!(unstored(0, 7).may_be_forgotten(NOW), "a quota of which nothing has been used");
        assert!(!unstored(0, 0).may_be_forgotten(NOW) && !unstored(1, 7).may_be_forgotten(NOW));
        for block in [(1, 0), (0, 1), (0, -1)].map(|(tokens, owed)| Block { tokens, owed, ..Block::default() }) {
            assert!(!with(block), "{block:?}");
        }
    }
}
