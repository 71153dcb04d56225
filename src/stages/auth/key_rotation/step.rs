//! What is to be done for a rotation: a decision from what the store has, and the time.

use jiff::{SignedDuration, Timestamp};

/// How long the process that made a key has to write it to the vault, before another one makes the next.
const CLAIM: SignedDuration = SignedDuration::from_secs(60);
/// How long a key that was lost from the vault is not replaced, so that two stores with one place in the vault do not replace
/// each other's keys all the time.
const LOST: SignedDuration = SignedDuration::from_mins(5);

/// A key of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownKey {
    pub(super) number: u64,
    pub(super) created: Timestamp,
    /// When this process first saw it. The clock of the process that made it may be another one's.
    pub(super) seen: Timestamp,
    /// Since when the vault has it.
    pub(super) delivered: Option<Timestamp>,
    /// An operator wants the next one.
    pub(super) asked: bool,
    /// It is neither revoked nor at its end.
    pub(super) accepted: bool,
}

/// What else is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// The number of the key that this process has made and not delivered yet.
    pub(super) held: Option<u64>,
    /// Another process may be about to deliver a key.
    pub(super) is_shared: bool,
    pub(super) every: SignedDuration,
    pub(super) now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until another process is done or out of time.
    Wait,
    /// Look whether the vault still has the current key.
    Check,
    /// Make the next key.
    Create,
    /// Write the key with this number, which this process has made, to the vault.
    Deliver(u64),
}

/// What the vault has in place of the current key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// The current key.
    Current,
    /// Nothing, or a key of this rotation that is not the current one.
    Lost,
    /// What somebody else has written.
    Foreign,
}

/// Decides; the keys are in the order of their numbers.
pub(super) fn next_step(keys: &[KnownKey], facts: Facts) -> Step {
    let Facts { held, is_shared, every, now } = facts;
    let newest = keys.iter().filter_map(|key| key.delivered).max();
    // What was revoked before it was delivered is no longer to be delivered, nor what was made before another one was. A delivery
    // in the future is by a clock that was ahead, and says nothing of what came first.
    let is_wanted = |key: &&KnownKey| key.accepted && newest.is_none_or(|newest| newest > now || key.created >= newest);
    match keys.iter().rev().find(|key| key.delivered.is_some() || is_wanted(key)) {
        Some(KnownKey { number, delivered: None, .. }) if held == Some(*number) => Step::Deliver(*number),
        Some(KnownKey { delivered: None, seen, .. }) if is_shared && now.duration_since(*seen).abs() < CLAIM => {
            Step::Wait
        }
        Some(KnownKey { delivered: Some(delivered), accepted: true, asked: false, .. })
            if now < delivered.saturating_add(every).unwrap_or(Timestamp::MAX) =>
        {
            Step::Check
        }
        _ => Step::Create,
    }
}

/// Whether a key that the vault has lost is to be replaced now.
pub(super) fn may_replace(delivered: Option<Timestamp>, now: Timestamp) -> bool {
    delivered.is_none_or(|delivered| now.duration_since(delivered).abs() >= LOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn key(number: u64, created: i64, delivered: Option<i64>) -> KnownKey {
        KnownKey {
            number,
            created: at(created),
            seen: at(created),
            delivered: delivered.map(at),
            asked: false,
            accepted: true,
        }
    }

    #[test]
    fn what_is_to_be_done_follows_from_the_keys_and_the_time() {
        let revoked = |key: KnownKey| KnownKey { accepted: false, ..key };
        let seen = |key: KnownKey, when: i64| KnownKey { seen: at(when), ..key };
        let asked = |key: KnownKey| KnownKey { asked: true, ..key };
        let (one, two) = (key(1, 0, Some(1)), key(2, 30 * DAY, Some(30 * DAY)));
        let undelivered = key(2, 100, None);
        let behind = vec![undelivered, key(3, 200, Some(201))];
        let late = vec![key(1, 0, Some(99)), key(2, 98, None)];
        let cases = [
            ("there is none", vec![], None, true, 0, Step::Create),
            ("the first is made here", vec![key(1, 0, None)], Some(1), true, 1, Step::Deliver(1)),
            ("however long that takes", vec![key(1, 0, None)], Some(1), true, DAY, Step::Deliver(1)),
            ("it is made elsewhere", vec![key(1, 0, None)], None, true, 59, Step::Wait),
            ("by a clock that is ahead", vec![key(1, 59, None)], None, true, 0, Step::Wait),
            ("its process is out of time", vec![key(1, 0, None)], None, true, 60, Step::Create),
            ("by a clock that is far ahead", vec![seen(key(1, 900, None), 0)], None, true, 59, Step::Wait),
            ("or far behind", vec![seen(key(1, -900, None), 0)], None, true, 59, Step::Wait),
            ("and is out of time", vec![seen(key(1, 900, None), 0)], None, true, 60, Step::Create),
            ("there are no other processes", vec![key(1, 0, None)], None, false, 1, Step::Create),
            ("it is in its time", vec![one], None, true, 30 * DAY, Step::Check),
            ("its time is over", vec![one], None, true, 30 * DAY + 1, Step::Create),
            ("somebody asks", vec![asked(one)], None, true, 2, Step::Create),
            ("somebody has asked before", vec![asked(one), two], None, true, 31 * DAY, Step::Check),
            ("it is revoked", vec![revoked(one)], None, true, 2, Step::Create),
            ("the one before is", vec![revoked(one), two], None, true, 31 * DAY, Step::Check),
            ("the next is made here", vec![one, undelivered], Some(2), true, 101, Step::Deliver(2)),
            ("the next is made elsewhere", vec![one, undelivered], None, true, 101, Step::Wait),
            ("another one has made a later one", vec![one, undelivered], Some(1), true, 101, Step::Wait),
            ("it is out of time", vec![one, undelivered], None, true, 160, Step::Create),
            ("it is revoked meanwhile", vec![one, revoked(undelivered)], Some(2), true, 101, Step::Check),
            ("one that was never delivered is behind", behind, Some(2), true, 202, Step::Check),
            ("the one before was delivered after all", late, Some(2), true, 200, Step::Check),
            (
                "the clock was set back, and somebody asks",
                vec![asked(two), key(3, 100, None)],
                Some(3),
                true,
                101,
                Step::Deliver(3),
            ),
            ("or it is revoked", vec![revoked(two), key(3, 100, None)], Some(3), true, 101, Step::Deliver(3)),
        ];
        for (case, keys, held, is_shared, now, expected) in cases {
            let facts = Facts { held, is_shared, every: SignedDuration::from_secs(30 * DAY), now: at(now) };
            assert_eq!(next_step(&keys, facts), expected, "{case}");
        }
    }

    #[test]
    fn a_lost_key_is_replaced_but_not_all_the_time() {
        for (delivered, now, expected) in
            [(None, 0, true), (Some(0), 299, false), (Some(0), 300, true), (Some(400), 50, true)]
        {
            assert_eq!(may_replace(delivered.map(at), at(now)), expected, "{delivered:?} {now}");
        }
    }
}
