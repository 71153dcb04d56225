//! Runs a client connection until it ends, misses a deadline, or is asked to end.
//!
//! Deadlines are lazy: each connection has one timer. It is checked when it fires and not reset for every request. It is
//! polled beside the connection, so no deadline depends on the connection reading or writing anything.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::unconstrained;

use super::activity::Ending;
use super::client::{ClientConnection, Phase};
use crate::policy::Timeouts;

/// How long a connection that serves no request may stay open after it was commanded to finish: HTTP/2 waits for the client
/// to take notice (RFC 9113 §6.8), which a client that is gone never does.
pub(super) const FINISH: Duration = Duration::from_secs(2);

/// Why a connection was ended before it ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It was idle for too long, or sent nothing at all.
    Idle,
    /// A request's head was not received in time.
    Head,
    /// The client took too little of what was written to it.
    Stalled,
    /// Its place was needed.
    Evicted,
}

/// What a running connection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Continue,
    /// Finish the requests in flight, then close.
    Finish,
}

/// Returns the time by the clock of the timers.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns when the connection is cut if nothing changes, and why. `finishing` is when it was commanded to finish.
fn next_cut(
    client: &ClientConnection,
    timeouts: &Timeouts,
    finishing: Option<Instant>,
    now: Instant,
) -> (Instant, Cut) {
    let due = client.deadline(timeouts, now);
    let (due, cut) = match (client.phase(), finishing) {
        _ if client.ended_stalled() => (now, Cut::Stalled),
        (Phase::Idle(_), _) if client.is_busy() => (due, Cut::Stalled),
        (Phase::Opened(since) | Phase::Idle(since), Some(finishing)) => (since.max(finishing) + FINISH, Cut::Idle),
        (Phase::Opened(_) | Phase::Idle(_), None) => (due, Cut::Idle),
        (Phase::Head(_), _) => (due, Cut::Head),
        (Phase::Busy(_), _) => (due, Cut::Stalled),
    };
    match client.head_deadline(timeouts) {
        // A connection that receives a head is not idle.
        Some(head) if head < due || cut == Cut::Idle => (head, Cut::Head),
        _ => (due, cut),
    }
}

/// Wakes the task whenever the way in which the connection is to end changes. Never ends.
async fn watch_endings(client: &ClientConnection) {
    let mut known = Ending::No;
    loop {
        known = client.activity.ending_after(known).await;
    }
}

