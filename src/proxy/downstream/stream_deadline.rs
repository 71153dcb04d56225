//! The deadline of one HTTP/2 stream whose response is being sent.
//!
//! hyper asks a response for its next piece only when the client's flow-control window has room for it. So no deadline may
//! depend on being asked: [`StreamDeadline`] is looked at by a timer of the stream's own task, whatever the window says.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::proxy::request::response_body::{Interrupted, ResponseBody};

/// Size of the pieces that are handed to HTTP/2, in bytes. The client must take one within `timeouts.stall`; more is not
/// queued for a client that does not open its window.
const PIECE: usize = 16 * 1024;

/// Who the stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Nobody yet: the request is being handled, and has deadlines of its own.
    Handling,
    /// The client, to take the next piece, since this instant.
    Client(Instant),
    /// The upstream, to send the next piece, since this instant and for at most this long. Its own deadline is looked at
    /// only if the client's window is open.
    Upstream(Instant, Duration),
}

/// When a stream ends if nothing changes.
#[derive(Debug)]
pub(super) struct StreamDeadline {
    waiting: Cell<Waiting>,
    stall: Duration,
    /// It has passed, so the client took nothing: the upstream's own deadline is earlier, unless the client's window is
    /// closed.
    missed: Cell<bool>,
}

impl StreamDeadline {
    /// Creates the deadline of a stream. `stall` is how long the client may take nothing.
    pub(super) fn new(stall: Duration) -> Rc<Self> {
        Rc::new(Self { waiting: Cell::new(Waiting::Handling), stall, missed: Cell::new(false) })
    }

    /// Watches the body of the response, whose head is sent now.
    pub(super) fn watch(self: &Rc<Self>, body: ResponseBody) -> Watched {
        self.waiting.set(Waiting::Client(Instant::now()));
        Watched { body, piece: Bytes::new(), deadline: Rc::clone(self) }
    }

    fn at(&self, now: Instant) -> Instant {
        match self.waiting.get() {
            Waiting::Handling => now + self.stall,
            Waiting::Client(since) => since + self.stall,
            Waiting::Upstream(since, limit) => since + limit + self.stall,
        }
    }

    /// Runs the task of a stream until it ends or misses the deadline. Then it is dropped, which resets the stream, writes
    /// the record, and closes the upstream connection.
    pub(super) async fn run(&self, stream: impl Future) {
        let mut stream = pin!(stream);
        let mut timer = pin!(tokio::time::sleep(self.stall));
        poll_fn(|cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            loop {
                ready!(timer.as_mut().poll(cx));
                let now = tokio::time::Instant::now();
                let due = tokio::time::Instant::from_std(self.at(now.into_std()));
                if due <= now {
                    self.missed.set(true);
                    return Poll::Ready(());
                }
                // A wait with an earlier deadline may begin meanwhile, but none that is shorter than this.
                timer.as_mut().reset(due.min(now + self.stall));
            }
        })
        .await;
    }
}

/// The body of a response that HTTP/2 sends, in small pieces.
pub(super) struct Watched {
    body: ResponseBody,
    /// The rest of a large piece.
    piece: Bytes,
    deadline: Rc<StreamDeadline>,
}

impl Watched {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        if self.piece.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.piece = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let piece = self.piece.split_to(self.piece.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.deadline.missed.get() {
            self.body.client_stalled();
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let piece = self.poll_piece(cx);
        let waiting = &self.deadline.waiting;
        match (&piece, waiting.get()) {
            (Poll::Ready(_), _) => waiting.set(Waiting::Client(Instant::now())),
            (Poll::Pending, Waiting::Upstream(..)) => {}
            (Poll::Pending, _) => waiting.set(Waiting::Upstream(Instant::now(), self.body.idle_timeout())),
        }
        piece
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.piece.len() as u64;
        self.body.size_hint().exact().map_or_else(SizeHint::new, |size| SizeHint::with_exact(size.saturating_add(rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    /// S2: a stream that is never asked for its next piece ends all the same.
    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_nobody_asks_for_its_next_piece() {
        for case in 0..3 {
            let (deadline, begun) = (StreamDeadline::new(STALL), tokio::time::Instant::now());
            let (waiting, ends_after) = match case {
                0 => (Waiting::Client(begun.into_std()), Some(STALL)),
                1 => (Waiting::Upstream(begun.into_std(), STALL), Some(STALL * 2)),
                // It has deadlines of its own.
                _ => (Waiting::Handling, None),
            };
            deadline.waiting.set(waiting);
            let runs = deadline.run(std::future::pending::<()>());
            let ended = tokio::time::timeout(STALL * 10, runs).await.map(|()| begun.elapsed());
            assert_eq!(ended.ok(), ends_after, "{:?}", deadline.waiting);
            assert_eq!(deadline.missed.get(), ends_after.is_some(), "{:?}", deadline.waiting);
        }
    }
}
