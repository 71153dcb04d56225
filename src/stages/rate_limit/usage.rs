//! What callers have used of their limits, for operators and for themselves.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::limit::Limit;
use super::now::Now;
use super::plan::RouteLimits;
use super::shared::Shared;
use super::subject::Subject;
use crate::state::counters::{AskedLimit, Given, Question};
use crate::state::ledger::{Account, Ledger};

/// How long a caller waits at least that looks at its limits: longer than requests, which must be decided.
const LOOK: Duration = Duration::from_millis(250);

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looker {
    /// An operator, who waits for a store that is slow.
    Operator,
    /// The caller. It does not wait for a store that is known to be away.
    Caller,
}

/// What a caller has used of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// What is left.
    pub(crate) remaining: u32,
    /// When nothing will have been used any more: when a quota resets, or a bucket is full. `None`: it is full.
    pub(crate) resets: Option<Timestamp>,
}

/// Looks at these limits of a caller. The error says why the store does not answer.
pub(crate) async fn look(
    looker: Looker,
    limits: &[&Limit],
    account: &Arc<Account>,
    shared: Option<Shared<'_>>,
    now: Now,
) -> Result<Vec<Usage>, String> {
    let stored = |limit: &Limit| shared.filter(|shared| shared.counts(limit));
    let question = question(limits, account, shared, now);
    let mut given = match shared {
        Some(shared) if !question.limits.is_empty() => ask(looker, shared, &question).await?.into_iter(),
        _ => Vec::new().into_iter(),
    };
    let mut uses = account.uses();
    let usage = limits.iter().map(|limit| {
        let known = uses.all().find(|used| used.id() == limit.id());
        match (stored(limit).and_then(|_| given.next()), known) {
            (Some(given), known) => {
                // What this node has taken in advance is not spent yet.
                let in_advance = known.map_or(0, |used| used.block.left(now.tick));
                let remaining = given.left.saturating_add(in_advance).min(limit.most().get());
                Usage { remaining, resets: limit.resets(given.full_after, now) }
            }
            (None, Some(used)) => {
                limit.renew(used, now);
                let resets = limit.resets(used.full_at.saturating_sub(now.tick.0), now);
                Usage { remaining: limit.remaining(used, now.tick), resets }
            }
            (None, None) => Usage { remaining: limit.most().get(), resets: limit.resets(0, now) },
        }
    });
    Ok(usage.collect())
}

async fn ask(looker: Looker, shared: Shared<'_>, question: &Question) -> Result<Vec<Given>, String> {
    match looker {
        Looker::Operator => shared.counters.look(question).await,
        Looker::Caller if !shared.counters.is_available() => Err("it has not answered for a while".to_owned()),
        Looker::Caller => shared.counters.look_within(LOOK.max(shared.settings.timeout), question).await,
    }
}

/// What is left of each limit that a request counts against, where no store counts: names, what is left, and what is allowed.
pub(crate) fn left(
    limits: &RouteLimits,
    subject: &Subject<'_>,
    ledger: &Ledger,
    now: Now,
) -> Vec<(Box<str>, u32, u32)> {
    let (plan, account) = subject.account(ledger, now);
    let of_user = subject.user().map(|(plan, account)| (plan.of_user(), account));
    let mut left = Vec::new();
    for (limits, account) in [Some((limits.of(plan), &account)), of_user].into_iter().flatten() {
        let mut uses = account.uses();
        for limit in limits.iter() {
            let used = uses.of(limit.id(), now.tick);
            limit.renew(used, now);
            left.push((limit.name().into(), limit.remaining(used, now.tick), limit.most().get()));
        }
    }
    left
}

/// Resets these limits of a caller. The error says why the store does not answer.
pub(crate) async fn reset(
    limits: &[&Limit],
    account: &Arc<Account>,
    shared: Option<Shared<'_>>,
    now: Now,
) -> Result<(), String> {
    let question = question(limits, account, shared, now);
    if let Some(shared) = shared.filter(|_| !question.limits.is_empty()) {
        shared.counters.reset(&question).await?;
    }
    let ids: Vec<_> = limits.iter().map(|limit| limit.id()).collect();
    account.uses().forget(&ids);
    Ok(())
}

/// A question about those limits that the store counts.
fn question(limits: &[&Limit], account: &Arc<Account>, shared: Option<Shared<'_>>, now: Now) -> Question {
    let stored = limits.iter().filter(|limit| shared.is_some_and(|shared| shared.counts(limit)));
    let limits = stored.map(|limit| AskedLimit::look(limit.id(), limit.terms(now))).collect();
    Question { account: account.name().into(), limits }
}
