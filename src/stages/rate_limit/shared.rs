//! Limits that are counted in a store: a node spends what it has taken from the store in advance, and asks for more before
//! that is used up. Only a request that finds too little waits for the answer.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tokio::sync::futures::Notified;

use super::decision::{Counted, Decided, Known, Part, Verdict};
use super::limit::Limit;
use super::now::Now;
use super::outcome::{Exceeded, Fits};
use crate::refusal::{Reason, Refusal, Stage};
use crate::state::counters::{AskedLimit, Counters, Question};
use crate::state::ledger::{Account, Ledger, Use, Uses};

/// How limits are counted in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SharedLimits {
    /// What to do while the store does not answer.
    pub(crate) on_failure: OnFailure,
    /// How long a request waits for an answer.
    pub(crate) timeout: Duration,
}

/// What to do while the store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Refuse what cannot be decided.
    Refuse,
    /// Count this node's share: the limit, divided by the nodes that lived.
    Local,
    /// Let everything through.
    Allow,
}

/// The store that limits are counted in, and how.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'s> {
    pub(crate) counters: &'s Counters,
    pub(crate) settings: SharedLimits,
}

/// A request that waits for an answer, until it is dropped.
struct Waiting<'a>(&'a Account);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut uses = self.0.uses();
        uses.waiting = uses.waiting.saturating_sub(1);
    }
}

