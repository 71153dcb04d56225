//! Whether a request is sent once more, and when (RFC 9110 §9.2.2).

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::egress::jittered;
use crate::policy::upstream::Retries;
use crate::state::endpoint::ApiLoad;

/// Longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// Why a request may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing of it was sent.
    NotConnected,
    /// It may have been handled, but no byte of a response came.
    Unanswered,
    /// The response has this status.
    Status(StatusCode),
}

/// The attempts to send one request.
pub(super) struct Attempts<'a> {
    retries: Option<&'a Retries>,
    /// Whether handling it twice is the same as once.
    pub(super) is_idempotent: bool,
    load: &'a Arc<ApiLoad>,
    /// The positions of the addresses that failed.
    tried: Vec<usize>,
}

impl<'a> Attempts<'a> {
    /// Before the first one. It earns its share of the budget.
    pub(super) fn new(retries: Option<&'a Retries>, method: &Method, load: &'a Arc<ApiLoad>) -> Self {
        if let Some(retries) = retries {
            load.earn(retries.budget.0);
        }
        Self { retries, is_idempotent: method.is_idempotent(), load, tried: Vec::new() }
    }

    /// The number of the current one, from 1.
    pub(super) fn number(&self) -> u32 {
        u32::try_from(self.tried.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The positions of the addresses that failed.
    pub(super) fn tried(&self) -> &[usize] {
        &self.tried
    }

    /// Whether there is another attempt, which is taken from the budget.
    pub(super) fn may_repeat(&self, cause: Cause) -> bool {
        let Some(retries) = self.retries else { return false };
        let is_covered = match cause {
            Cause::NotConnected => retries.on_connect,
            Cause::Unanswered => retries.on_connect && self.is_idempotent,
            Cause::Status(status) => self.is_idempotent && retries.on.contains(&status),
        };
        is_covered && self.number() <= retries.most && self.load.spend()
    }

    /// Whether the name of a server has another address than this one, which took no connection, and those before. As with
    /// every client, all are tried, without a pause and whatever the policy says of retries. `servers`: the server of each
    /// address, and whether it may be chosen. One that may not would not be, and those that were tried would be tried for ever.
    pub(super) fn has_another_address(
        &mut self,
        position: usize,
        servers: impl Iterator<Item = (usize, bool)> + Clone,
    ) -> bool {
        self.tried.push(position);
        let own = servers.clone().nth(position).map(|(server, _)| server);
        let mut others = servers.enumerate().filter(|(_, (server, usable))| *usable && Some(*server) == own);
        let has_another = others.any(|(other, _)| !self.tried.contains(&other));
        if !has_another {
            self.tried.pop();
        }
        has_another
    }

    /// Waits before the next attempt; this address failed.
    pub(super) async fn pause(&mut self, position: usize) {
        let doubled = 1_u32.checked_shl(self.number() - 1).unwrap_or(u32::MAX);
        self.tried.push(position);
        let backoff = self.retries.map(|retries| retries.backoff.saturating_mul(doubled).min(LONGEST));
        tokio::time::sleep(jittered(backoff.unwrap_or_default())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::share::Share;

    #[test]
    fn what_may_have_been_handled_is_repeated_only_if_that_is_harmless() {
        let unavailable = Cause::Status(StatusCode::SERVICE_UNAVAILABLE);
        let failed = Cause::Status(StatusCode::INTERNAL_SERVER_ERROR);
        let all = Retries {
            most: 1,
            budget: Share(200_000),
            backoff: Duration::ZERO,
            on_connect: true,
            on: vec![StatusCode::SERVICE_UNAVAILABLE],
        };
        let statuses = Retries { on_connect: false, ..all.clone() };
        for (retries, method, cause, expected) in [
            (Some(&all), Method::GET, Cause::NotConnected, true),
            (Some(&all), Method::POST, Cause::NotConnected, true),
            (Some(&all), Method::GET, Cause::Unanswered, true),
            (Some(&all), Method::PUT, Cause::Unanswered, true),
            (Some(&all), Method::POST, Cause::Unanswered, false),
            (Some(&all), Method::PATCH, Cause::Unanswered, false),
            (Some(&all), Method::GET, unavailable, true),
            (Some(&all), Method::POST, unavailable, false),
            (Some(&all), Method::GET, failed, false),
            (Some(&statuses), Method::GET, Cause::NotConnected, false),
            (Some(&statuses), Method::GET, Cause::Unanswered, false),
            (Some(&statuses), Method::GET, unavailable, true),
            (None, Method::GET, Cause::NotConnected, false),
        ] {
            let load = Arc::default();
            let attempts = Attempts::new(retries, &method, &load);
            assert_eq!(attempts.may_repeat(cause), expected, "{method} {cause:?}");
        }
    }

    #[test]
    fn every_address_that_may_be_chosen_is_tried_once_and_no_other() {
        let load = Arc::default();
        let mut attempts = Attempts::new(None, &Method::GET, &load);
        // Of server 7: the second is drained. The last is another server's.
        let all = [(7, true), (7, false), (7, true), (8, true)];
        assert!(attempts.has_another_address(0, all.into_iter()));
        assert!(!attempts.has_another_address(2, all.into_iter()));
        assert_eq!(attempts.tried(), [0]);
        // All others are drained: the request ends instead of going round and round.
        let mut attempts = Attempts::new(None, &Method::GET, &load);
        assert!(!attempts.has_another_address(0, [(7, true), (7, false)].into_iter()));
    }

    #[tokio::test]
    async fn attempts_are_limited_by_their_number_and_by_the_budget() {
        let retries = Retries { most: 2, budget: Share(0), backoff: Duration::ZERO, on_connect: true, on: Vec::new() };
        let load = Arc::default();
        let mut attempts = Attempts::new(Some(&retries), &Method::GET, &load);
        for (number, position) in [(1, 5), (2, 6)] {
            assert_eq!(attempts.number(), number);
            assert!(attempts.may_repeat(Cause::NotConnected));
            attempts.pause(position).await;
        }
        assert!(!attempts.may_repeat(Cause::NotConnected));
        assert_eq!(attempts.tried(), [5, 6]);
        while load.spend() {}
        assert!(!Attempts::new(Some(&retries), &Method::GET, &load).may_repeat(Cause::NotConnected));
    }
}
