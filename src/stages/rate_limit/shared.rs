//! Limits that nodes count together: a node spends what it has taken from the store in advance, and asks for more before
//! that is used up. Only a request that finds too little waits for the answer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::applicable::{Applicable, Decided, MOST};
use super::concurrent::Concurrent;
use super::limit::{Exceeded, Fits, Limit};
use crate::refusal::{Reason, Refusal, Stage};
use crate::state::counters::{AskedLimit, Counters, Question};
use crate::state::ledger::{Account, InFlight, Ledger, Tick, Use, Uses};

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

/// Whether a request fits a limit, as far as this node knows without asking.
enum Known {
    Fits(Fits),
    Exceeded(Exceeded),
    TooLittle,
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
    pub(super) async fn decide_and_take<'l>(
        self,
        limits: &[Option<Applicable<'l>>; MOST],
        cost: NonZeroU32,
        concurrent: Option<&Concurrent>,
        account: &Arc<Account>,
        ledger: &Ledger,
        mut now: Tick,
    ) -> Result<(Decided<'l>, Option<InFlight>), Refusal> {
        let (mut deadline, mut expired) = (None, false);
        loop {
            let (answered, _waiting) = {
                let mut uses = account.uses();
                uses.belong_to(self.counters.id());
                let known = limits.map(|limit| limit.map(|(id, limit)| known(limit, uses.of(id, now), cost, now)));
                if let Some(decided) = decided(limits, &known) {
                    let in_flight = spend(limits, &decided, cost, concurrent, account, &mut uses);
                    self.refill(limits, account, &mut uses, now);
                    return Ok((decided, in_flight));
                }
                if expired || !self.counters.is_available() {
                    break;
                }
                uses.waiting = uses.waiting.saturating_add(1);
                let answered = account.answered.notified();
                if !uses.asking {
                    self.ask(limits, cost.get(), account, &mut uses, now);
                }
                (answered, Waiting(account))
            };
            let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + self.settings.timeout);
            expired = tokio::time::timeout_at(deadline, answered).await.is_err();
            now = ledger.tick(Instant::now());
        }
        match self.settings.on_failure {
            OnFailure::Refuse => {
                let detail = "the limits of this caller cannot be checked now; try again later";
                Err(Refusal::new(Stage::RateLimit, Reason::LimitsUnavailable, detail))
            }
            OnFailure::Local => Ok(self.decide_share(limits, cost, concurrent, account, now)),
            OnFailure::Allow => {
                let mut uses = account.uses();
                let admits = concurrent.is_none_or(|concurrent| concurrent.admits(uses.in_flight));
                let in_flight = concurrent.filter(|_| admits).map(|_| InFlight::begin(account, &mut uses));
                Ok(([const { None }; MOST], in_flight))
            }
        }
    }

    /// Decides by this node's share alone. What it takes is told to the store later.
    fn decide_share<'l>(
        self,
        limits: &[Option<Applicable<'l>>; MOST],
        cost: NonZeroU32,
        concurrent: Option<&Concurrent>,
        account: &Arc<Account>,
        now: Tick,
    ) -> (Decided<'l>, Option<InFlight>) {
        let nodes = self.counters.nodes();
        let mut uses = account.uses();
        let decided: Decided<'l> = limits.map(|limit| {
            limit.map(|(id, limit)| {
                let used = uses.of(id, now);
                let outcome = match known(limit, used, cost, now) {
                    Known::Fits(fits) => Ok(fits),
                    _ => limit.decide_share(nodes, limit.within_window(used.full_at, now), cost, now),
                };
                (limit, outcome)
            })
        });
        let fits = decided.iter().flatten().all(|(_, outcome)| outcome.is_ok());
        let begins = concurrent.is_none_or(|concurrent| concurrent.admits(uses.in_flight));
        if fits && begins {
            for ((id, limit), (_, outcome)) in limits.iter().flatten().zip(decided.iter().flatten()) {
                let used = uses.of(*id, now);
                used.block.limit = (limit.one(), limit.burst().get());
                match (outcome, used.block.tokens.checked_sub(cost.get())) {
                    (_, Some(left)) => used.block.tokens = left,
                    (Ok(fits), None) => {
                        used.full_at = fits.full_at;
                        used.block.owed += i64::from(cost.get());
                    }
                    (Err(_), None) => {}
                }
            }
        }
        let in_flight = concurrent.filter(|_| fits && begins).map(|_| InFlight::begin(account, &mut uses));
        drop(uses);
        self.counters.tell_later(account);
        (decided, in_flight)
    }

    /// Takes the next block in advance, where less than half of the last one is left.
    fn refill(self, limits: &[Option<Applicable<'_>>; MOST], account: &Arc<Account>, uses: &mut Uses, now: Tick) {
        if uses.asking {
            return;
        }
        let low = |(id, limit): &Applicable<'_>| is_low(limit, uses.of(*id, now), now);
        if limits.iter().flatten().any(low) && self.counters.is_available() {
            self.ask(limits, 0, account, uses, now);
        }
    }

    /// Asks for what a request of this cost lacks, and for the next blocks.
    fn ask(
        self,
        limits: &[Option<Applicable<'_>>; MOST],
        cost: u32,
        account: &Arc<Account>,
        uses: &mut Uses,
        now: Tick,
    ) {
        let waiting = uses.waiting.max(1);
        // From here on, no limit makes room for another one.
        uses.asking = true;
        let asked = limits.iter().flatten().filter_map(|(id, limit)| {
            let used = uses.of(*id, now);
            let left = used.block.left(now);
            let need = cost.saturating_sub(left);
            let next = used.block.next.clamp(1, limit.largest_block());
            let want = match need {
                0 if !is_low(limit, used, now) => return None,
                0 => next,
                _ => next.max(cost.saturating_mul(waiting).saturating_sub(left)).min(limit.burst().get()).max(need),
            };
            used.block.limit = (limit.one(), limit.burst().get());
            let owed = used.block.take_owed(used.full_at, now);
            let (one, burst) = used.block.limit;
            Some(AskedLimit { id: *id, one, burst, need, want, worth: limit.worth_asking(), owed })
        });
        let limits: Vec<AskedLimit> = asked.collect();
        uses.asking = !limits.is_empty();
        if uses.asking {
            let question = Question { account: account.name().into(), limits };
            self.counters.ask(account, question, self.settings.timeout);
        }
    }
}

/// What is known of a limit without asking.
fn known(limit: &Limit, used: &mut Use, cost: NonZeroU32, now: Tick) -> Known {
    let left = used.block.left(now);
    let missing = used.full_at.saturating_sub(now.0);
    if let Some(rest) = left.checked_sub(cost.get()) {
        let remaining = limit.remaining(missing).saturating_add(rest).min(limit.burst().get());
        return Known::Fits(Fits { full_at: used.full_at, remaining, full_after: Duration::from_nanos(missing) });
    }
    if cost > limit.burst() {
        return Known::Exceeded(Exceeded { wait: None, remaining: left });
    }
    let holds = used
        .block
        .refused
        .filter(|refused| refused.cost <= cost.get() && refused.ask_again > now.0 && refused.window == limit.window());
    match holds {
        Some(refused) => {
            let more = u64::from(cost.get() - refused.cost).saturating_mul(limit.one());
            let wait = Some(Duration::from_nanos(refused.until.saturating_sub(now.0).saturating_add(more)));
            Known::Exceeded(Exceeded { wait, remaining: left })
        }
        None => Known::TooLittle,
    }
}

/// The decision, unless the store has to be asked first.
fn decided<'l>(limits: &[Option<Applicable<'l>>; MOST], known: &[Option<Known>; MOST]) -> Option<Decided<'l>> {
    let exceeded = known.iter().flatten().any(|known| matches!(known, Known::Exceeded(_)));
    let mut decided: Decided<'l> = [const { None }; MOST];
    for ((slot, limit), known) in decided.iter_mut().zip(limits).zip(known) {
        *slot = match (limit, known) {
            (Some((_, limit)), Some(Known::Fits(fits))) => Some((*limit, Ok(*fits))),
            (Some((_, limit)), Some(Known::Exceeded(exceeded))) => Some((*limit, Err(*exceeded))),
            // Another limit refuses already, so that this one is not asked about.
            (Some(_), Some(Known::TooLittle)) if exceeded => None,
            (Some(_), Some(Known::TooLittle)) => return None,
            _ => None,
        };
    }
    Some(decided)
}

/// Spends what a request costs, if it fits all limits.
fn spend(
    limits: &[Option<Applicable<'_>>; MOST],
    decided: &Decided<'_>,
    cost: NonZeroU32,
    concurrent: Option<&Concurrent>,
    account: &Arc<Account>,
    uses: &mut Uses,
) -> Option<InFlight> {
    let fits = decided.iter().flatten().all(|(_, outcome)| outcome.is_ok());
    let begins = concurrent.is_none_or(|concurrent| concurrent.admits(uses.in_flight));
    if !fits || !begins {
        return None;
    }
    for (id, _) in limits.iter().flatten() {
        let block = &mut uses.of(*id, Tick(0)).block;
        block.tokens = block.tokens.saturating_sub(cost.get());
    }
    concurrent.map(|_| InFlight::begin(account, uses))
}

/// Whether it is time to take the next block.
fn is_low(limit: &Limit, used: &mut Use, now: Tick) -> bool {
    let next = used.block.next.clamp(1, limit.largest_block());
    let left = used.block.left(now);
    let refused =
        used.block.refused.is_some_and(|refused| refused.ask_again > now.0 && refused.window == limit.window());
    next > 1 && left < next / 2 && !refused
}
