//! Whether a request is sent once more, and when (RFC 9110 §9.2.2).

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

use crate::egress::jittered;
use crate::policy::upstream::{Retries, RetryCause};
use crate::state::endpoint::ApiLoad;

/// Longest pause.
const LONGEST: Duration = Duration::from_secs(5);
/// Most further addresses that are tried, whatever the policy says of retries, because one took no connection.
const FURTHER: u32 = 2;

/// The attempts to send one request.
pub(super) struct Attempts<'a> {
    retries: Option<&'a Retries>,
    /// Whether handling it twice is the same as once.
    pub(super) is_idempotent: bool,
    load: &'a Arc<ApiLoad>,
    /// The positions of the addresses that failed.
    tried: Vec<usize>,
    /// How many of these were tried because the one before took no connection; these are no retries.
    further: u32,
    /// How many of these were asked for nothing, because all of their connections were in use.
    full: u32,
    /// When the response has to begin. No attempt begins later, and what it may take is what is left.
    end: Instant,
}

impl<'a> Attempts<'a> {
    /// Before the first one, at `begun`. It earns its share of the budget. `limit`: how long the upstream may take.
    pub(super) fn new(
        retries: Option<&'a Retries>,
        method: &Method,
        load: &'a Arc<ApiLoad>,
        begun: Instant,
        limit: Duration,
    ) -> Self {
        if let Some(retries) = retries {
            load.earn(retries.budget.0);
        }
        let is_idempotent = method.is_idempotent();
        Self { retries, is_idempotent, load, tried: Vec::new(), further: 0, full: 0, end: begun + limit }
    }

