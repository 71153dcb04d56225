//! The deadline of one HTTP/2 stream whose response is being sent.
//!
//! A response is asked for its next piece only once the client's flow-control window had room for the one before. So no
//! deadline may depend on being asked: [`StreamDeadline`] is looked at by the timer of its connection, whatever the window says.
//!
//! The task of a stream is done with a response once its last [`Piece`] is queued, which may be long before the client takes it. So the
//! deadline holds until each byte was written or dropped, and only then is the response recorded as sent. HTTP/2 writes and drops
//! bytes while it is locked, so that is left to the end of the connection's turn.
//!
//! What is queued is bounded for each stream by HTTP/2, and for all of a connection by [`Streams`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use hyper::body::{Body, Frame};
use tokio::task::JoinHandle;

use super::piece::{Piece, Taken};
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::deadlines::now;
use crate::proxy::request::response_body::{Interrupted, ResponseBody};

/// Size of the pieces that are handed to HTTP/2, in bytes. The client must take one within `timeouts.stall`. For a client that
/// does not open its window, one is kept; for one that opens it and reads nothing, as many as the send buffer of the stream takes.
const PIECE: usize = 16 * 1024;
/// Bytes of all responses of a connection that may be read before the client takes them. Past that, a stream reads more only when
/// all of its own was taken, so that none is held up by others, and little at once.
const MOST_UNSENT: usize = 256 * 1024;
/// Interim responses of a connection that are sent while its client takes too little.
const MOST_INTERIMS: u32 = 16;
/// Streams that may keep what was read at once of a large response, 64 KiB, while others read little at once.
const MOST_HOLDING: usize = 4;

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

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its task runs.
    Running,
    /// HTTP/2 has all of the response, and the task has ended.
    Queued,
    /// All was written or dropped, or the deadline was missed.
    Ended,
}

/// What the streams of one connection share.
pub(super) struct Streams {
    client: Rc<ClientConnection>,
    stall: Duration,
    /// Bytes of all responses that were read, and neither written nor dropped yet.
    unsent: Cell<usize>,
    /// Streams that have some of them: however few, they may keep all alive that was read at once.
    holding: Cell<usize>,
    all: RefCell<Vec<Weak<StreamDeadline>>>,
    /// Those of which the last byte was written or dropped in this turn.
    ended: RefCell<VecDeque<Rc<StreamDeadline>>>,
    /// Interim responses that were sent since the client has taken too little.
    interims: Cell<u32>,
    /// The connection has no turns any more.
    is_closed: Cell<bool>,
}

impl Streams {
    /// Creates those of a connection that has none yet. `stall` is how long its client may take nothing of one.
    pub(super) fn new(client: &Rc<ClientConnection>, stall: Duration) -> Rc<Self> {
        let (client, is_closed) = (Rc::clone(client), Cell::default());
        let (unsent, holding, interims) = (Cell::default(), Cell::default(), Cell::default());
        let (all, ended) = (RefCell::default(), RefCell::default());
        Rc::new(Self { client, stall, unsent, holding, all, ended, interims, is_closed })
    }

    /// Opens a stream.
    pub(super) fn open(self: &Rc<Self>) -> Rc<StreamDeadline> {
        let mut all = self.all.borrow_mut();
        let stream = Rc::new(StreamDeadline {
            connection: Rc::clone(self),
            place: Cell::new(all.len()),
            task: Cell::default(),
            stage: Cell::new(Stage::Running),
            waiting: Cell::new(Waiting::Handling),
            body: RefCell::default(),
            unsent: Cell::default(),
            ahead: Cell::default(),
            taken: Cell::default(),
            dropped: Cell::default(),
            is_held_up: Cell::default(),
            waker: Cell::default(),
            missed: Cell::default(),
        });
        all.push(Rc::downgrade(&stream));
        stream
    }

    /// Writes the records of the streams that have ended in this turn of the connection.
    pub(super) fn end_turn(&self) {
        loop {
            // Not in the condition: it would be borrowed for as long.
            let next = self.ended.borrow_mut().pop_front();
            let Some(stream) = next else { return };
            stream.finish();
        }
    }