/// Runs a connection until it ends or is cut. Commands it to finish when its listener is gone, which is also how a process
/// drains. `end_overdue` ends what has deadlines within it, none of them shorter than all of the connection's, and returns the next
/// one.
pub(super) async fn run_until_deadline<T>(
    client: &ClientConnection,
    timeouts: &Timeouts,
    end_overdue: impl Fn(Instant) -> Option<Instant>,
    mut run: impl FnMut(&mut Context<'_>, Command) -> Poll<T>,
) -> Result<T, Cut> {
    // A wait with a shorter deadline may begin just after the timer was set, so the timer never sleeps longer than the
    // shortest one.
    let shortest = ClientConnection::shortest(timeouts);
    let mut timer = pin!(tokio::time::sleep(shortest));
    let mut endings = pin!(watch_endings(client));
    let (mut known, mut armed) = (Ending::No, false);
    let mut finishing: Option<Instant> = None;
    std::future::poll_fn(|cx| {
        // Both wake this task once they have been polled, whatever is left of its budget. After that they are polled
        // again only when they have news: this function runs several times a request, always in the same task.
        let ending = client.activity.ending();
        if !armed || ending != known {
            known = ending;
            let _: Poll<()> = pin!(unconstrained(endings.as_mut())).poll(cx);
        }
        let finish = finishing.is_none() && ending != Ending::No;
        if finish {
            let now = now();
            finishing = Some(now);
            timer.as_mut().reset((now + shortest.min(FINISH)).into());
            armed = false;
        }
        if let Poll::Ready(output) = run(cx, if finish { Command::Finish } else { Command::Continue }) {
            return Poll::Ready(Ok(output));
        }
        if ending == Ending::Evict && !client.is_busy() {
            return Poll::Ready(Err(Cut::Evicted));
        }
        if armed && !timer.is_elapsed() {
            return Poll::Pending;
        }
        armed = true;
        while pin!(unconstrained(timer.as_mut())).poll(cx).is_ready() {
            let now = now();
            let within = end_overdue(now);
            let (due, cut) = next_cut(client, timeouts, finishing, now);
            if due <= now {
                // What else goes on over the connection is ended for the same reason.
                if matches!(cut, Cut::Stalled | Cut::Head) {
                    client.end_stalled();
                }
                return Poll::Ready(Err(cut));
            }
            let step = finishing.map_or(shortest, |_| shortest.min(FINISH));
            let due = within.map_or(due, |within| within.min(due));
            timer.as_mut().reset(due.min(now + step).into());
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use std::cell::RefCell;

    use crate::exchange::Peer;
    use crate::proxy::downstream::activity::Activity;

    /// S2: the end of a response, which the client takes slowly, is cut neither by idleness nor by the end of the process,
    /// but by the time for stalls. So is everything once a stream of the connection cannot end otherwise.
    #[test]
    fn what_a_slow_client_has_not_taken_is_not_cut_as_idle() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let timeouts = Timeouts { request_headers: second, idle: second * 60, drain: second * 3, stall: second * 40 };
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        for (stalls, ends, finishing, expected) in [
            (false, false, None, (second * 60, Cut::Idle)),
            (false, false, Some(now), (FINISH, Cut::Idle)),
            (true, false, None, (second * 40, Cut::Stalled)),
            (true, false, Some(now), (second * 40, Cut::Stalled)),
            (false, true, None, (Duration::ZERO, Cut::Stalled)),
        ] {
            let client = ClientConnection::new(Peer::new(address, None), Arc::new(Activity::new(address, now)), now);
            client.begin();
            client.end(now);
            if stalls {
                assert!(client.track_flush(Poll::Pending).is_pending());
            }
            if ends {
                client.end_stalled();
            }
            assert_eq!(client.is_busy(), stalls, "it may not be evicted");
            let since = client.stalled().unwrap_or(now);
            let (due, cut) = next_cut(&client, &timeouts, finishing, now);
            assert_eq!((due.saturating_duration_since(since), cut), expected, "{stalls} {ends} {finishing:?}");
        }
    }

    /// S19: a head has its own deadline in HTTP/2, too, whatever else the connection does.
    #[test]
    fn a_head_beside_requests_has_a_deadline_of_its_own() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let timeouts = Timeouts { request_headers: second * 10, idle: second, drain: second * 3, stall: second * 40 };
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        for requests in 0..3 {
            for (began, expected) in [
                (Some(now), (second * 10, Cut::Head)),
                (Some(now - second * 10), (Duration::ZERO, Cut::Head)),
                (None, if requests == 0 { (second, Cut::Idle) } else { (second * 40, Cut::Stalled) }),
            ] {
                let client =
                    ClientConnection::new(Peer::new(address, None), Arc::new(Activity::new(address, now)), now);
                (0..requests.max(1)).for_each(|_| client.begin());
                if requests == 0 {
                    client.end(now);
                }
                client.receives_head(began);
                let (due, cut) = next_cut(&client, &timeouts, None, now);
                assert_eq!((due.saturating_duration_since(now), cut), expected, "{requests} {began:?}");
            }
        }
    }

    /// S2: what has deadlines within a connection needs no timer of its own, and ends when it has to.
    #[tokio::test(start_paused = true)]
    async fn deadlines_within_a_connection_are_kept_by_its_timer() {
        let (start, second) = (now(), Duration::from_secs(1));
        let timeouts = Timeouts { request_headers: second * 10, idle: second * 75, drain: second, stall: second * 60 };
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let client = ClientConnection::new(Peer::new(address, None), Arc::new(Activity::new(address, start)), start);
        client.begin();
        let (calls, due) = (RefCell::new(Vec::new()), start + second * 61 + Duration::from_millis(7));
        let end_overdue = |now| {
            calls.borrow_mut().push(now);
            if now >= due {
                client.end_stalled();
            }
            Some(due).filter(|due| now < *due)
        };
        let ended = run_until_deadline(&client, &timeouts, end_overdue, |_, _| Poll::<()>::Pending).await;
        assert_eq!((ended, now()), (Err(Cut::Stalled), due));
        assert_eq!(calls.borrow().len(), 7, "in between only every ten seconds: {calls:?}");
    }
}
