//! The deadline of one HTTP/2 stream whose response is being sent.
//!
//! hyper asks a response for its next piece only when the client's flow-control window has room for it. So no deadline may
//! depend on being asked: [`StreamDeadline`] is looked at by a timer of the stream's own task, whatever the window says.
//!
//! hyper is done with a response once its last [`Piece`] is queued, which may be long before the client takes it. So the
//! deadline holds until each byte was written or dropped, and only then is the response recorded as sent.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use super::client::ClientConnection;
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

/// Returns the time by the clock of the timer.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// When a stream ends if nothing changes, and what was sent of its response.
pub(super) struct StreamDeadline {
    client: Rc<ClientConnection>,
    waiting: Cell<Waiting>,
    stall: Duration,
    /// The body of the response, from when its head is sent until the stream has ended.
    body: RefCell<Option<ResponseBody>>,
    /// Bytes of the body that were read and are not written yet, or were dropped.
    unsent: Cell<usize>,
    /// Bytes written since the wait for the client began.
    taken: Cell<usize>,
    /// Some bytes were dropped: the stream was reset, or the connection has ended.
    dropped: Cell<bool>,
    /// Waits for the last byte to be written.
    waker: Cell<Option<Waker>>,
    /// It has passed, so the client took nothing: the upstream's own deadline is earlier, unless the client's window is
    /// closed.
    missed: Cell<bool>,
}

impl StreamDeadline {
    /// Creates the deadline of a stream. `stall` is how long the client may take nothing.
    pub(super) fn new(client: Rc<ClientConnection>, stall: Duration) -> Rc<Self> {
        Rc::new(Self {
            client,
            waiting: Cell::new(Waiting::Handling),
            stall,
            body: RefCell::default(),
            unsent: Cell::default(),
            taken: Cell::default(),
            dropped: Cell::default(),
            waker: Cell::default(),
            missed: Cell::default(),
        })
    }

    /// Watches the body of the response, whose head is sent now.
    pub(super) fn watch(self: &Rc<Self>, body: ResponseBody) -> Watched {
        self.wait_for_client();
        *self.body.borrow_mut() = Some(body);
        Watched { piece: Piece::new(Bytes::new(), self), stream: Rc::clone(self) }
    }

    /// The same for a response after whose head the stream is no longer this one's.
    pub(super) fn watch_none(self: &Rc<Self>) -> Watched {
        Watched { piece: Piece::new(Bytes::new(), self), stream: Rc::clone(self) }
    }

    fn wait_for_client(&self) {
        self.waiting.set(Waiting::Client(now()));
        self.taken.set(0);
    }

    fn at(&self, now: Instant) -> Instant {
        match self.waiting.get() {
            Waiting::Handling => now + self.stall,
            Waiting::Client(since) => since + self.stall,
            Waiting::Upstream(since, limit) => since + limit + self.stall,
        }
    }