    /// Ends the streams whose deadline is missed: they are reset, their records written, and their upstream connections closed. Returns
    /// when it is to be called again.
    pub(super) fn end_overdue(&self, now: Instant) -> Option<Instant> {
        let (mut next, mut overdue) = (None, Vec::new());
        let goes_on = |stream: &Rc<StreamDeadline>| !stream.missed.get() && stream.stage.get() != Stage::Ended;
        for stream in self.all.borrow().iter().filter_map(Weak::upgrade).filter(goes_on) {
            match stream.at(now) {
                due if due <= now => overdue.push(stream),
                due => next = Some(next.map_or(due, |next: Instant| next.min(due))),
            }
        }
        overdue.iter().for_each(|stream| stream.miss());
        next
    }

    /// Whether one more interim response may be sent. For a client that reads nothing, HTTP/2 would keep those of all its streams: 8 MiB
    /// and more.
    fn takes_interim(&self) -> bool {
        let before = if self.client.stalled().is_some() { self.interims.get() } else { 0 };
        self.interims.set(before.saturating_add(1));
        before < MOST_INTERIMS
    }

    fn is_full(&self) -> bool {
        self.unsent.get() > MOST_UNSENT
    }

    /// Whether streams read little at once.
    fn reads_less(&self) -> bool {
        self.is_full() || self.holding.get() > MOST_HOLDING
    }

    fn hold(&self, size: usize) {
        self.unsent.set(self.unsent.get() + size);
    }

    /// Counts bytes off. Streams go on when there is room for several: they would wake in vain otherwise.
    fn release(&self, size: usize) {
        let before = self.unsent.get();
        let left = before.saturating_sub(size);
        self.unsent.set(left);
        if before > MOST_UNSENT / 2 && left <= MOST_UNSENT / 2 {
            let all = self.all.borrow();
            all.iter()
                .filter_map(Weak::upgrade)
                .filter(|stream| stream.is_held_up.take())
                .for_each(|stream| stream.wake());
        }
    }
}

/// Writes the records of streams of which something was queued, when it is dropped after their connection.
pub(super) struct LastTurn(pub(super) Rc<Streams>);

impl Drop for LastTurn {
    fn drop(&mut self) {
        self.0.is_closed.set(true);
        self.0.end_turn();
    }
}

/// When a stream ends if nothing changes, and what was sent of its response.
pub(super) struct StreamDeadline {
    connection: Rc<Streams>,
    /// Its position among the streams of the connection.
    place: Cell<usize>,
    /// Its task, while that runs.
    task: Cell<Option<JoinHandle<()>>>,
    stage: Cell<Stage>,
    waiting: Cell<Waiting>,
    /// The body of the response, from when its head is sent until the stream has ended.
    body: RefCell<Option<ResponseBody>>,
    /// Bytes of the body that were read and are not written yet, or were dropped.
    unsent: Cell<usize>,
    /// Bytes that were read from the upstream and are not taken as parts of the body yet.
    ahead: Cell<usize>,
    /// Bytes written since the wait for the client began.
    taken: Cell<usize>,
    /// Some bytes were dropped: the stream was reset, or the connection has ended.
    dropped: Cell<bool>,
    /// It reads no more until fewer bytes of the connection are unsent.
    is_held_up: Cell<bool>,
    /// Waits until it is not.
    waker: Cell<Option<Waker>>,
    /// It has passed, so the client took nothing: the upstream's own deadline is earlier, unless the client's window is
    /// closed.
    missed: Cell<bool>,
}

impl StreamDeadline {
    /// Notes the task of the stream, which was just spawned.
    pub(super) fn runs(&self, task: JoinHandle<()>) {
        self.task.set(Some(task));
    }

    /// Watches the body of the response, whose head is sent now. `running` counts the stream until its task ends.
    pub(super) fn watch(self: &Rc<Self>, body: ResponseBody, running: Rc<()>) -> Watched {
        self.wait_for_client();
        *self.body.borrow_mut() = Some(body);
        self.watched(running)
    }

    fn watched(self: &Rc<Self>, running: Rc<()>) -> Watched {
        Watched { piece: Piece::empty(), stream: Rc::clone(self), _running: running }
    }

    /// Whether one more interim response may be sent to the client.
    pub(super) fn takes_interim(&self) -> bool {
        self.connection.takes_interim()
    }

    /// A piece of the body, which has not been taken yet.
    fn piece(self: &Rc<Self>, bytes: Bytes) -> Piece {
        self.set_unsent(self.unsent.get() + bytes.len());
        self.connection.hold(bytes.len());
        Piece::new(bytes, Rc::<Self>::clone(self))
    }

