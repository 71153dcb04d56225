//! Limits failed authentication attempts of a client address.
//!
//! Only failed attempts count, per address (IPv6: per /64, the usual prefix of one subscriber), so a consumer is never locked
//! out by failures from other addresses. The limit is checked before the credential: an address over its limit learns nothing
//! about its next guess.
//!
//! An attempt that waits for others (an issuer, the store) is counted before it waits, and given back unless it fails:
//! otherwise any number of guesses that come at once would all be tried. Where what is left may be given back, further
//! attempts wait until that is decided.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::claims::refuse;
use super::introspection::TIMEOUT;
use crate::refusal::{Members, Reason, Refusal};
use crate::stages::rate_limit::Rate;
use crate::state::ledger::{FailedAttempts, Ledger, Tick};

/// The limit on failed attempts.
#[derive(Debug)]
pub(crate) struct Failures {
    limit: Rate,
}

impl Failures {
    /// Compiles a limit of `count` in `per`, with a burst of `count`.
    pub(crate) fn new(count: NonZeroU32, per: Duration) -> Result<Self, String> {
        Ok(Self { limit: Rate::new(count, per, Some(count))? })
    }

    /// Decides whether an address may try to authenticate.
    pub(crate) fn permit(&self, ledger: &Ledger, address: IpAddr, now: Tick) -> Result<(), Refusal> {
        let Some(account) = ledger.failing(address, now) else { return Ok(()) };
        self.limit.peek(&account.bucket, now).map_err(too_many)
    }

    /// Counts an attempt before it is decided. Waits while the attempts that are under way could use up the limit, but need
    /// not. `None` when too many addresses fail for this one to have an account.
    pub(super) async fn reserve<'a>(
        &'a self,
        ledger: &'a Ledger,
        address: IpAddr,
        now: Tick,
    ) -> Result<Option<Attempt<'a>>, Refusal> {
        let Some(account) = ledger.attempting(address, now) else { return Ok(None) };
        let attempts = &account.attempts;
        let counted = async {
            loop {
                let mut decided = pin!(attempts.decided.notified());
                // Before the limit is looked at, so that no decision in between is missed.
                decided.as_mut().enable();
                {
                    let mut open = attempts.open.lock().unwrap_or_else(PoisonError::into_inner);
                    match self.limit.take(&account.bucket, now) {
                        Ok(_) => {
                            *open += 1;
                            return Ok(());
                        }
                        Err(wait) if *open == 0 => return Err(too_many(wait)),
                        Err(_) => {}
                    }
                }
                decided.await;
            }
        };
        tokio::time::timeout(TIMEOUT, counted).await.unwrap_or_else(|_| {
            Err(refuse(Reason::Overloaded, "too many credentials of this address are being checked; try again shortly")
                .members(Members { retry_after: Some(1), ..Members::default() }))
        })?;
        Ok(Some(Attempt { limit: &self.limit, ledger, account: Arc::clone(&account), failed: true }))
    }

    /// Counts a failed attempt.
    pub(crate) fn note(&self, ledger: &Ledger, address: IpAddr, now: Tick) {
        let account = ledger.failed(address, now);
        // Over the limit, there is nothing more to count.
        let _ = self.limit.take(&account.bucket, now);
        ledger.note_failing(account.bucket.0.load(Ordering::Relaxed));
    }
}

/// An attempt that is under way. It counts as failed unless it is given back, also when the client disconnects.
pub(super) struct Attempt<'a> {
    limit: &'a Rate,
    ledger: &'a Ledger,
    account: Arc<FailedAttempts>,
    failed: bool,
}

impl Attempt<'_> {
    /// It has not failed.
    pub(super) fn give_back(mut self) {
        self.limit.give_back(&self.account.bucket);
        self.failed = false;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.failed {
            self.ledger.note_failing(self.account.bucket.0.load(Ordering::Relaxed));
        }
        let attempts = &self.account.attempts;
        let mut open = attempts.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = open.saturating_sub(1);
        drop(open);
        attempts.decided.notify_waiters();
    }
}

fn too_many(wait: Duration) -> Refusal {
    let seconds = wait.as_secs().saturating_add(1);
    let detail = format!("too many failed attempts from this address; wait {seconds} s before the next");
    refuse(Reason::TooManyFailures, detail).members(Members { retry_after: Some(seconds), ..Members::default() })
}

/// Returns whether a refusal is a failed attempt: a credential was sent, and is invalid.
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
            | Reason::InvalidClient
            | Reason::InvalidInvitation
    )
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
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

    /// S13: of many attempts at once, no more are tried than may fail; those that turn out good do not count.
    #[tokio::test(start_paused = true)]
    async fn attempts_that_are_under_way_count_until_they_turn_out_good() {
        let ledger = Ledger::new(Instant::now());
        let failures = Failures::new(NonZeroU32::new(2).unwrap(), Duration::from_secs(3600)).unwrap();
        let (address, now) = (IpAddr::from([192, 0, 2, 1]), Tick(1_000_000_000));
        let reserve = || failures.reserve(&ledger, address, now);
        let first = reserve().await.unwrap().unwrap();
        let second = reserve().await.unwrap().unwrap();
        let mut third = pin!(reserve());
        assert!(
            third.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(),
            "it waits for what becomes of the others"
        );
        first.give_back();
        let third = third.await.unwrap().unwrap();
        drop((second, third));
        assert_eq!(reserve().await.err().map(|refusal| refusal.reason()), Some(Reason::TooManyFailures));
        assert!(failures.permit(&ledger, address, now).is_err(), "those that were abandoned have failed");
        assert!(failures.reserve(&ledger, IpAddr::from([192, 0, 2, 2]), now).await.is_ok());
    }

    /// S13: waiting for the attempts of others has a deadline.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_for_the_attempts_of_others() {
        let ledger = Ledger::new(Instant::now());
        let failures = Failures::new(NonZeroU32::MIN, Duration::from_secs(3600)).unwrap();
        let (address, now) = (IpAddr::from([192, 0, 2, 1]), Tick(1_000_000_000));
        let _stuck = failures.reserve(&ledger, address, now).await.unwrap();
        let refusal = failures.reserve(&ledger, address, now).await.err().unwrap();
        assert_eq!(refusal.reason(), Reason::Overloaded);
    }
}
