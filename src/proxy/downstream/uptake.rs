//! Whether a client takes what is written to it.

use std::cell::Cell;
use std::io;
use std::task::Poll;
use std::time::Instant;

/// How many bytes a client must take within `timeouts.stall` while more is waiting for it. Less is no progress: otherwise
/// a client that takes a byte a minute would keep its request, and the upstream connection, for days.
const LEAST_TAKEN: usize = 16 * 1024;

/// The wait for a client that does not take what is written to it.
#[derive(Debug, Clone, Copy)]
struct Stalled {
    since: Instant,
    /// Bytes taken since then.
    taken: usize,
}

/// How a client takes what is written to its connection, or to a stream of that.
#[derive(Debug, Default)]
pub(super) struct Uptake {
    stalled: Cell<Option<Stalled>>,
}

impl Uptake {
    /// Since when the client has taken too little; `None` if it takes what there is.
    pub(super) fn stalled(&self) -> Option<Instant> {
        self.stalled.get().map(|stalled| stalled.since)
    }

    /// Records whether a write made progress, and returns its result.
    pub(super) fn track_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match (&written, self.stalled.get()) {
            (Poll::Pending, None) => self.stalls(),
            (Poll::Ready(Ok(size)), Some(Stalled { since, taken })) => {
                let taken = taken + size;
                self.stalled.set((taken < LEAST_TAKEN).then_some(Stalled { since, taken }));
            }
            _ => {}
        }
        written
    }

    /// Records whether all that was written has gone on, and returns the result. TLS keeps some until then.
    pub(super) fn track_flush(&self, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        match (&flushed, self.stalled.get()) {
            (Poll::Pending, None) => self.stalls(),
            (Poll::Ready(_), Some(_)) => self.stalled.set(None),
            _ => {}
        }
        flushed
    }

    fn stalls(&self) {
        self.stalled.set(Some(Stalled { since: Instant::now(), taken: 0 }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2: who takes nothing, or next to nothing, stalls; who takes enough, or all there is, does not.
    #[test]
    fn a_client_stalls_until_it_has_taken_enough() {
        let wrote = |size| Poll::Ready(Ok(size));
        let cases: [(&[Poll<io::Result<usize>>], bool); 5] = [
            (&[wrote(1)], false),
            (&[Poll::Pending], true),
            (&[Poll::Pending, wrote(1), Poll::Pending, wrote(100)], true),
            (&[Poll::Pending, wrote(LEAST_TAKEN)], false),
            (&[Poll::Pending, wrote(LEAST_TAKEN / 2), wrote(LEAST_TAKEN / 2)], false),
        ];
        for (writes, stalls) in cases {
            let client = Uptake::default();
            for write in writes {
                let _ = client.track_write(match write {
                    Poll::Ready(Ok(size)) => wrote(*size),
                    _ => Poll::Pending,
                });
            }
            assert_eq!(client.stalled().is_some(), stalls, "{writes:?}");
            let _ = client.track_flush(Poll::Ready(Ok(())));
            assert_eq!(client.stalled(), None, "all was taken: {writes:?}");
            let _ = client.track_flush(Poll::Pending);
            assert!(client.stalled().is_some(), "TLS keeps the rest: {writes:?}");
        }
    }
}
