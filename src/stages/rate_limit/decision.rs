//! The decision about one request: all of its limits are looked at before anything is taken from one.

use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::concurrent::Concurrent;
use super::limit::{Alert, Limit};
use super::now::Now;
use super::outcome::{Exceeded, Fits};
use super::plan::Applicable;
use crate::state::ledger::{Account, InFlight, Uses};

/// A request, and what it counts against.
#[derive(Clone, Copy)]
pub(super) struct Counted<'a> {
    pub(super) limits: Applicable<'a>,
    pub(super) cost: NonZeroU32,
    pub(super) concurrent: Option<&'a Concurrent>,
    pub(super) account: &'a Arc<Account>,
}

/// Whether a request fits a limit, as far as this node knows without asking.
pub(super) enum Known {
    Fits(Fits),
    Exceeded(Exceeded),
    /// The store has to be asked.
    TooLittle,
}

impl From<Result<Fits, Exceeded>> for Known {
    fn from(decided: Result<Fits, Exceeded>) -> Self {
        decided.map_or_else(Self::Exceeded, Self::Fits)
    }
}

/// What is known about all limits of a request.
#[derive(Default)]
pub(super) struct Verdict<'l> {
    /// The limit that refuses it; of several, the one that takes longest, since waiting for that one suffices for all.
    pub(super) refused: Option<(&'l Limit, Exceeded)>,
    /// The limit that is nearest.
    pub(super) nearest: Option<(&'l Limit, Fits)>,
    /// Whether the store has to be asked about one, unless another refuses.
    too_little: bool,
}

/// What was decided.
#[derive(Default)]
pub(super) struct Decided<'l> {
    pub(super) verdict: Verdict<'l>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) alerts: Vec<Alert>,
}

impl<'l> Verdict<'l> {
    /// Looks at each limit in turn.
    pub(super) fn of(limits: Applicable<'l>, mut known: impl FnMut(&'l Limit) -> Known) -> Self {
        let mut verdict = Self::default();
        for limit in limits.iter() {
            match known(limit) {
                Known::Fits(fits) => {
                    let distance = |fits: &Fits| (fits.remaining, Reverse(fits.full_after));
                    if verdict.nearest.as_ref().is_none_or(|(_, nearest)| distance(&fits) < distance(nearest)) {
                        verdict.nearest = Some((limit, fits));
                    }
                }
                Known::Exceeded(exceeded) => {
                    if verdict.refused.as_ref().is_none_or(|(_, longest)| exceeded.wait() >= longest.wait()) {
                        verdict.refused = Some((limit, exceeded));
                    }
                }
                Known::TooLittle => verdict.too_little = true,
            }
        }
        verdict
    }

    /// Whether the store has to be asked before there is a decision.
    pub(super) fn is_open(&self) -> bool {
        self.too_little && self.refused.is_none()
    }
}

impl<'a> Counted<'a> {
    /// Decides by what this node has counted.
    pub(super) fn decide(self, now: Now) -> Decided<'a> {
        let mut uses = self.account.uses();
        let verdict = Verdict::of(self.limits, |limit| {
            let used = uses.of(limit.id(), now.tick);
            limit.renew(used, now);
            limit.decide(used, self.cost, now).into()
        });
        self.complete(verdict, &mut uses, now, |limit, uses| limit.take(uses.of(limit.id(), now.tick), self.cost))
    }

    /// Takes from each limit, if the request fits all.
    pub(super) fn complete(
        self,
        verdict: Verdict<'a>,
        uses: &mut Uses,
        now: Now,
        mut take: impl FnMut(&'a Limit, &mut Uses),
    ) -> Decided<'a> {
        let begins = self.concurrent.is_none_or(|concurrent| concurrent.admits(uses.in_flight));
        let fits = verdict.refused.is_none() && begins;
        if fits {
            self.limits.iter().for_each(|limit| take(limit, uses));
        }
        let in_flight = self.concurrent.filter(|_| fits).map(|_| InFlight::begin(self.account, uses));
        let quotas = self.limits.iter().filter(|limit| limit.is_quota());
        let alerts = quotas.filter_map(|quota| quota.alert(uses.of(quota.id(), now.tick), now)).collect();
        Decided { verdict, in_flight, alerts }
    }
}