    /// From now on, the stream has a deadline of another kind.
    pub(super) fn becomes_websocket(&self) {
        self.is_queued();
    }

    fn wait_for_client(&self) {
        self.waiting.set(Waiting::Client(now()));
        self.taken.set(0);
    }

    fn at(&self, now: Instant) -> Instant {
        match self.waiting.get() {
            Waiting::Handling => now + self.connection.stall,
            Waiting::Client(since) => since + self.connection.stall,
            Waiting::Upstream(since, limit) => since + limit + self.connection.stall,
        }
    }

    /// Ends the stream with the turn of the connection, if its task has.
    fn end_with_turn(self: &Rc<Self>) {
        if self.stage.get() != Stage::Queued {
            return;
        }
        self.stage.set(Stage::Ended);
        let this = Rc::clone(self);
        if self.connection.is_closed.get() {
            tokio::task::spawn_local(async move { this.finish() });
        } else {
            self.connection.ended.borrow_mut().push_back(this);
        }
    }

    /// The task has ended: HTTP/2 has all of the response, or has reset the stream.
    fn is_queued(&self) {
        self.stage.set(Stage::Queued);
        drop(self.task.take());
        if self.unsent.get() == 0 || self.dropped.get() || self.missed.get() {
            self.finish();
        }
    }

