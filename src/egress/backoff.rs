//! Pauses between attempts.

use std::time::Duration;

use uuid::Uuid;

/// Pauses that double from one failure to the next.
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses from `first` to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// Begins anew: something went well.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause, drawn at random; at least as long as the peer asked for. One that asks for no pause at all gets it
    /// nevertheless: it would be called in a busy loop.
    pub(crate) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let own = jittered(self.next);
        self.next = (self.next * 2).min(self.longest);
        asked.unwrap_or_default().max(own)
    }
}

/// A random time in the upper half of this one, so that nodes do not come all at once.
pub(crate) fn jittered(time: Duration) -> Duration {
    let chance = u32::try_from(Uuid::now_v7().as_u128() & 0xffff).unwrap_or_default();
    time / 2 + time / 2 * chance / 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_a_peer_can_only_make_them_longer() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(2), seconds(10));
        for (asked, least, most) in [(None, 1, 2), (Some(0), 2, 4), (Some(1), 4, 8), (Some(60), 60, 60), (None, 5, 10)]
        {
            let pause = backoff.pause(asked.map(seconds));
            assert!((seconds(least)..=seconds(most)).contains(&pause), "{asked:?} {pause:?}");
        }
        backoff.reset();
        assert!(backoff.pause(None) <= seconds(2));
    }
}
