//! A quota: how much a caller may use in an hour, a day or a month of the calendar.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::now::Now;
use super::outcome::{Exceeded, Fits};
use crate::state::ledger::{Terms, Use, WRONG_CLOCK, alert};

/// The part of a quota that a node takes from a store in advance at most.
const LARGEST_PART: u32 = 100;
/// No block is larger: what a node that is killed has taken is lost until the quota resets.
const LARGEST_BLOCK: u32 = 1000;

/// When a quota resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Every {
    /// At the full hour.
    Hour,
    /// At midnight.
    Day,
    /// At midnight of the first day of a month.
    Month,
}

impl Every {
    /// As the policy writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// Its length in seconds, if that is always the same.
    pub(super) fn seconds(self) -> Option<u32> {
        match self {
            Self::Hour => Some(3600),
            // With a change of the clock it has an hour more or less.
            Self::Day => Some(86_400),
            Self::Month => None,
        }
    }
}

/// A period in which a quota counts, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    since: u32,
    /// The first second after it.
    ends: u32,
}

/// What may be used in each window of the calendar.
#[derive(Debug)]
pub(crate) struct Quota {
    count: NonZeroU32,
    every: Every,
    zone: TimeZone,
    /// The window that was computed last: its ends in the two halves. Calendars are slow.
    last: AtomicU64,
}

impl Quota {
    pub(crate) fn new(count: NonZeroU32, every: Every, zone: TimeZone) -> Self {
        Self { count, every, zone, last: AtomicU64::new(0) }
    }

    pub(super) fn count(&self) -> NonZeroU32 {
        self.count
    }

    pub(crate) fn every(&self) -> Every {
        self.every
    }

    /// The name of its time zone.
    pub(super) fn zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The window at this moment.
    fn window(&self, at: Timestamp) -> Window {
        let now = u32::try_from(at.as_second()).unwrap_or(0);
        let last = self.last.load(Ordering::Relaxed);
        let (since, ends) = ((last >> 32) as u32, last as u32);
        if since <= now && now < ends {
            return Window { since, ends };
        }
        match self.bounds(at) {
            Some((since, ends)) => {
                self.last.store((u64::from(since) << 32) | u64::from(ends), Ordering::Relaxed);
                Window { since, ends }
            }
            // Before 1970, or after 2106: what is used counts until the clock is right.
            None => Window { since: 0, ends: u32::MAX },
        }
    }

    fn bounds(&self, at: Timestamp) -> Option<(u32, u32)> {
        let now = at.to_zoned_datetime(self.zone.clone());
        // A day begins later where a change of the clock leaves out midnight.
        let begins = |date: Date| {
            let midnight = date.to_datetime(Time::midnight()).to_zoned_datetime(self.zone.clone()).ok()?;
            u32::try_from(midnight.start_of_day().ok()?.timestamp().as_second()).ok()
        };
        match self.every {
            // An hour that a change of the clock repeats counts as two.
            Every::Hour => {
                let since = at.as_second() - i64::from(now.minute()) * 60 - i64::from(now.second());
                Some((u32::try_from(since).ok()?, u32::try_from(since + 3600).ok()?))
            }
            Every::Day => Some((begins(now.date())?, begins(now.date().tomorrow().ok()?)?)),
            Every::Month => {
                let first = now.date().first_of_month();
                Some((begins(first)?, begins(first.checked_add(1.month()).ok()?)?))
            }
        }
    }

    /// Begins anew in a new window. What was used in one that began later counts in this one, too, so that a clock that is set
    /// back refills nobody, unless that was so much later that the clock must have been wrong. In another time zone, the window
    /// may end earlier, once.
    pub(super) fn renew(&self, used: &mut Use, now: Now) {
        let window = self.window(now.at);
        let is_wrong = i64::from(used.since) > now.at.as_second().saturating_add(WRONG_CLOCK.into());
        if used.since < window.since || is_wrong {
            (used.since, used.used, used.told, used.alert) = (window.since, 0, 0, 0);
            // What was taken in advance, or is owed, is part of the former window.
            (used.block.tokens, used.block.owed, used.block.refused) = (0, 0, None);
        }
        used.full_at = now.tick.0.saturating_add(nanoseconds_until(window.ends, now.at));
    }

    /// When it resets.
    pub(super) fn resets(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_second(self.window(at).ends.into()).unwrap_or(Timestamp::MAX)
    }

