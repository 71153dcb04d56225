//! A rate: the GCRA of the governor crate, applied to a bucket of the ledger.
//!
//! Governor only does the arithmetic. The state and the time are arguments, so a decision depends only on its arguments,
//! changes nothing, and a bucket outlives the policy that created the rate.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::atomic::Ordering;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use super::outcome::{Exceeded, Fits};
use crate::state::ledger::{Bucket, Tick};

/// Longest time to refill a burst. Adding it to any time does not overflow.
const MAX_WINDOW: Duration = Duration::from_secs(366 * 86_400);

/// How long what a node takes from a store in advance may last at the sustained rate.
const IN_ADVANCE: Duration = Duration::from_millis(100);
/// A node that found too little asks again when this much time's worth has been refilled.
const WORTH_ASKING: Duration = Duration::from_millis(10);

/// A sustained rate and a burst.
#[derive(Debug)]
pub(crate) struct Rate {
    quota: Quota,
    /// Time to refill the burst, in nanoseconds.
    window: u64,
}

impl Rate {
    /// `count` in `per`; `burst` defaults to one second's worth, at least 1. The error says why the rate is not possible.
    pub(crate) fn new(count: NonZeroU32, per: Duration, burst: Option<NonZeroU32>) -> Result<Self, String> {
        let one = per / count.get();
        let quota = Quota::with_period(one).ok_or("the rate is too high: at most one a nanosecond can be kept")?;
        let a_second = u32::try_from(1_000_000_000 / one.as_nanos().max(1)).unwrap_or(u32::MAX);
        let burst = burst.unwrap_or_else(|| NonZeroU32::new(a_second).unwrap_or(NonZeroU32::MIN));
        let window = one.saturating_mul(burst.get());
        if window > MAX_WINDOW {
            return Err(
                "the burst would take more than a year to fill again: raise the rate, or lower the burst".to_owned()
            );
        }
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { quota: quota.allow_burst(burst), window })
    }

    /// What may come at once, and the most that a request can cost.
    pub(super) fn burst(&self) -> NonZeroU32 {
        self.quota.burst_size()
    }

    /// When a bucket will be full at this rate. One that was used at a lower rate is empty, and no emptier than this rate
    /// could make it: a rate that was raised holds at once, and no change locks anybody out for longer than the new window.
    pub(super) fn within_window(&self, full_at: u64, now: Tick) -> u64 {
        full_at.min(now.0.saturating_add(self.window))
    }

    /// Time to refill one, in nanoseconds.
    pub(super) fn one(&self) -> u64 {
        u64::try_from(self.quota.replenish_interval().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Time to refill the burst.
    pub(super) fn window(&self) -> Duration {
        Duration::from_nanos(self.window)
    }

    /// The most that a node takes from a store in advance: what is refilled in [`IN_ADVANCE`], and no more than a quarter of
    /// the burst.
    pub(super) fn largest_block(&self) -> u32 {
        self.refilled_in(IN_ADVANCE).min(self.burst().get() / 4).max(1)
    }

    /// How much a node waits for when there is too little.
    pub(super) fn worth_asking(&self) -> u32 {
        self.refilled_in(WORTH_ASKING).min(self.burst().get() / 4).max(1)
    }

    fn refilled_in(&self, time: Duration) -> u32 {
        u32::try_from(time.as_nanos() / u128::from(self.one())).unwrap_or(u32::MAX)
    }

    /// Decides like [`Self::decide`], for the share of one of so many nodes.
    pub(super) fn decide_share(&self, nodes: u32, full_at: u64, cost: NonZeroU32, now: Tick) -> Result<Fits, Exceeded> {
        let burst = NonZeroU32::new(self.burst().get() / nodes.max(1)).map_or(cost, |burst| burst.max(cost));
        let share = Quota::with_period(self.quota.replenish_interval().saturating_mul(nodes.max(1)));
        match share {
            Some(quota) if cost <= self.burst() => decide(quota.allow_burst(burst), full_at, cost, now),
            _ => self.decide(full_at, cost, now),
        }
    }

    /// Decides whether a request of this cost fits, given when the bucket will be full. Takes nothing.
    pub(super) fn decide(&self, full_at: u64, cost: NonZeroU32, now: Tick) -> Result<Fits, Exceeded> {
        decide(self.quota, full_at, cost, now)
    }

    /// How much is allowed when a bucket is full after `missing` nanoseconds.
    pub(super) fn remaining(&self, missing: u64) -> u32 {
        remaining(self.quota, missing)
    }

    /// Counts one request, or returns how long to wait.
    pub(crate) fn take(&self, bucket: &Bucket, now: Tick) -> Result<(), Duration> {
        let mut before = bucket.0.load(Ordering::Acquire);
        loop {
            let at_most = self.within_window(before, now);
            let decided = self.decide(at_most, NonZeroU32::MIN, now);
            let after = decided.as_ref().map_or(at_most, |fits| fits.full_at);
            match bucket.0.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return decided.map(drop).map_err(|exceeded| exceeded.wait()),
                Err(changed) => before = changed,
            }
        }
    }

    /// Takes back one request that [`Self::take`] has counted.
    pub(crate) fn give_back(&self, bucket: &Bucket) {
        let one = self.one();
        let _ = bucket.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |full| Some(full.saturating_sub(one)));
    }

    /// Decides like [`Self::take`], but does not count the request.
    pub(crate) fn peek(&self, bucket: &Bucket, now: Tick) -> Result<(), Duration> {
        self.decide(self.within_window(bucket.0.load(Ordering::Acquire), now), NonZeroU32::MIN, now)
            .map(drop)
            .map_err(|exceeded| exceeded.wait())
    }
}