impl Shared<'_> {
    /// Decides all limits, and takes from each if the request fits all.
    pub(super) async fn decide<'a>(
        self,
        counted: Counted<'a>,
        ledger: &Ledger,
        mut now: Now,
    ) -> Result<Decided<'a>, Refusal> {
        let cost = counted.cost;
        let (mut deadline, mut expired) = (None, false);
        loop {
            // The accounts are unlocked before it waits.
            let waiting = {
                let mut locked = counted.lock();
                let id = self.counters.id();
                let is_current = locked.parts().fold(true, |all, (_, uses)| uses.belong_to(id) && all);
                if !is_current {
                    drop(locked);
                    // The policy was replaced meanwhile, and the next one counts in another store.
                    return Ok(self.decide_share(counted, now));
                }
                let verdict = locked.look(now, |limit, used| self.known(limit, used, cost, now));
                if !verdict.is_open() {
                    let decided =
                        counted.complete(verdict, &mut locked, now, |limit, used| self.spend(limit, used, cost));
                    locked.parts().for_each(|(part, uses)| self.refill(part, uses, now));
                    return Ok(decided);
                }
                if expired || !self.counters.is_available() {
                    break;
                }
                let mut waiting = [const { None }; 2];
                for (slot, (part, uses)) in waiting.iter_mut().zip(locked.parts()) {
                    *slot = self.wait_for(part, cost, uses, now);
                }
                waiting
            };
            let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + self.settings.timeout);
            for (answered, _waiting) in waiting.into_iter().flatten() {
                expired |= tokio::time::timeout_at(deadline, answered).await.is_err();
            }
            now = now.later(ledger.tick(Instant::now()));
        }
        match self.settings.on_failure {
            OnFailure::Refuse => {
                let detail = "the limits of this caller cannot be checked now; try again later";
                Err(Refusal::new(Stage::RateLimit, Reason::LimitsUnavailable, detail))
            }
            OnFailure::Local => Ok(self.decide_share(counted, now)),
            OnFailure::Allow => Ok(counted.complete(Verdict::default(), &mut counted.lock(), now, |_, _| {})),
        }
    }

    /// Whether the store counts a limit, or this node does.
    pub(super) fn counts(self, limit: &Limit) -> bool {
        limit.is_quota() || self.counters.count_rates()
    }

    /// What is known of a limit without asking.
    fn known(self, limit: &Limit, used: &mut Use, cost: NonZeroU32, now: Now) -> Known {
        limit.renew(used, now);
        if !self.counts(limit) {
            return limit.decide(used, cost, now).into();
        }
        let left = used.block.left(now.tick);
        let missing = used.full_at.saturating_sub(now.tick.0);
        if let Some(rest) = left.checked_sub(cost.get()) {
            let remaining = limit.remaining(used, now.tick).saturating_add(rest).min(limit.most().get());
            return Known::Fits(Fits { full_at: used.full_at, remaining, full_after: Duration::from_nanos(missing) });
        }
        if cost > limit.most() {
            return Known::Exceeded(Exceeded { wait: None, remaining: left });
        }
        let refused = used.block.refused.filter(|refused| refused.cost <= cost.get() && refused.ask_again > now.tick.0);
        match refused.filter(|refused| refused.under.is_same_limit(limit.terms(now))) {
            Some(refused) => {
                let longer = limit.longer(cost.get() - refused.cost);
                let wait = Some(Duration::from_nanos(refused.until.saturating_sub(now.tick.0).saturating_add(longer)));
                Known::Exceeded(Exceeded { wait, remaining: left })
            }
            None => Known::TooLittle,
        }
    }

    /// Counts a request that fits.
    fn spend(self, limit: &Limit, used: &mut Use, cost: NonZeroU32) {
        if self.counts(limit) {
            used.block.tokens = used.block.tokens.saturating_sub(cost.get());
        } else {
            limit.take(used, cost);
        }
    }

    /// What a request waits for that finds too little in this account: asks the store, unless it is being asked.
    fn wait_for<'a>(
        self,
        part: Part<'a>,
        cost: NonZeroU32,
        uses: &mut Uses,
        now: Now,
    ) -> Option<(Notified<'a>, Waiting<'a>)> {
        let mut limits = part.limits.iter();
        let lacks =
            |limit: &Limit| matches!(self.known(limit, uses.of(limit.id(), now.tick), cost, now), Known::TooLittle);
        if !limits.any(lacks) {
            return None;
        }
        uses.waiting = uses.waiting.saturating_add(1);
        let answered = part.account.answered.notified();
        if !uses.asking {
            self.ask(part, cost.get(), uses, now);
        }
        Some((answered, Waiting(part.account)))
    }

    /// Decides by this node's share alone. What it takes is reported to the store later.
    fn decide_share<'a>(self, counted: Counted<'a>, now: Now) -> Decided<'a> {
        let (nodes, cost) = (self.counters.nodes(), counted.cost);
        let mut locked = counted.lock();
        let verdict = locked.look(now, |limit, used| match self.known(limit, used, cost, now) {
            Known::Fits(fits) => Known::Fits(fits),
            Known::Exceeded(exceeded) if !self.counts(limit) => Known::Exceeded(exceeded),
            _ => limit.decide_share(nodes, used, cost, now).into(),
        });
        let decided = counted.complete(verdict, &mut locked, now, |limit, used| {
            if !self.counts(limit) || used.block.tokens >= cost.get() {
                self.spend(limit, used, cost);
            } else {
                limit.take_share(used, cost, now);
            }
        });
        drop(locked);
        counted.parts.iter().flatten().for_each(|part| self.counters.tell_later(part.account));
        decided
    }

    /// Takes the next block in advance, where less than half of the last one is left.
    fn refill(self, part: Part<'_>, uses: &mut Uses, now: Now) {
        if uses.asking {
            return;
        }
        let mut low = part.limits.iter().filter(|limit| self.counts(limit));
        if low.any(|limit| is_low(limit, uses.of(limit.id(), now.tick), now)) && self.counters.is_available() {
            self.ask(part, 0, uses, now);
        }
    }

    /// Asks for what a request of this cost lacks, and for the next blocks.
    fn ask(self, part: Part<'_>, cost: u32, uses: &mut Uses, now: Now) {
        let waiting = uses.waiting.max(1);
        // From here on, no limit makes room for another one.
        uses.asking = true;
        let asked = part.limits.iter().filter(|limit| self.counts(limit)).filter_map(|limit| {
            let used = uses.of(limit.id(), now.tick);
            let left = used.block.left(now.tick);
            let need = cost.saturating_sub(left);
            let next = used.block.next.clamp(1, limit.largest_block());
            let want = match need {
                0 if !is_low(limit, used, now) => return None,
                0 => next,
                _ => next.max(cost.saturating_mul(waiting).saturating_sub(left)).min(limit.most().get()).max(need),
            };
            let (terms, since) = (limit.terms(now), used.block.since);
            let owed = used.take_owed(terms, now.tick);
            Some(AskedLimit { id: limit.id(), terms, need, want, worth: limit.worth_asking(), owed, since })
        });
        let limits: Vec<AskedLimit> = asked.collect();
        uses.asking = !limits.is_empty();
        if uses.asking {
            let question = Question { account: part.account.name().into(), limits };
            self.counters.ask(part.account, question, self.settings.timeout);
        }
    }
}

/// Whether it is time to take the next block.
fn is_low(limit: &Limit, used: &mut Use, now: Now) -> bool {
    let next = used.block.next.clamp(1, limit.largest_block());
    let left = used.block.left(now.tick);
    let refused = used
        .block
        .refused
        .is_some_and(|refused| refused.ask_again > now.tick.0 && refused.under.is_same_limit(limit.terms(now)));
    next > 1 && left < next / 2 && !refused
}
