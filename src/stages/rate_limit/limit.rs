//! One limit on what a caller may use: a rate, or a quota.

use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;

use super::now::Now;
use super::outcome::{Exceeded, Fits};
use super::quota::Quota;
use super::rate::Rate;
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::state::ledger::{LimitId, Terms, Tick, Use};

/// A limit that a policy names.
#[derive(Debug)]
pub(crate) struct Limit {
    id: LimitId,
    name: Box<str>,
    policy_item: HeaderValue,
    /// What it allows, in words; and that with its name.
    allowance: Box<str>,
    words: Box<str>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Rate(Rate),
    Quota(Quota),
}

/// A quota of which much has been used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alert {
    /// The name of the quota.
    pub(crate) limit: Box<str>,
    /// How much of it: 80 or 100 percent.
    pub(crate) percent: u8,
    /// When it resets.
    pub(crate) resets: Timestamp,
}

impl Limit {
    /// A rate of `count` in `per`; `burst` defaults to one second's worth, at least 1. The error says why it is not possible.
    pub(crate) fn rate(
        id: LimitId,
        name: &str,
        count: NonZeroU32,
        per: Duration,
        burst: Option<NonZeroU32>,
    ) -> Result<Self, String> {
        let rate = Rate::new(count, per, burst)?;
        let (burst, seconds) = (rate.burst(), rate.window().as_nanos().div_ceil(1_000_000_000).max(1));
        let allowance = format!("{count} per {per:?}, {burst} at once");
        Ok(Self {
            id,
            name: name.into(),
            policy_item: header(format!(r#""{name}";q={burst};w={seconds}"#))?,
            words: format!("the limit `{name}` allows {allowance}").into(),
            allowance: allowance.into(),
            kind: Kind::Rate(rate),
        })
    }

    /// A quota. The error says why it is not possible.
    pub(crate) fn quota(id: LimitId, name: &str, quota: Quota) -> Result<Self, String> {
        let (count, every) = (quota.count(), quota.every());
        let window = every.seconds().map(|seconds| format!(";w={seconds}")).unwrap_or_default();
        let allowance = format!("{count} per {} ({})", every.as_str(), quota.zone());
        Ok(Self {
            id,
            name: name.into(),
            policy_item: header(format!(r#""{name}";q={count}{window}"#))?,
            words: format!("the quota `{name}` allows {allowance}").into(),
            allowance: allowance.into(),
            kind: Kind::Quota(quota),
        })
    }

    /// Identifies it, in every policy and on every node.
    pub(crate) fn id(&self) -> LimitId {
        self.id
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it allows, in words.
    pub(crate) fn words(&self) -> &str {
        &self.words
    }

    /// What it allows, in words, without its name: `5 per 1s, 10 at once`.
    pub(crate) fn allowance(&self) -> &str {
        &self.allowance
    }

    /// Whether it is a quota.
    pub(crate) fn is_quota(&self) -> bool {
        matches!(self.kind, Kind::Quota(_))
    }

    /// The most that a request can cost: a burst, or a whole quota.
    pub(crate) fn most(&self) -> NonZeroU32 {
        match &self.kind {
            Kind::Rate(rate) => rate.burst(),
            Kind::Quota(quota) => quota.count(),
        }
    }

    /// Brings what was used under another policy, or in another window, into this one.
    pub(super) fn renew(&self, used: &mut Use, now: Now) {
        match &self.kind {
            Kind::Rate(rate) => used.full_at = rate.within_window(used.full_at, now.tick),
            Kind::Quota(quota) => quota.renew(used, now),
        }
    }

    /// Decides whether a request of this cost fits. Takes nothing; [`Self::take`] does.
    pub(super) fn decide(&self, used: &mut Use, cost: NonZeroU32, now: Now) -> Result<Fits, Exceeded> {
        let decided = match &self.kind {
            Kind::Rate(rate) => rate.decide(used.full_at, cost, now.tick),
            Kind::Quota(quota) => quota.decide(used, cost, now),
        };
        used.planned = decided.as_ref().map_or(used.full_at, |fits| fits.full_at);
        decided
    }

    /// Decides like [`Self::decide`], for the share of one of so many nodes.
    pub(super) fn decide_share(
        &self,
        nodes: u32,
        used: &mut Use,
        cost: NonZeroU32,
        now: Now,
    ) -> Result<Fits, Exceeded> {
        let decided = match &self.kind {
            Kind::Rate(rate) => rate.decide_share(nodes, used.full_at, cost, now.tick),
            Kind::Quota(quota) => quota.decide_share(nodes, used, cost, now),
        };
        used.planned = decided.as_ref().map_or(used.full_at, |fits| fits.full_at);
        decided
    }

    /// Counts a request for which [`Self::decide`] has just found room.
    pub(super) fn take(&self, used: &mut Use, cost: NonZeroU32) {
        match &self.kind {
            Kind::Rate(_) => used.full_at = used.planned,
            Kind::Quota(quota) => quota.take(used, cost),
        }
    }

    /// Counts a request like [`Self::take`]; the store learns of it later.
    pub(super) fn take_share(&self, used: &mut Use, cost: NonZeroU32, now: Now) {
        used.block.terms = Some(self.terms(now));
        used.block.since = used.block.since.max(used.since);
        used.block.owed += i64::from(cost.get());
        used.full_at = used.planned;
    }

    /// What is left, as far as is known here.
    pub(super) fn remaining(&self, used: &Use, now: Tick) -> u32 {
        match &self.kind {
            Kind::Rate(rate) => rate.remaining(used.full_at.saturating_sub(now.0)),
            Kind::Quota(quota) => quota.remaining(used),
        }
    }

    /// When a quota resets, or when a bucket is full that needs this many more nanoseconds. `None`: it is full.
    pub(super) fn resets(&self, full_after: u64, now: Now) -> Option<Timestamp> {
        match &self.kind {
            Kind::Rate(_) => (full_after > 0).then(|| now.after(full_after).at),
            Kind::Quota(quota) => Some(quota.resets(now.at)),
        }
    }

    /// How it is counted in a store.
    pub(super) fn terms(&self, now: Now) -> Terms {
        match &self.kind {
            Kind::Rate(rate) => Terms::Rate { one: rate.one(), burst: rate.burst().get() },
            Kind::Quota(quota) => quota.terms(now.at),
        }
    }

    /// How much longer a request that costs this much more has to wait, in nanoseconds.
    pub(super) fn longer(&self, more: u32) -> u64 {
        match &self.kind {
            Kind::Rate(rate) => rate.one().saturating_mul(more.into()),
            Kind::Quota(_) => 0,
        }
    }

    /// The most that a node takes from a store in advance.
    pub(super) fn largest_block(&self) -> u32 {
        match &self.kind {
            Kind::Rate(rate) => rate.largest_block(),
            Kind::Quota(quota) => quota.largest_block(),
        }
    }

    /// How much a node waits for when there is too little.
    pub(super) fn worth_asking(&self) -> u32 {
        match &self.kind {
            Kind::Rate(rate) => rate.worth_asking(),
            Kind::Quota(_) => 1,
        }
    }

    /// What is to be reported about what was used, once.
    pub(super) fn alert(&self, used: &mut Use, now: Now) -> Option<Alert> {
        let percent = std::mem::take(&mut used.alert);
        let Kind::Quota(quota) = &self.kind else { return None };
        (percent > 0).then(|| Alert { limit: self.name.clone(), percent, resets: quota.resets(now.at) })
    }

    /// For `RateLimit-Policy`: the quota, and the window in seconds.
    pub(crate) fn policy_item(&self) -> &HeaderValue {
        &self.policy_item
    }

    /// For `RateLimit`: what remains, and the seconds until it is replenished.
    pub(crate) fn state_item(&self, remaining: u32, reset: Duration) -> String {
        let mut numbers = (itoa::Buffer::new(), itoa::Buffer::new());
        let seconds = reset.as_secs() + u64::from(reset.subsec_nanos() > 0);
        let parts = ["\"", &*self.name, "\";r=", numbers.0.format(remaining), ";t=", numbers.1.format(seconds)];
        parts.concat()
    }

    /// The refusal of a request that does not fit.
    pub(super) fn refusal(&self, exceeded: &Exceeded, cost: NonZeroU32, now: Now) -> Refusal {
        let retry_after = exceeded.wait.map(whole_seconds);
        let (reason, detail) = match (&self.kind, retry_after) {
            (_, None) => {
                (Reason::RateLimited, format!("a request to this route costs {cost}, which never fits; {}", self.words))
            }
            (Kind::Rate(_), Some(seconds)) => {
                (Reason::RateLimited, format!("wait {seconds} s before the next request; {}", self.words))
            }
            (Kind::Quota(quota), Some(_)) => {
                let used = if exceeded.remaining == 0 { "is used up" } else { "is nearly used up" };
                let resets = quota.resets(now.at);
                (Reason::QuotaExceeded, format!("the quota {used}, and resets at {resets}; {}", self.words))
            }
        };
        let members = Members { retry_after, ..Members::default() };
        Refusal::new(Stage::RateLimit, reason, detail).members(members)
    }
}

fn header(item: String) -> Result<HeaderValue, String> {
    HeaderValue::try_from(item).map_err(|_| "the name cannot stand in a header".to_owned())
}

/// Rounded up, at least 1, so that a retry after this time is allowed.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::quota::Every;
    use super::*;

    #[test]
    fn the_default_burst_is_a_seconds_worth() {
        for (count, per, header) in [
            (200, 1, r#""gold";q=200;w=1"#),
            (600, 60, r#""gold";q=10;w=1"#),
            (5, 60, r#""gold";q=1;w=12"#),
            (100_000, 86_400, r#""gold";q=1;w=1"#),
        ] {
            let (count, per) = (NonZeroU32::new(count).unwrap(), Duration::from_secs(per));
            let limit = Limit::rate(LimitId::plan(), "gold", count, per, None).unwrap();
            assert_eq!(limit.policy_item(), header, "{count} in {per:?}");
            assert_eq!(limit.state_item(3, Duration::from_millis(1200)), r#""gold";r=3;t=2"#);
        }
    }

    /// A day has a length; a month does not.
    #[test]
    fn a_quota_says_what_it_allows_and_when_it_begins_anew() {
        let limit = |every| {
            let quota = Quota::new(NonZeroU32::new(10).unwrap(), every, TimeZone::get("Europe/Berlin").unwrap());
            Limit::quota(LimitId::quota(None, every.as_str()), "gold-day", quota).unwrap()
        };
        for (every, header) in [
            (Every::Hour, r#""gold-day";q=10;w=3600"#),
            (Every::Day, r#""gold-day";q=10;w=86400"#),
            (Every::Month, r#""gold-day";q=10"#),
        ] {
            assert_eq!(limit(every).policy_item(), header);
        }
        let now = Now { tick: Tick(1), at: "2026-11-27T12:00:00Z".parse().unwrap() };
        let exceeded = Exceeded { wait: Some(Duration::from_secs(11 * 3600)), remaining: 0 };
        let refusal = limit(Every::Day).refusal(&exceeded, NonZeroU32::MIN, now);
        assert_eq!(refusal.reason().code(), "quota_exceeded");
        assert_eq!(
            refusal.detail(),
            "the quota is used up, and resets at 2026-11-27T23:00:00Z; the quota `gold-day` allows 10 per day \
             (Europe/Berlin)"
        );
    }
}