    /// The load of the API.
    pub(super) fn load(&self) -> &'a ApiLoad {
        self.load
    }

    /// The number of the current one, from 1.
    pub(super) fn number(&self) -> u32 {
        u32::try_from(self.tried.len()).unwrap_or(u32::MAX).saturating_sub(self.full).saturating_add(1)
    }

    /// The positions of the addresses that failed.
    pub(super) fn tried(&self) -> &[usize] {
        &self.tried
    }

    /// How long the response to the current one may take, which is this `limit` for the first.
    pub(super) fn limit(&self, limit: Duration, now: impl FnOnce() -> Instant) -> Duration {
        if self.tried.is_empty() { limit } else { limit.min(self.end.saturating_duration_since(now())) }
    }

    /// Whether there is another attempt, which is taken from the budget.
    pub(super) fn may_repeat(&self, cause: RetryCause, now: impl FnOnce() -> Instant) -> bool {
        let Some(retries) = self.retries else { return false };
        // One that is begun has time left after the pause.
        retries.covers(cause, self.is_idempotent)
            && self.repeated() < retries.most
            && now() + self.backoff() < self.end
            && self.load.spend()
    }

    /// How often it was sent once more because the policy says so.
    fn repeated(&self) -> u32 {
        self.number() - 1 - self.further
    }

    /// Whether it goes on to another address than this one, which took no connection, and those before: as with every client,
    /// without a pause, and whatever the policy says of retries. `others`: for each address, whether it may be chosen and is worth
    /// trying. One that may not be chosen would not be, and those that were tried would be tried for ever.
    pub(super) fn has_another_address(
        &mut self,
        position: usize,
        others: impl Iterator<Item = bool>,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        let is_new = |other: usize| other != position && !self.tried.contains(&other);
        let has_another = self.further < FURTHER
            && others.enumerate().any(|(other, is_usable)| is_usable && is_new(other))
            && now() < self.end;
        if has_another {
            self.tried.push(position);
            self.further += 1;
        }
        has_another
    }

    /// Whether it goes on to another address than this one, whose connections are all in use, and those before. That costs nothing, so
    /// that all may be asked. `others` is as for [`Self::has_another_address`].
    pub(super) fn has_another_free(&mut self, position: usize, others: impl Iterator<Item = bool>) -> bool {
        let is_new = |other: usize| other != position && !self.tried.contains(&other);
        let has_another = others.enumerate().any(|(other, is_usable)| is_usable && is_new(other));
        if has_another {
            self.tried.push(position);
            self.full += 1;
        }
        has_another
    }

    /// How much time is left for the request to begin.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.end.saturating_duration_since(now)
    }

    /// The longest pause before the next attempt.
    fn backoff(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.repeated()).unwrap_or(u32::MAX);
        let backoff = self.retries.map(|retries| retries.backoff.saturating_mul(doubled).min(LONGEST));
        backoff.unwrap_or_default()
    }

    /// Waits before the next attempt; this address failed.
    pub(super) async fn pause(&mut self, position: usize) {
        let pause = jittered(self.backoff());
        self.tried.push(position);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::policy::share::Share;

    fn attempts<'a>(retries: Option<&'a Retries>, method: &Method, load: &'a Arc<ApiLoad>) -> Attempts<'a> {
        Attempts::new(retries, method, load, Instant::now(), Duration::from_secs(3600))
    }

    #[test]
    fn what_may_have_been_handled_is_repeated_only_if_that_is_harmless() {
        let unavailable = RetryCause::Status(StatusCode::SERVICE_UNAVAILABLE);
        let failed = RetryCause::Status(StatusCode::INTERNAL_SERVER_ERROR);
        let all = Retries {
            most: 1,
            budget: Share(200_000),
            backoff: Duration::ZERO,
            on_connect: true,
            on: vec![StatusCode::SERVICE_UNAVAILABLE],
        };
        let statuses = Retries { on_connect: false, ..all.clone() };
        for (retries, method, cause, expected) in [
            (Some(&all), Method::GET, RetryCause::NotConnected, true),
            (Some(&all), Method::POST, RetryCause::NotConnected, true),
            (Some(&all), Method::GET, RetryCause::Unanswered, true),
            (Some(&all), Method::PUT, RetryCause::Unanswered, true),
            (Some(&all), Method::POST, RetryCause::Unanswered, false),
            (Some(&all), Method::PATCH, RetryCause::Unanswered, false),
            (Some(&all), Method::GET, unavailable, true),
            (Some(&all), Method::POST, unavailable, false),
            (Some(&all), Method::GET, failed, false),
            (Some(&statuses), Method::GET, RetryCause::NotConnected, false),
            (Some(&statuses), Method::GET, RetryCause::Unanswered, false),
            (Some(&statuses), Method::GET, unavailable, true),
            (None, Method::GET, RetryCause::NotConnected, false),
        ] {
            let load = Arc::default();
            let attempts = attempts(retries, &method, &load);
            assert_eq!(attempts.may_repeat(cause, Instant::now), expected, "{method} {cause:?}");
        }
    }

    #[test]
    fn others_that_may_be_chosen_are_tried_once_each_and_two_at_most() {
        let load = Arc::default();
        let mut trying = attempts(None, &Method::GET, &load);
        let mut next = |position, others: &[bool]| {
            (trying.has_another_address(position, others.iter().copied(), Instant::now), trying.tried().to_vec())
        };
        let all = [true, false, true, true, true];
        assert_eq!(next(0, &all), (true, vec![0]));
        assert_eq!(next(2, &all), (true, vec![0, 2]));
        assert_eq!(next(3, &all), (false, vec![0, 2]));
        // All others may not be chosen: the request ends instead of going round and round.
        for others in [&[true, false][..], &[true]] {
            assert!(!attempts(None, &Method::GET, &load).has_another_address(0, others.iter().copied(), Instant::now));
        }
    }

    #[test]
    fn all_attempts_together_have_the_time_of_one() {
        let retries = Retries { most: 5, budget: Share(0), backoff: Duration::ZERO, on_connect: true, on: Vec::new() };
        let (load, begun, limit) = (Arc::default(), Instant::now(), Duration::from_secs(15));
        let at = |second| move || begun + Duration::from_secs(second);
        let mut attempts = Attempts::new(Some(&retries), &Method::GET, &load, begun, limit);
        assert_eq!(attempts.limit(limit, at(4)), limit, "what comes before the first does not count");
        assert!(
            attempts.may_repeat(RetryCause::NotConnected, at(14))
                && !attempts.may_repeat(RetryCause::NotConnected, at(15))
        );
        assert!(!attempts.has_another_address(0, [true, true].into_iter(), at(15)));
        assert!(attempts.has_another_address(0, [true, true].into_iter(), at(14)));
        assert_eq!(attempts.limit(limit, at(14)), Duration::from_secs(1));
        assert_eq!(attempts.limit(limit, at(16)), Duration::ZERO);
    }

    #[tokio::test]
    async fn attempts_are_limited_by_their_number_and_by_the_budget() {
        let retries = Retries { most: 2, budget: Share(0), backoff: Duration::ZERO, on_connect: true, on: Vec::new() };
        let load = Arc::default();
        let mut trying = attempts(Some(&retries), &Method::GET, &load);
        // Another address is no retry.
        assert!(trying.has_another_address(4, [true; 9].into_iter(), Instant::now));
        for (number, position) in [(2, 5), (3, 6)] {
            assert_eq!(trying.number(), number);
            assert!(trying.may_repeat(RetryCause::NotConnected, Instant::now));
            trying.pause(position).await;
        }
        assert!(!trying.may_repeat(RetryCause::NotConnected, Instant::now));
        assert_eq!(trying.tried(), [4, 5, 6]);
        while load.spend() {}
        assert!(!attempts(Some(&retries), &Method::GET, &load).may_repeat(RetryCause::NotConnected, Instant::now));
    }
}
