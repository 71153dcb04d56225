//! Pauses between attempts.

use std::time::Duration;

use uuid::Uuid;

/// A random time in the upper half of this one, so that nodes do not come all at once.
pub(crate) fn jittered(time: Duration) -> Duration {
    let chance = u32::try_from(Uuid::now_v7().as_u128() & 0xffff).unwrap_or_default();
    time / 2 + time / 2 * chance / 0xffff
}
