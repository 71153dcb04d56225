//! The state of a client connection, shared by all its parts: what it is doing, and since when.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use crate::exchange::Peer;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Idle since this instant.
    Idle(Instant),
    /// Receiving a request's head since this instant.
    Head(Instant),
    /// Serving this number of requests.
    Busy(u32),
}

/// The shared state of a client connection.
pub(crate) struct ClientConnection {
    pub(crate) peer: Peer,
    phase: Cell<Phase>,
    /// When the client stopped accepting what is written to it.
    stalled: Cell<Option<Instant>>,
}

impl ClientConnection {
    /// Creates the state of a connection that was just accepted.
    pub(crate) fn new(peer: Peer, now: Instant) -> Rc<Self> {
        Rc::new(Self { peer, phase: Cell::new(Phase::Idle(now)), stalled: Cell::new(None) })
    }

    /// Returns what the connection is doing.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Returns when the client stopped accepting what is written to it.
    pub(crate) fn stalled(&self) -> Option<Instant> {
        self.stalled.get()
    }

    /// Records whether a write made progress, and returns its result.
    pub(crate) fn track_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match (&written, self.stalled.get()) {
            (Poll::Pending, None) => self.stalled.set(Some(Instant::now())),
            (Poll::Ready(_), Some(_)) => self.stalled.set(None),
            _ => {}
        }
        written
    }

    /// Records that the first part of a head was received.
    pub(crate) fn head_begins(&self) {
        if let Phase::Idle(_) = self.phase.get() {
            self.phase.set(Phase::Head(Instant::now()));
        }
    }

    /// Records that a request begins.
    pub(crate) fn begin(&self) {
        self.phase.set(match self.phase.get() {
            Phase::Busy(others) => Phase::Busy(others + 1),
            Phase::Idle(_) | Phase::Head(_) => Phase::Busy(1),
        });
    }

    /// Records that a request ends.
    pub(crate) fn end(&self, now: Instant) {
        self.phase.set(match self.phase.get() {
            Phase::Busy(others) if others > 1 => Phase::Busy(others - 1),
            _ => Phase::Idle(now),
        });
    }
}
