//! The decision about one request: all of its limits are looked at before anything is taken from one.

use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::sync::{Arc, MutexGuard};

use super::concurrent::Concurrent;
use super::limit::{Alert, Limit};
use super::now::Now;
use super::outcome::{Exceeded, Fits};
use super::plan::Applicable;
use crate::state::ledger::{Account, InFlight, Use, Uses};

/// A request, and what it counts against.
#[derive(Clone, Copy)]
pub(super) struct Counted<'a> {
    /// The limits of its consumer or address, and those of the user that the consumer acts for.
    pub(super) parts: [Option<Part<'a>>; 2],
    pub(super) cost: NonZeroU32,
    /// Counted in the first account.
    pub(super) concurrent: Option<&'a Concurrent>,
}

/// Limits that are counted in one account.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) limits: Applicable<'a>,
    pub(super) account: &'a Arc<Account>,
}

/// The accounts of a request, locked in the order of its parts.
pub(super) struct Locked<'a>([Option<(Part<'a>, MutexGuard<'a, Uses>)>; 2]);

/// Whether a request fits a limit, as far as this node knows without asking.
#[derive(Clone, Copy)]
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
pub(super) struct Verdict<'a> {
    /// The limit that refuses it; of several, the one that takes longest, since waiting for that one suffices for all.
    pub(super) refused: Option<(&'a Limit, Exceeded)>,
    /// The limit that is nearest.
    pub(super) nearest: Option<(&'a Limit, Fits)>,
    /// Whether the store has to be asked about one, unless another refuses.
    too_little: bool,
}

/// What was decided.
pub(super) struct Decided<'a> {
    pub(super) verdict: Verdict<'a>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) alerts: Vec<Alert>,
}

impl<'a> Verdict<'a> {
    fn add(&mut self, limit: &'a Limit, known: Known) {
        match known {
            Known::Fits(fits) => {
                let distance = |fits: &Fits| (fits.remaining, Reverse(fits.full_after));
                if self.nearest.as_ref().is_none_or(|(_, nearest)| distance(&fits) < distance(nearest)) {
                    self.nearest = Some((limit, fits));
                }
            }
            Known::Exceeded(exceeded) => {
                if self.refused.as_ref().is_none_or(|(_, longest)| exceeded.wait() >= longest.wait()) {
                    self.refused = Some((limit, exceeded));
                }
            }
            Known::TooLittle => self.too_little = true,
        }
    }

    /// Whether the store has to be asked before there is a decision.
    pub(super) fn is_open(&self) -> bool {
        self.too_little && self.refused.is_none()
    }
}

impl<'a> Locked<'a> {
    /// The parts, with what has been used in their accounts.
    pub(super) fn parts(&mut self) -> impl Iterator<Item = (Part<'a>, &mut Uses)> {
        self.0.iter_mut().flatten().map(|(part, uses)| (*part, &mut **uses))
    }

    /// Passes each limit, with what has been used of it.
    fn each(&mut self, now: Now, mut each: impl FnMut(&'a Limit, &mut Use)) {
        for (part, uses) in self.parts() {
            part.limits.iter().for_each(|limit| each(limit, uses.of(limit.id(), now.tick)));
        }
    }

    /// Looks at each limit in turn.
    pub(super) fn look(&mut self, now: Now, mut known: impl FnMut(&'a Limit, &mut Use) -> Known) -> Verdict<'a> {
        let mut verdict = Verdict::default();
        self.each(now, |limit, used| verdict.add(limit, known(limit, used)));
        verdict
    }
}

impl<'a> Counted<'a> {
    /// Locks its accounts for one decision.
    pub(super) fn lock(&self) -> Locked<'a> {
        Locked(self.parts.map(|part| part.map(|part| (part, part.account.uses()))))
    }

    /// Decides by what this node has counted.
    pub(super) fn decide(self, now: Now) -> Decided<'a> {
        let mut locked = self.lock();
        let verdict = locked.look(now, |limit, used| {
            limit.renew(used, now);
            limit.decide(used, self.cost, now).into()
        });
        self.complete(verdict, &mut locked, now, |limit, used| limit.take(used, self.cost))
    }

    /// Takes from each limit, if the request fits all.
    pub(super) fn complete(
        self,
        verdict: Verdict<'a>,
        locked: &mut Locked<'a>,
        now: Now,
        take: impl FnMut(&'a Limit, &mut Use),
    ) -> Decided<'a> {
        let first = || self.parts.first().copied().flatten();
        let in_flight = || locked.0.first().and_then(Option::as_ref).map_or(0, |(_, uses)| uses.in_flight);
        let fits = verdict.refused.is_none() && self.concurrent.is_none_or(|limit| limit.admits(in_flight()));
        if fits {
            locked.each(now, take);
        }
        let mut alerts = Vec::new();
        locked.each(now, |limit, used| {
            if used.alert > 0 {
                alerts.extend(limit.alert(used, now));
            }
        });
        let concurrent = self.concurrent.filter(|_| fits).and_then(|_| first().zip(locked.parts().next()));
        let in_flight = concurrent.map(|(part, (_, uses))| InFlight::begin(part.account, uses));
        Decided { verdict, in_flight, alerts }
    }
}