    /// How it is counted in a store.
    pub(super) fn terms(&self, at: Timestamp) -> Terms {
        let Window { since, ends } = self.window(at);
        Terms::Quota { count: self.count.get(), since, ends }
    }

    /// Decides whether a request of this cost fits. Takes nothing.
    pub(super) fn decide(&self, used: &Use, cost: NonZeroU32, now: Now) -> Result<Fits, Exceeded> {
        self.decide_of(self.remaining(used), used, cost, now)
    }

    /// Decides like [`Self::decide`], for the share of one of so many nodes: its part of what was left when the store answered
    /// last.
    pub(super) fn decide_share(&self, nodes: u32, used: &Use, cost: NonZeroU32, now: Now) -> Result<Fits, Exceeded> {
        let spent = u32::try_from(used.block.owed.max(0)).unwrap_or(u32::MAX).saturating_add(used.block.telling);
        self.decide_of((self.remaining(used) / nodes.max(1)).saturating_sub(spent), used, cost, now)
    }

    fn decide_of(&self, left: u32, used: &Use, cost: NonZeroU32, now: Now) -> Result<Fits, Exceeded> {
        let full_after = Duration::from_nanos(used.full_at.saturating_sub(now.tick.0));
        match left.checked_sub(cost.get()) {
            Some(remaining) => Ok(Fits { full_at: used.full_at, remaining, full_after }),
            None => Err(Exceeded { wait: (cost <= self.count).then_some(full_after), remaining: left }),
        }
    }

    /// What is left, as far as is known.
    pub(super) fn remaining(&self, used: &Use) -> u32 {
        self.count.get().saturating_sub(used.used)
    }

    /// The most that a node takes from a store in advance.
    pub(super) fn largest_block(&self) -> u32 {
        (self.count.get() / LARGEST_PART).clamp(1, LARGEST_BLOCK)
    }

    /// Counts a request, and notes if that is worth an alert.
    pub(super) fn take(&self, used: &mut Use, cost: NonZeroU32) {
        used.used = used.used.saturating_add(cost.get());
        let (told, share) = alert(used.used, self.count.get(), used.told);
        (used.told, used.alert) = (told, used.alert.max(share));
    }
}

