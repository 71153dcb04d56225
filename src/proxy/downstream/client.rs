//! The state of a client connection, shared by all its parts: what it is doing, and since when.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{StatusCode, Version};

use super::activity::Activity;
use super::uptake::Uptake;
use crate::exchange::Peer;
use crate::policy::Timeouts;
use crate::proxy::headers::ResponseFields;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Open since this instant, without a first byte, or without the rest of the HTTP/2 preface.
    Opened(Instant),
    /// Idle since this instant, after a request.
    Idle(Instant),
    /// Receiving a request's head since this instant.
    Head(Instant),
    /// Serving this number of requests.
    Busy(u32),
}

/// The shared state of a client connection.
pub(crate) struct ClientConnection {
    pub(crate) peer: Peer,
    pub(crate) activity: Arc<Activity>,
    phase: Cell<Phase>,
    /// Since when a head is being received in HTTP/2, beside whatever else the connection does.
    head_since: Cell<Option<Instant>>,
    uptake: Uptake,
    /// The connection was ended because the client stalled.
    ended_stalled: Cell<bool>,
    /// A request lets other tasks run first, and goes on at once.
    yields: Cell<bool>,
    /// Interim responses that are still to be sent, to the request that is handled.
    interims: Cell<Vec<(StatusCode, ResponseFields)>>,
}

impl ClientConnection {
    /// Creates the state of a connection that was just accepted.
    pub(crate) fn new(peer: Peer, activity: Arc<Activity>, now: Instant) -> Rc<Self> {
        let (phase, head_since, uptake) = (Cell::new(Phase::Opened(now)), Cell::new(None), Uptake::default());
        let (ended_stalled, yields, interims) = (Cell::new(false), Cell::new(false), Cell::default());
        Rc::new(Self { peer, activity, phase, head_since, uptake, ended_stalled, yields, interims })
    }

    /// Gathers requests, which wake the upstream once when they are sent together; waking it is a large part of the cost of sending.
    /// So every other ready task of this worker runs first, except in HTTP/2, where those that were received together are together
    /// anyway.
    pub(crate) async fn gather(&self, version: Version) {
        if version == Version::HTTP_2 {
            return;
        }
        let mut yielded = false;
        poll_fn(|cx| {
            self.yields.set(!yielded);
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Returns whether the request of an HTTP/1 connection goes on at once, though it is not ready.
    pub(crate) fn yields(&self) -> bool {
        self.yields.get()
    }

    /// Adds an interim response to those that are to be sent.
    pub(crate) fn interim(&self, status: StatusCode, fields: ResponseFields) {
        let mut interims = self.interims.take();
        interims.push((status, fields));
        self.interims.set(interims);
    }

    /// Takes the interim responses that are to be sent. In HTTP/2, each stream takes its own, whenever its request was polled.
    pub(crate) fn take_interims(&self) -> Vec<(StatusCode, ResponseFields)> {
        self.interims.take()
    }

    /// Returns what the connection is doing.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Returns since when the client has taken too little of what is written to it.
    pub(crate) fn stalled(&self) -> Option<Instant> {
        self.uptake.stalled()
    }

    /// Returns whether it serves requests, or the client has not taken the end of a response yet.
    pub(crate) fn is_busy(&self) -> bool {
        match self.phase.get() {
            Phase::Busy(_) => true,
            Phase::Idle(_) => self.stalled().is_some(),
            Phase::Opened(_) | Phase::Head(_) => false,
        }
    }

    /// Ends the connection, and the requests in flight, because the client stalled.
    pub(crate) fn end_stalled(&self) {
        self.ended_stalled.set(true);
    }

    /// Returns whether the connection was ended because the client stalled.
    pub(crate) fn ended_stalled(&self) -> bool {
        self.ended_stalled.get()
    }

    /// Returns when a head must have been received that is being received in HTTP/2.
    pub(crate) fn head_deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        self.head_since.get().map(|since| since + timeouts.request_headers)
    }

    /// Returns when the connection ends if nothing changes, but for [`Self::head_deadline`]. A request in flight that makes
    /// progress, or that waits for something else than the client, has its own deadlines.
    pub(crate) fn deadline(&self, timeouts: &Timeouts, now: Instant) -> Instant {
        match (self.phase.get(), self.stalled()) {
            (Phase::Idle(since), None) => since + timeouts.idle,
            (Phase::Opened(since) | Phase::Head(since), _) => since + timeouts.request_headers,
            (Phase::Busy(_) | Phase::Idle(_), stalled) => stalled.unwrap_or(now) + timeouts.stall,
        }
    }

    /// Returns the shortest time in which any deadline can be reached.
    pub(crate) fn shortest(timeouts: &Timeouts) -> Duration {
        timeouts.idle.min(timeouts.request_headers).min(timeouts.stall)
    }

    /// Records whether a write made progress, and returns its result.
    pub(crate) fn track_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.uptake.track_write(written)
    }

    /// Records whether all that was written has gone to the kernel, and returns the result. TLS keeps some until then.
    pub(crate) fn track_flush(&self, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        self.uptake.track_flush(flushed)
    }

    /// Records that the first part of a head, or of the HTTP/2 preface, was received.
    pub(crate) fn head_begins(&self) {
        if let Phase::Opened(_) | Phase::Idle(_) = self.phase.get() {
            self.phase.set(Phase::Head(Instant::now()));
        }
    }

    /// Records that the HTTP/2 preface was received: requests may follow at any time.
    pub(crate) fn preface_ends(&self) {
        if let Phase::Opened(_) | Phase::Head(_) = self.phase.get() {
            self.phase.set(Phase::Idle(Instant::now()));
        }
    }

    /// Records since when a head is being received in HTTP/2; `None`: none is.
    pub(crate) fn receives_head(&self, since: Option<Instant>) {
        self.head_since.set(since);
    }

    /// Records that a request begins.
    pub(crate) fn begin(&self) {
        self.phase.set(match self.phase.get() {
            Phase::Busy(others) => Phase::Busy(others + 1),
            Phase::Opened(_) | Phase::Idle(_) | Phase::Head(_) => {
                self.activity.busy();
                Phase::Busy(1)
            }
        });
    }

    /// Records that a request ends.
    pub(crate) fn end(&self, now: Instant) {
        self.phase.set(match self.phase.get() {
            Phase::Busy(others) if others > 1 => Phase::Busy(others - 1),
            _ => {
                self.activity.idle(now);
                Phase::Idle(now)
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// S19, S6: a head has one deadline, however it drips in; so has the first byte of a connection.
    #[test]
    fn a_deadline_does_not_move_with_every_byte() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let timeouts = Timeouts { request_headers: second, idle: second * 2, drain: second * 3, stall: second * 4 };
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let client = ClientConnection::new(Peer::new(address, None), Arc::new(Activity::new(address, now)), now);
        assert_eq!(client.deadline(&timeouts, now), now + second, "nothing was received yet");
        client.head_begins();
        let head = client.deadline(&timeouts, now);
        client.head_begins();
        assert_eq!(client.deadline(&timeouts, now + second), head, "more of the head was received");
        client.begin();
        assert_eq!(client.deadline(&timeouts, now), now + second * 4);
        client.end(now);
        assert_eq!(client.deadline(&timeouts, now), now + second * 2);
    }
}