fn decide(quota: Quota, full_at: u64, cost: NonZeroU32, now: Tick) -> Result<Fits, Exceeded> {
    let missing = full_at.saturating_sub(now.0);
    let state = Once { before: (full_at != 0).then(|| Nanos::from(missing)), after: Cell::default() };
    let limiter = RateLimiter::<_, _, _, StateInformationMiddleware>::new(quota, state, AtOnce);
    match limiter.check_n(cost) {
        Ok(Ok(snapshot)) => {
            let after = limiter.into_state_store().after.get();
            Ok(Fits {
                full_at: now.0.saturating_add(after.as_u64()),
                remaining: snapshot.remaining_burst_capacity(),
                full_after: after.into(),
            })
        }
        Ok(Err(until)) => {
            let wait = until.wait_time_from(Relative(0));
            Err(Exceeded { wait: Some(wait), remaining: remaining(quota, missing) })
        }
        Err(_) => Err(Exceeded { wait: None, remaining: remaining(quota, missing) }),
    }
}

/// Governor measures time from the creation of its limiter. Ours is created for one decision, so that time is "now", and
/// everything else is relative to it.
struct AtOnce;

impl Clock for AtOnce {
    type Instant = Relative;

    fn now(&self) -> Relative {
        Relative(0)
    }
}

/// Nanoseconds after "now".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Relative(u64);

impl Add<Nanos> for Relative {
    type Output = Self;

    fn add(self, later: Nanos) -> Self {
        Self(self.0.saturating_add(later.as_u64()))
    }
}

impl Reference for Relative {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration.as_u64()))
    }
}

/// A bucket relative to "now": the store of one limiter that makes one decision.
struct Once {
    before: Option<Nanos>,
    after: Cell<Nanos>,
}

impl StateStore for Once {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, after) = decide(self.before)?;
        self.after.set(after);
        Ok(outcome)
    }
}