    fn miss(&self) {
        self.missed.set(true);
        if self.stage.get() == Stage::Queued {
            // HTTP/2 does not reset a stream that has ended for it, nor drop what the client has not taken.
            self.connection.client.end_stalled();
            self.finish();
        } else if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Counts what has been read ahead of what is taken, instead of what was before.
    fn reads_ahead(&self, size: usize) {
        let before = self.ahead.replace(size);
        self.connection.hold(size.saturating_sub(before));
        self.connection.release(before.saturating_sub(size));
    }

    /// Whether it reads no more for now: much of the connection is unsent, and some of that is its own. It is woken when either
    /// changes.
    fn must_wait(&self, cx: &Context<'_>) -> bool {
        let is_held_up = self.connection.is_full() && self.unsent.get() > 0;
        self.is_held_up.set(is_held_up);
        if is_held_up {
            self.waker.set(Some(cx.waker().clone()));
        }
        is_held_up
    }

    fn set_unsent(&self, size: usize) {
        let holding = &self.connection.holding;
        match (self.unsent.replace(size), size) {
            (0, 1..) => holding.set(holding.get() + 1),
            (1.., 0) => holding.set(holding.get().saturating_sub(1)),
            _ => {}
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Writes the record of the response, if there was one.
    fn finish(&self) {
        self.stage.set(Stage::Ended);
        let Some(mut body) = self.body.take() else { return };
        self.reads_ahead(0);
        if self.missed.get() {
            body.client_stalled();
        } else if self.unsent.get() == 0 && body.is_end_stream() {
            body.completed();
        }
        body.unsent(self.unsent.get() as u64);
    }
}

impl Drop for StreamDeadline {
    fn drop(&mut self) {
        self.set_unsent(0);
        self.connection.release(self.ahead.get());
        let (mut all, place) = (self.connection.all.borrow_mut(), self.place.get());
        if place < all.len() {
            all.swap_remove(place);
        }
        if let Some(moved) = all.get(place).and_then(Weak::upgrade) {
            moved.place.set(place);
        }
    }
}

impl Taken for StreamDeadline {
    /// A whole piece is progress; less is none, as for a connection.
    fn wrote(self: Rc<Self>, size: usize) {
        self.set_unsent(self.unsent.get().saturating_sub(size));
        self.taken.set(self.taken.get() + size);
        if self.taken.get() >= PIECE && matches!(self.waiting.get(), Waiting::Client(_)) {
            self.wait_for_client();
        }
        if self.unsent.get() == 0 {
            self.wake();
            self.end_with_turn();
        }
        self.connection.release(size);
    }

    fn dropped(self: Rc<Self>, size: usize) {
        self.dropped.set(true);
        self.end_with_turn();
        self.connection.release(size);
    }
}

/// The body of a response that HTTP/2 sends, in small pieces.
pub(super) struct Watched {
    /// The rest of a large piece.
    piece: Piece,
    stream: Rc<StreamDeadline>,
    _running: Rc<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.piece.discard();
        self.stream.is_queued();
    }
}

impl Watched {
    fn poll_piece(
        &mut self,
        body: &mut ResponseBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Interrupted>>> {
        if !self.piece.has_remaining() {
            if self.stream.connection.reads_less() {
                body.read_less();
            }
            let frame = Pin::new(&mut *body).poll_frame(cx);
            self.stream.reads_ahead(body.read_ahead());
            match ready!(frame) {
                Some(Ok(frame)) => match frame.map_data(|data| self.stream.piece(data)).into_data() {
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
        if !this.piece.has_remaining() && stream.must_wait(cx) {
            if let Waiting::Upstream(..) = stream.waiting.get() {
                stream.wait_for_client();
            }
            return Poll::Pending;
        }
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
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::exchange::Peer;
    use crate::proxy::downstream::activity::Activity;

    const STALL: Duration = Duration::from_secs(60);

    fn stream() -> Rc<StreamDeadline> {
        let (now, address) = (now(), SocketAddr::from(([127, 0, 0, 1], 9)));
        let activity = Arc::new(Activity::new(address, now));
        Streams::new(&ClientConnection::new(Peer::new(address, None), activity, now), STALL).open()
    }

    /// S2: a stream that is never asked for its next piece ends all the same: its task does, and the others go on.
    #[tokio::test]
    async fn a_stream_ends_when_nobody_asks_for_its_next_piece() {
        let local = tokio::task::LocalSet::new();
        let story = async {
            for case in 0..3 {
                let (stream, begun) = (stream(), now());
                let (waiting, ends_after) = match case {
                    0 => (Waiting::Client(begun), Some(STALL)),
                    1 => (Waiting::Upstream(begun, STALL), Some(STALL * 2)),
                    // It has deadlines of its own.
                    _ => (Waiting::Handling, None),
                };
                let running = Rc::new(());
                let watched = stream.watched(Rc::clone(&running));
                let task = tokio::task::spawn_local(async move {
                    let _watched = watched;
                    std::future::pending::<()>().await;
                });
                stream.runs(task);
                stream.waiting.set(waiting);
                let connection = &stream.connection;
                let due = begun + ends_after.unwrap_or(STALL * 10);
                let early = due - Duration::from_nanos(1);
                assert_eq!(connection.end_overdue(early), Some(ends_after.map_or(early + STALL, |_| due)), "{case}");
                assert!(!stream.missed.get(), "{case}");
                assert_eq!(connection.end_overdue(due), (ends_after.is_none()).then_some(due + STALL), "{case}");
                assert_eq!(stream.missed.get(), ends_after.is_some(), "{case}");
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                assert_eq!(Rc::strong_count(&running) == 1, ends_after.is_some(), "{case}");
                assert!(!connection.client.ended_stalled(), "it is reset, and the others go on: {case}");
            }
        };
        local.run_until(story).await;
    }

    /// A response of this many bytes that HTTP/2 has queued whole.
    fn queued(size: usize) -> (Rc<StreamDeadline>, Piece) {
        let stream = stream();
        let piece = stream.piece(Bytes::from(vec![0; size]));
        stream.wait_for_client();
        drop(stream.watched(Rc::default()));
        (stream, piece)
    }

    /// S2: a stream whose last piece is queued has not ended. It ends when the piece was written or dropped; if the client
    /// takes neither it nor enough of it, only the end of the connection frees it.
    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_last_byte_was_written() {
        // How much is written after half of the time, whether the rest is dropped then, and whether it stalls otherwise.
        for (written, drops, stalls) in
            [(100, false, false), (99, false, true), (0, false, true), (0, true, false), (99, true, false)]
        {
            let (stream, mut piece) = queued(100);
            let (connection, begun) = (Rc::clone(&stream.connection), now());
            assert_eq!(connection.end_overdue(begun), Some(begun + STALL));
            tokio::time::advance(STALL / 2).await;
            piece.advance(written);
            // Otherwise HTTP/2 keeps the rest.
            if drops {
                drop(piece.split_to(piece.remaining()));
            }
            assert_eq!(connection.end_overdue(now()), stalls.then_some(begun + STALL), "{written} {drops}");
            assert_eq!(connection.ended.borrow().len(), usize::from(!stalls), "{written} {drops}");
            connection.end_turn();
            assert!(connection.ended.borrow().is_empty());
            tokio::time::advance(STALL / 2).await;
            assert_eq!(connection.end_overdue(now()), None);
            assert_eq!(connection.client.ended_stalled(), stalls, "{written} {drops}");
            assert_eq!((stream.unsent.get(), stream.stage.get()), (100 - written, Stage::Ended), "{written} {drops}");
        }
    }

    /// S2: what all streams of a connection hold is bounded, whatever the windows of its client say. None waits for what others hold.
    #[test]
    fn a_stream_reads_no_more_until_there_is_room_or_all_of_its_own_was_taken() {
        let connection = stream().connection.clone();
        let [own, other, none] = std::array::from_fn(|_| connection.open());
        let (woken, others) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let (waker, other_waker) = (Waker::from(Arc::clone(&woken)), Waker::from(Arc::clone(&others)));
        let (cx, other_cx) = (Context::from_waker(&waker), Context::from_waker(&other_waker));
        let mut small = own.piece(Bytes::from(vec![0; 10]));
        assert!(!own.must_wait(&cx), "there is room");
        // What was read and is not a part of a body yet counts, too.
        other.reads_ahead(MOST_UNSENT / 2);
        let mut large = other.piece(Bytes::from(vec![0; MOST_UNSENT / 2]));
        assert!(own.must_wait(&cx) && other.must_wait(&other_cx) && !none.must_wait(&cx));
        small.advance(9);
        assert_eq!((woken.count(), own.must_wait(&cx)), (0, true), "there is hardly more room, and a byte is its own");
        small.advance(1);
        assert_eq!((woken.count(), own.must_wait(&cx)), (1, false), "none is");
        // It may have one of its own again.
        let rest = own.piece(Bytes::from(vec![0; 10]));
        assert!(own.must_wait(&cx));
        large.advance(MOST_UNSENT / 2 - 1);
        assert_eq!((woken.count(), others.count()), (1, 0), "it would be full again at once");
        drop(rest);
        other.reads_ahead(0);
        assert_eq!(connection.unsent.get(), 1);
        assert_eq!((woken.count(), others.count()), (2, 1));
        other.reads_ahead(5);
        drop((small, large, own, other));
        assert_eq!((connection.unsent.get(), connection.all.borrow().len()), (0, 1));
        assert_eq!(none.place.get(), 0);
    }

    /// A byte that the client does not take keeps alive all that was read with it.
    #[test]
    fn streams_read_little_at_once_while_many_hold_something() {
        let connection = stream().connection.clone();
        let streams: Vec<_> = (0..=MOST_HOLDING).map(|_| connection.open()).collect();
        let mut pieces: Vec<_> = streams.iter().map(|stream| stream.piece(Bytes::from(vec![0; 100]))).collect();
        assert!(connection.reads_less() && !connection.is_full());
        pieces[0].advance(99);
        assert!(connection.reads_less(), "one byte is enough");
        pieces[0].advance(1);
        assert!(!connection.reads_less());
        let again = streams[0].piece(Bytes::from(vec![0; 100]));
        assert!(connection.reads_less());
        drop((again, pieces, streams));
        assert_eq!((connection.holding.get(), connection.unsent.get()), (0, 0), "nor do they once they are gone");
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Woken {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// S2: a slow client has the whole time again for each piece, but not for less.
    #[tokio::test(start_paused = true)]
    async fn each_piece_has_the_whole_time() {
        for (size, ends_after) in [(PIECE, STALL * 3 / 2), (PIECE - 1, STALL)] {
            let ((stream, mut piece), begun) = (queued(PIECE * 2), now());
            tokio::time::advance(STALL / 2).await;
            piece.advance(size);
            assert_eq!(stream.connection.end_overdue(now()), Some(begun + ends_after), "{size}");
        }
    }

    /// What HTTP/2 drops after the last turn of its connection is not forgotten.
    #[tokio::test]
    async fn a_stream_ends_after_its_connection() {
        let story = async {
            let (stream, piece) = queued(1);
            drop(LastTurn(Rc::clone(&stream.connection)));
            drop(piece);
            tokio::task::yield_now().await;
            assert_eq!((stream.stage.get(), Rc::strong_count(&stream)), (Stage::Ended, 1));
        };
        tokio::task::LocalSet::new().run_until(story).await;
    }
}