    /// Records that bytes were written. A whole piece is progress; less is none, as for a connection.
    fn wrote(&self, size: usize) {
        self.unsent.set(self.unsent.get().saturating_sub(size));
        self.taken.set(self.taken.get() + size);
        if self.taken.get() >= PIECE && matches!(self.waiting.get(), Waiting::Client(_)) {
            self.wait_for_client();
        }
        if self.unsent.get() == 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Is ready when nothing of the response is left to be written.
    fn poll_written(&self, cx: &Context<'_>) -> Poll<()> {
        if self.unsent.get() == 0 || self.dropped.get() {
            return Poll::Ready(());
        }
        self.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Runs the task of a stream until all was written or the deadline is missed. Then the record is written, and the
    /// upstream connection closed. If the task has not ended until then, it is dropped, which resets the stream.
    pub(super) async fn run(&self, stream: impl Future) {
        let mut stream = pin!(Some(stream));
        let mut timer = pin!(tokio::time::sleep(self.stall));
        poll_fn(|cx| {
            if stream.as_mut().as_pin_mut().is_some_and(|stream| stream.poll(cx).is_ready()) {
                stream.set(None);
            }
            if stream.is_none() && self.poll_written(cx).is_ready() {
                return Poll::Ready(());
            }
            loop {
                ready!(timer.as_mut().poll(cx));
                let now = now();
                let due = self.at(now);
                if due <= now {
                    self.missed.set(true);
                    if stream.is_none() {
                        // HTTP/2 does not reset a stream that has ended for it, nor drop what the client has not taken.
                        self.client.end_stalled();
                    }
                    return Poll::Ready(());
                }
                // A wait with an earlier deadline may begin meanwhile, but none that is shorter than this.
                timer.as_mut().reset(due.min(now + self.stall).into());
            }
        })
        .await;
        stream.set(None);
        self.finish();
    }

    /// Writes the record of the response, if there was one.
    fn finish(&self) {
        let Some(mut body) = self.body.take() else { return };
        if self.missed.get() {
            body.client_stalled();
        } else if self.unsent.get() == 0 && body.is_end_stream() {
            body.completed();
        }
        body.unsent(self.unsent.get() as u64);
    }
}

/// A part of a response's body on its way through HTTP/2, which tells what was written of it.
pub(super) struct Piece {
    bytes: Bytes,
    stream: Rc<StreamDeadline>,
}

impl Piece {
    fn new(bytes: Bytes, stream: &Rc<StreamDeadline>) -> Self {
        stream.unsent.set(stream.unsent.get() + bytes.len());
        Self { bytes, stream: Rc::clone(stream) }
    }

    fn split_to(&mut self, size: usize) -> Self {
        Self { bytes: self.bytes.split_to(size), stream: Rc::clone(&self.stream) }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.stream.wrote(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.stream.dropped.set(true);
            self.stream.wake();
        }
    }
}

/// The body of a response that HTTP/2 sends, in small pieces.
pub(super) struct Watched {
    /// The rest of a large piece.
    piece: Piece,
    stream: Rc<StreamDeadline>,
}

impl Watched {
    fn poll_piece(
        &mut self,
        body: &mut ResponseBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Interrupted>>> {
        if !self.piece.has_remaining() {
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.map_data(|data| Piece::new(data, &self.stream)).into_data() {
                    Ok(piece) => self.piece = piece,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(interrupted)) => return Poll::Ready(Some(Err(interrupted))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.piece.split_to(self.piece.remaining().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Watched {
    type Data = Piece;
    type Error = Interrupted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, Interrupted>>> {
        let this = self.get_mut();
        let stream = Rc::clone(&this.stream);
        let mut body = stream.body.borrow_mut();
        // Only a stream that has ended has none.
        let Some(body) = body.as_mut() else { return Poll::Ready(Some(Err(Interrupted))) };
        let piece = this.poll_piece(body, cx);
        match (&piece, stream.waiting.get()) {
            (Poll::Ready(_), _) => stream.wait_for_client(),
            (Poll::Pending, Waiting::Upstream(since, limit)) => {
                if let Some(last) = body.request_continued().filter(|last| *last > since) {
                    stream.waiting.set(Waiting::Upstream(last, limit));
                }
            }
            (Poll::Pending, _) => stream.waiting.set(Waiting::Upstream(now(), body.idle_timeout())),
        }
        piece
    }

    fn is_end_stream(&self) -> bool {
        !self.piece.has_remaining() && self.stream.body.borrow().as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.piece.remaining() as u64;
        let body = self.stream.body.borrow().as_ref().and_then(|body| body.size_hint().exact());
        body.map_or_else(SizeHint::new, |size| SizeHint::with_exact(size.saturating_add(rest)))
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::exchange::Peer;
    use crate::proxy::downstream::activity::Activity;

    const STALL: Duration = Duration::from_secs(60);

    fn stream() -> Rc<StreamDeadline> {
        let (now, address) = (now(), SocketAddr::from(([127, 0, 0, 1], 9)));
        let activity = Arc::new(Activity::new(address, now));
        StreamDeadline::new(ClientConnection::new(Peer::new(address, None), activity, now), STALL)
    }

    /// S2: a stream that is never asked for its next piece ends all the same.
    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_nobody_asks_for_its_next_piece() {
        for case in 0..3 {
            let (deadline, begun) = (stream(), tokio::time::Instant::now());
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
            assert!(!deadline.client.ended_stalled(), "it is reset, and the others go on: {:?}", deadline.waiting);
        }
    }

    /// S2: a stream whose last piece is queued has not ended. It ends when the piece was written or dropped; if the client
    /// takes neither it nor enough of it, only the end of the connection frees it.
    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_last_byte_was_written() {
        // How much is written after half of the time, whether the rest is dropped then, and when the stream ends, stalled.
        for (written, drops, ends_after, stalled) in [
            (100, false, STALL / 2, false),
            (99, false, STALL, true),
            (0, false, STALL, true),
            (0, true, STALL / 2, false),
            (99, true, STALL / 2, false),
        ] {
            let (deadline, begun) = (stream(), tokio::time::Instant::now());
            let mut piece = Piece::new(Bytes::from(vec![0; 100]), &deadline);
            deadline.waiting.set(Waiting::Client(begun.into_std()));
            let writes = async {
                tokio::time::sleep(STALL / 2).await;
                piece.advance(written);
                // Otherwise HTTP/2 keeps the rest.
                if drops {
                    drop(piece.split_to(piece.remaining()));
                }
            };
            let run = async {
                deadline.run(ready(())).await;
                begun.elapsed()
            };
            let ((), ended) = tokio::join!(writes, run);
            assert_eq!((ended, deadline.client.ended_stalled()), (ends_after, stalled), "{written} {drops}");
            assert_eq!(deadline.unsent.get(), 100 - written, "{written} {drops}");
        }
    }

    /// S2: a slow client has the whole time again for each piece, but not for less.
    #[tokio::test(start_paused = true)]
    async fn each_piece_has_the_whole_time() {
        for (size, ends_after) in [(PIECE, STALL * 3 / 2), (PIECE - 1, STALL)] {
            let (deadline, begun) = (stream(), tokio::time::Instant::now());
            let mut piece = Piece::new(Bytes::from(vec![0; PIECE * 2]), &deadline);
            deadline.waiting.set(Waiting::Client(begun.into_std()));
            let writes = async {
                tokio::time::sleep(STALL / 2).await;
                piece.advance(size);
            };
            let run = async {
                deadline.run(ready(())).await;
                begun.elapsed()
            };
            let ((), ended) = tokio::join!(writes, run);
            assert_eq!(ended, ends_after, "{size}");
        }
    }
}