/// How much a bucket allows that is full after `missing` nanoseconds.
fn remaining(quota: Quota, missing: u64) -> u32 {
    let one = u64::try_from(quota.replenish_interval().as_nanos()).unwrap_or(u64::MAX).max(1);
    let used = u32::try_from(missing.div_ceil(one)).unwrap_or(u32::MAX);
    quota.burst_size().get().saturating_sub(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(count: u32, per_seconds: u64, burst: Option<u32>) -> Rate {
        let burst = burst.map(|burst| NonZeroU32::new(burst).unwrap());
        Rate::new(NonZeroU32::new(count).unwrap(), Duration::from_secs(per_seconds), burst).unwrap()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (rate, bucket) = (rate(2, 1, Some(3)), Bucket::default());
        let start = 5 * SECOND;
        for (at, expected) in [
            (start, Ok(2)),
            (start, Ok(1)),
            (start, Ok(0)),
            (start, Err(SECOND / 2)),
            (start, Err(SECOND / 2)), // refused requests took nothing
            (start + SECOND / 2, Ok(0)),
            (start + SECOND / 2, Err(SECOND / 2)),
            (start + 60 * SECOND, Ok(2)),
        ] {
            let full_at = bucket.0.load(Ordering::Relaxed);
            let left = rate.decide(full_at, NonZeroU32::MIN, Tick(at)).map(|fits| fits.remaining);
            assert_eq!(left.map_err(|exceeded| exceeded.wait().as_nanos() as u64), expected, "at {at}");
            assert_eq!(rate.take(&bucket, Tick(at)).is_ok(), expected.is_ok(), "at {at}");
        }
    }

    #[test]
    fn a_new_rate_refills_nobody() {
        let (before, after, bucket) = (rate(1, 60, Some(5)), rate(1, 1, Some(5)), Bucket::default());
        let now = Tick(SECOND);
        while before.take(&bucket, now).is_ok() {}
        assert!(after.take(&bucket, now).is_err(), "used up under the old rate is used up under the new");
    }

    /// A raised rate holds at once, and a lowered one locks nobody out for longer than its own window.
    #[test]
    fn a_new_rate_counts_from_its_own_window() {
        let a_day = 86_400;
        let (slow, fast) = (rate(5, a_day, Some(5)), rate(10, 1, Some(10)));
        let (bucket, now) = (Bucket::default(), Tick(SECOND));
        while slow.take(&bucket, now).is_ok() {}
        assert_eq!(fast.take(&bucket, now), Err(Duration::from_millis(100)));
        assert_eq!(fast.take(&bucket, Tick(now.0 + SECOND / 10)), Ok(()));
        let bucket = Bucket::default();
        while fast.take(&bucket, now).is_ok() {}
        assert_eq!(slow.take(&bucket, now), Ok(()));
    }

    #[test]
    fn a_request_that_costs_more_takes_more_and_one_above_the_burst_never_fits() {
        let rate = rate(1, 1, Some(10));
        let decide = |full_at, cost| rate.decide(full_at, NonZeroU32::new(cost).unwrap(), Tick(SECOND));
        let fits = decide(0, 4).unwrap();
        assert_eq!((fits.remaining, fits.full_after), (6, Duration::from_secs(4)));
        let exceeded = Exceeded { wait: Some(Duration::from_secs(1)), remaining: 6 };
        assert_eq!(decide(fits.full_at, 7), Err(exceeded));
        assert_eq!(decide(fits.full_at, 6).unwrap().remaining, 0);
        assert_eq!(decide(0, 11), Err(Exceeded { wait: None, remaining: 10 }));
    }

    #[test]
    fn the_clock_going_back_never_opens_and_extremes_do_not_overflow() {
        let (rate, bucket) = (rate(1, 60, Some(1)), Bucket::default());
        assert!(rate.take(&bucket, Tick(100 * SECOND)).is_ok());
        assert!(rate.take(&bucket, Tick(99 * SECOND)).is_err());
        let a_day = Duration::from_secs(86_400);
        assert!(Rate::new(NonZeroU32::MIN, a_day, NonZeroU32::new(u32::MAX)).is_err());
        let wide = Rate::new(NonZeroU32::MIN, a_day, NonZeroU32::new(366)).unwrap();
        assert!(wide.take(&Bucket::default(), Tick(u64::MAX - 1)).is_ok());
        assert!(Rate::new(NonZeroU32::MAX, Duration::from_secs(1), None).is_err());
    }
}
