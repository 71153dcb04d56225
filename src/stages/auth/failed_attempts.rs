//! Failed attempts: decides whether a client address may try again.
//!
//! Only attempts that failed count, per address (IPv6: per /64, which one subscriber has), so a consumer whose address
//! does not fail is never locked out. It is asked before a credential is looked at: an address past its limit learns
//! nothing more.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::claims::refuse;
use crate::refusal::{Members, Reason, Refusal};
use crate::stages::rate_limit::Limit;
use crate::state::ledger::{Ledger, Tick};

/// The limit on failed attempts.
#[derive(Debug)]
pub(crate) struct Failures {
    limit: Limit,
}

impl Failures {
    /// Compiles a limit of `count` in `per`, all of which may come at once.
    pub(crate) fn new(count: NonZeroU32, per: Duration) -> Result<Self, String> {
        Ok(Self { limit: Limit::new("failures", count, per, Some(count))? })
    }

    /// Decides whether an address may try.
    pub(super) fn permit(&self, ledger: &Ledger, address: IpAddr, now: Tick) -> Result<(), Refusal> {
        let Some(account) = ledger.failing(address, now) else { return Ok(()) };
        self.limit.peek(&account.plan, now).map_err(|wait| {
            let seconds = wait.as_secs().saturating_add(1);
            let detail = format!("too many failed attempts from this address; wait {seconds} s before the next");
            refuse(Reason::TooManyFailures, detail)
                .members(Members { retry_after: Some(seconds), ..Members::default() })
        })
    }

    /// Counts a failed attempt.
    pub(super) fn note(&self, ledger: &Ledger, address: IpAddr, now: Tick) {
        let account = ledger.failed(address, now);
        // Past the limit there is nothing more to count.
        let _ = self.limit.take(&account.plan, now);
        ledger.note_failing(account.plan.0.load(Ordering::Relaxed));
    }
}

/// Whether a refusal is a failed attempt: a credential came, and was not good.
pub(super) fn is_failure(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason(),
        Reason::InvalidToken
            | Reason::ExpiredToken
            | Reason::TokenLifetimeTooLong
            | Reason::Revoked
            | Reason::InvalidKey
            | Reason::ExpiredKey
            | Reason::InvalidCertificate
            | Reason::InvalidDpopProof
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn an_address_that_fails_is_stopped_and_no_other() {
        let ledger = Ledger::new(Instant::now());
        let failures = Failures::new(NonZeroU32::new(3).unwrap(), Duration::from_secs(60)).unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let second = 1_000_000_000;
        let at = |seconds: u64| Tick(second + seconds * second);
        let may = |who: &str, when: u64| failures.permit(&ledger, address(who), at(when)).is_ok();
        for _ in 0..3 {
            assert!(may("2001:db8::1", 0));
            failures.note(&ledger, address("2001:db8::1"), at(0));
        }
        for (who, when, expected) in [
            ("2001:db8::1", 0, false),
            ("2001:db8::ffff", 19, false),
            ("2001:db8:0:1::1", 0, true),
            ("192.0.2.1", 0, true),
            ("2001:db8::1", 20, true),
            ("2001:db8::1", 61, true),
        ] {
            assert_eq!(may(who, when), expected, "{who} {when}");
        }
    }
}
