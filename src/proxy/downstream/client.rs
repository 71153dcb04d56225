//! A client connection, as all its parts see it: what it is doing, and since when.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use crate::exchange::Peer;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing, since then.
    Idle(Instant),
    /// A request's head is coming, since then.
    Head(Instant),
    /// So many requests are being answered.
    Busy(u32),
}

/// A client connection.
pub(crate) struct Client {
    /// The other end.
    pub(crate) peer: Peer,
    phase: Cell<Phase>,
    /// The client has taken nothing of what was written to it since then.
    stalled: Cell<Option<Instant>>,
}

impl Client {
    /// A connection that just came.
    pub(crate) fn new(peer: Peer, now: Instant) -> Rc<Self> {
        Rc::new(Self { peer, phase: Cell::new(Phase::Idle(now)), stalled: Cell::new(None) })
    }

    /// What it is doing.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Since when the client has taken nothing of what is written to it.
    pub(crate) fn stalled(&self) -> Option<Instant> {
        self.stalled.get()
    }

    /// Takes note of how a write went.
    pub(crate) fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match (&written, self.stalled.get()) {
            (Poll::Pending, None) => self.stalled.set(Some(Instant::now())),
            (Poll::Ready(_), Some(_)) => self.stalled.set(None),
            _ => {}
        }
        written
    }

    /// A part of a head has come.
    pub(crate) fn head_begins(&self) {
        if let Phase::Idle(_) = self.phase.get() {
            self.phase.set(Phase::Head(Instant::now()));
        }
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        self.phase.set(match self.phase.get() {
            Phase::Busy(others) => Phase::Busy(others + 1),
            Phase::Idle(_) | Phase::Head(_) => Phase::Busy(1),
        });
    }

    /// A request ends.
    pub(crate) fn end(&self, now: Instant) {
        self.phase.set(match self.phase.get() {
            Phase::Busy(others) if others > 1 => Phase::Busy(others - 1),
            _ => Phase::Idle(now),
        });
    }
}