fn nanoseconds_until(second: u32, at: Timestamp) -> u64 {
    let left = i128::from(second) * 1_000_000_000 - at.as_nanosecond();
    u64::try_from(left.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ledger::Tick;

    fn quota(count: u32, every: Every, zone: &str) -> Quota {
        Quota::new(NonZeroU32::new(count).unwrap(), every, TimeZone::get(zone).unwrap())
    }

    fn now(at: &str) -> Now {
        let at: Timestamp = at.parse().unwrap();
        // A monotonic clock that began with the year, and never stops.
        Now { tick: Tick(u64::try_from((at.as_second() - 1_767_225_600) * 1_000_000_000 + 1).unwrap()), at }
    }

    /// Months have their own lengths, and days 23 or 25 hours where clocks change.
    #[test]
    fn windows_follow_the_calendar_of_their_zone() {
        for (every, zone, at, since, ends) in [
            (Every::Hour, "UTC", "2026-11-27T07:59:59Z", "2026-11-27T07:00:00Z", "2026-11-27T08:00:00Z"),
            (Every::Hour, "Asia/Kolkata", "2026-11-27T07:59:59Z", "2026-11-27T07:30:00Z", "2026-11-27T08:30:00Z"),
            (Every::Day, "UTC", "2026-11-27T00:00:00Z", "2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z"),
            (Every::Day, "Europe/Berlin", "2026-11-26T23:30:00Z", "2026-11-26T23:00:00Z", "2026-11-27T23:00:00Z"),
            (Every::Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            (Every::Day, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            // Midnight is left out here.
            (Every::Day, "America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"),
            (Every::Month, "UTC", "2026-01-31T23:59:59Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            (Every::Month, "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Every::Month, "UTC", "2026-12-31T12:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Every::Month, "America/New_York", "2026-11-01T03:00:00Z", "2026-10-01T04:00:00Z", "2026-11-01T04:00:00Z"),
        ] {
            let quota = quota(10, every, zone);
            let seconds = |text: &str| u32::try_from(text.parse::<Timestamp>().unwrap().as_second()).unwrap();
            let expected = Window { since: seconds(since), ends: seconds(ends) };
            // The second answer is the remembered one.
            for _ in 0..2 {
                assert_eq!(quota.window(at.parse().unwrap()), expected, "{every:?} {zone} {at}");
            }
        }
    }

    #[test]
    fn a_month_of_31_days_ends_after_31_days() {
        let (quota, mut used) = (quota(3, Every::Month, "UTC"), Use::default());
        let mut call = |at: &str, cost| {
            let (now, cost) = (now(at), NonZeroU32::new(cost).unwrap());
            quota.renew(&mut used, now);
            let decided = quota.decide(&used, cost, now);
            if decided.is_ok() {
                quota.take(&mut used, cost);
            }
            let alert = std::mem::take(&mut used.alert);
            decided.map(|fits| (fits.remaining, alert)).map_err(|exceeded| (exceeded.remaining, exceeded.wait))
        };
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        assert_eq!(call("2026-01-01T00:00:00Z", 2), Ok((1, 0)));
        assert_eq!(call("2026-01-31T22:00:00Z", 2), Err((1, hours(2))), "nothing is taken");
        assert_eq!(call("2026-01-31T22:00:00Z", 4), Err((1, None)), "it never fits");
        assert_eq!(call("2026-01-31T23:00:00Z", 1), Ok((0, 100)));
        assert_eq!(call("2026-01-31T23:00:00Z", 1), Err((0, hours(1))));
        // A clock that is set back refills nobody.
        assert_eq!(call("2026-01-15T00:00:00Z", 1), Err((0, hours(17 * 24))));
        assert_eq!(call("2026-02-01T00:00:00Z", 1), Ok((2, 0)));
        assert_eq!(call("2026-01-31T23:59:59Z", 2), Ok((0, 100)));
        assert_eq!(call("2026-02-28T23:00:00Z", 1), Err((0, hours(1))));
    }

    /// A clock that was wrong does not count for ever: neither before 1970, nor far ahead.
    #[test]
    fn a_wrong_clock_ends_with_its_correction() {
        let (quota, mut used) = (quota(3, Every::Day, "Europe/Berlin"), Use::default());
        for (at, used_before) in [("1969-12-31T23:59:00Z", 0), ("2026-11-27T12:00:00Z", 0), ("2027-11-27T12:00:00Z", 0)]
        {
            let now = Now { tick: Tick(1), at: at.parse().unwrap() };
            quota.renew(&mut used, now);
            assert_eq!(used.used, used_before, "{at}");
            quota.take(&mut used, NonZeroU32::MIN);
        }
        quota.renew(&mut used, now("2026-11-27T13:00:00Z"));
        assert_eq!(
            (used.used, quota.resets("2026-11-27T13:00:00Z".parse().unwrap()).to_string()),
            (0, "2026-11-27T23:00:00Z".to_owned())
        );
    }

    #[test]
    fn each_share_is_reported_once() {
        let (quota, mut used, mut alerts) = (quota(10, Every::Day, "UTC"), Use::default(), Vec::new());
        for _ in 0..12 {
            quota.take(&mut used, NonZeroU32::MIN);
            alerts.push(std::mem::take(&mut used.alert));
        }
        assert_eq!(alerts, [0, 0, 0, 0, 0, 0, 0, 80, 0, 100, 0, 0]);
    }

    /// While the store does not answer, all nodes together spend what was left, and no more.
    #[test]
    fn a_share_is_a_part_of_what_was_left() {
        let (quota, now) = (quota(100, Every::Day, "UTC"), now("2026-11-27T12:00:00Z"));
        let share = |owed, cost| {
            let mut used = Use::default();
            (used.used, used.block.owed) = (70, owed);
            quota.decide_share(3, &used, NonZeroU32::new(cost).unwrap(), now).map(|fits| fits.remaining).ok()
        };
        let mut telling = Use::default();
        (telling.used, telling.block.telling) = (70, 10);
        assert!(quota.decide_share(3, &telling, NonZeroU32::MIN, now).is_err(), "what is being told is spent");
        for (owed, cost, left) in [(0, 1, Some(9)), (9, 1, Some(0)), (10, 1, None), (0, 11, None), (-5, 10, Some(0))] {
            assert_eq!(share(owed, cost), left, "{owed} {cost}");
        }
    }
}
