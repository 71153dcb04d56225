//! Bodies: counts those of requests, and bounds their size and time while they are streamed to the upstream; collects a body
//! that must be checked whole, within the memory budget of the process.
//!
//! If a client aborts its body, the first symptom is a failed call to the upstream. [`Counter`] records the cause.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::budget::{Exhausted, MemoryBudget, Reservation};
use crate::refusal::{Members, Reason, Refusal, Stage};

/// Smallest buffer for a collected body of more than one piece, in bytes.
const FIRST_ROOM: usize = 16 * 1024;
/// When a client should try again after the server was overloaded, in seconds.
const RETRY_AFTER: u64 = 1;

/// Refuses a body of more than `limit` bytes.
pub(crate) fn too_large(limit: u64) -> Refusal {
    Refusal::new(Stage::Schema, Reason::BodyTooLarge, format!("send a body of at most {limit} bytes"))
}

/// Refuses a message that cannot be held or checked now.
pub(crate) fn overloaded(stage: Stage, detail: &'static str) -> Refusal {
    Refusal::new(stage, Reason::Overloaded, detail)
        .members(Members { retry_after: Some(RETRY_AFTER), ..Members::default() })
}

/// Refuses a message that does not fit into the memory budget now.
pub(crate) fn no_memory(stage: Stage) -> Refusal {
    let refusal = overloaded(stage, "the server is processing too many large messages; try again later");
    refusal.cause("the bodies in progress would exceed `limits.memory`")
}

fn stripped(frame: Frame<Bytes>, strip: fn(&mut HeaderMap)) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            strip(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(data) => data,
    }
}

/// The state of a request's body, shared by the body and the audit record.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counter(Rc<Counted>);

/// How much of a body the client has sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The body was complete from the start.
    #[default]
    Whole,
    /// The client is still sending.
    Streaming,
    /// The client finished at this time.
    Finished(Instant),
}

#[derive(Debug, Default)]
struct Counted {
    bytes: Cell<u64>,
    progress: Cell<Progress>,
    /// When the last piece came of a body that may pause.
    last: Cell<Option<Instant>>,
    /// The response to it has begun.
    answered: Cell<bool>,
    failure: RefCell<Option<Refusal>>,
}

impl Counter {
    /// Bytes read so far, before decoding.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }

    /// Why the body ended early, if the client caused it.
    pub(crate) fn failure(&self) -> Option<Refusal> {
        self.0.failure.borrow().clone()
    }

    pub(crate) fn progress(&self) -> Progress {
        self.0.progress.get()
    }

    /// When the last piece came, of a body that may pause.
    pub(crate) fn last(&self) -> Option<std::time::Instant> {
        self.0.last.get().map(Instant::into_std)
    }

    /// Records that the response has begun.
    pub(crate) fn answered(&self) {
        self.0.answered.set(true);
    }

    fn add(&self, bytes: usize) -> u64 {
        let total = self.0.bytes.get() + bytes as u64;
        self.0.bytes.set(total);
        total
    }

    fn fail(&self, refusal: Refusal) -> Interrupted {
        self.0.failure.replace(Some(refusal));
        Interrupted
    }
}

/// A body sent by a client, for any HTTP version.
pub(crate) trait Incoming: HttpBody<Data = Bytes, Error = Box<dyn Error>> + fmt::Debug {}

impl<B: HttpBody<Data = Bytes, Error = Box<dyn Error>> + fmt::Debug> Incoming for B {}

/// Where a request's body comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The client, and a function that removes forbidden trailers.
    Client(Pin<Box<dyn Incoming>>, fn(&mut HeaderMap)),
    /// Fixed bytes, for an empty body or for a rehearsed request that is not sent.
    Given(Full<Bytes>),
}

impl Source {
    /// A client's body; `strip` removes forbidden trailers.
    pub(crate) fn client(body: impl Incoming + 'static, strip: fn(&mut HeaderMap)) -> Self {
        if body.is_end_stream() { Self::Given(Full::default()) } else { Self::Client(Box::pin(body), strip) }
    }
}

impl HttpBody for Source {
    type Data = Bytes;
    type Error = Box<dyn Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Box<dyn Error>>>> {
        match &mut *self {
            Self::Client(body, strip) => body.as_mut().poll_frame(cx).map_ok(|frame| stripped(frame, *strip)),
            Self::Given(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(body, _) => body.is_end_stream(),
            Self::Given(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(body, _) => body.size_hint(),
            Self::Given(body) => body.size_hint(),
        }
    }
}

/// The body ended early; [`Counter::failure`] has the reason.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client's body ended early")
    }
}

impl Error for Interrupted {}

/// A body to send on.
#[derive(Debug)]
pub(crate) struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>),
    /// The part that was already read, and the rest.
    Streaming(Pieces, Box<Bounded>),
}

#[derive(Debug)]
struct Bounded {
    source: Source,
    counter: Counter,
    limit: u64,
    deadline: Duration,
    /// The deadline is that of each piece, not of the whole body, and ends when the response begins.
    pauses: bool,
    /// Started when the body is first not ready.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Body {
    /// Creates a body from these bytes.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// Copies the body; `None` if it is streaming.
    pub(crate) fn copy(&self) -> Option<Self> {
        match &self.0 {
            Kind::Whole(bytes) => Some(Self(Kind::Whole(bytes.clone()))),
            Kind::Streaming(..) => None,
        }
    }

    /// Streams the client's body.
    pub(crate) fn streaming(source: Source, counter: &Counter, limit: u64, deadline: Duration) -> Self {
        Self::resumed(Pieces::new(), source, counter, limit, deadline)
    }

    /// Streams the part that was already read, then the rest.
    fn resumed(mut read: Pieces, source: Source, counter: &Counter, limit: u64, deadline: Duration) -> Self {
        let counter = counter.clone();
        if !source.is_end_stream() {
            counter.0.progress.set(Progress::Streaming);
        } else if read.len() <= 1 {
            return Self::whole(read.pop_front().unwrap_or_default());
        }
        Self(Kind::Streaming(read, Box::new(Bounded { source, counter, limit, deadline, pauses: false, sleep: None })))
    }
}

impl Body {
    /// Lets the client pause, as one does in a stream that goes both ways: once the response has begun, what bounds that bounds
    /// both.
    pub(crate) fn allow_pauses(&mut self) {
        if let Kind::Streaming(_, bounded) = &mut self.0 {
            bounded.pauses = true;
        }
    }

    /// Puts back what was taken of a streaming body, so that it comes first again.
    pub(crate) fn put_back(&mut self, taken: Bytes) {
        if let Kind::Streaming(read, _) = &mut self.0
            && !taken.is_empty()
        {
            read.push_front(taken);
        }
    }
}

impl Bounded {
    /// Notes a piece of a body that may pause.
    fn came(&mut self) {
        let now = Instant::now();
        self.counter.0.last.set(Some(now));
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(now + self.deadline);
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let polled = Pin::new(&mut self.source).poll_frame(cx);
        let frame = match polled {
            Poll::Ready(frame) => {
                if self.pauses {
                    self.came();
                }
                frame
            }
            Poll::Pending if self.pauses && self.counter.0.answered.get() => return Poll::Pending,
            Poll::Pending => {
                let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.deadline)));
                ready!(sleep.as_mut().poll(cx));
                return Poll::Ready(Some(Err(self.counter.fail(too_slow()))));
            }
        };
        if frame.is_none() || self.source.is_end_stream() {
            self.counter.0.progress.set(Progress::Finished(Instant::now()));
        }
        Poll::Ready(match frame {
            None => None,
            Some(Err(error)) => Some(Err(self.counter.fail(broken(&*error)))),
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) if self.counter.add(data.len()) > self.limit => {
                    Some(Err(self.counter.fail(too_large(self.limit).closing())))
                }
                _ => Some(Ok(frame)),
            },
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Streaming(read, bounded) => match read.pop_front() {
                Some(read) => Poll::Ready(Some(Ok(Frame::data(read)))),
                None => bounded.poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Streaming(read, bounded) => read.is_empty() && bounded.source.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Streaming(read, bounded) => {
                let read = read.iter().map(Bytes::len).sum::<usize>() as u64;
                let mut hint = bounded.source.size_hint();
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper.saturating_add(read));
                }
                hint.set_lower(hint.lower().saturating_add(read));
                hint
            }
        }
    }
}

/// Consecutive parts of a body.
pub(crate) type Pieces = VecDeque<Bytes>;

/// The part of a body that has been read so far, to be checked whole. Its bytes are taken from the memory budget.
pub(crate) struct Collected {
    /// The only piece, as long as there is only one: the common case, which needs no copy.
    first: Bytes,
    /// All pieces, once there are more.
    joined: Vec<u8>,
    /// The piece that did not fit into the budget.
    excess: Bytes,
    taken: Reservation,
}

impl Collected {
    /// Returns one without any bytes.
    pub(crate) fn new(memory: &MemoryBudget) -> Self {
        Self { first: Bytes::new(), joined: Vec::new(), excess: Bytes::new(), taken: memory.reserve() }
    }

    /// What has been collected, except a piece that did not fit.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.joined.is_empty() { &self.first } else { &self.joined }
    }

    /// Bytes collected, except a piece that did not fit.
    pub(crate) fn len(&self) -> usize {
        self.first.len().max(self.joined.len())
    }

    /// Adds a piece; `rest` is the size of what follows. If it does not fit into the budget, nothing may be added any more,
    /// but [`Self::into_pieces`] still has it.
    pub(crate) fn push(&mut self, piece: Bytes, rest: &SizeHint) -> Result<(), Exhausted> {
        let needed = self.len().saturating_add(piece.len());
        if self.len() == 0 {
            return self.take(needed, piece).map(|piece| self.first = piece);
        }
        if needed > self.joined.capacity() {
            // At most doubled: the size that a client announces takes no memory before its bytes come.
            let rest = rest.exact().and_then(|rest| usize::try_from(rest).ok()).unwrap_or(needed);
            let room = needed.saturating_add(rest.min(needed)).max(FIRST_ROOM);
            let piece = self.take(room, piece)?;
            self.joined.reserve_exact(room.saturating_sub(self.joined.len()));
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
            self.joined.extend_from_slice(&piece);
        } else {
            self.joined.extend_from_slice(&piece);
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize, piece: Bytes) -> Result<Bytes, Exhausted> {
        match self.taken.grow_to(bytes) {
            Ok(()) => Ok(piece),
            Err(exhausted) => {
                self.excess = piece;
                Err(exhausted)
            }
        }
    }

    /// Returns all bytes.
    pub(crate) fn into_bytes(self) -> Bytes {
        let Self { first, joined, mut taken, .. } = self;
        if joined.is_empty() {
            taken.shrink_to(first.len());
            return if first.is_empty() { first } else { taken.attach(first) };
        }
        taken.attach(joined)
    }

    /// Returns all pieces, also the one that did not fit into the budget.
    pub(crate) fn into_pieces(mut self) -> Pieces {
        let excess = std::mem::take(&mut self.excess);
        [self.into_bytes(), excess].into_iter().filter(|piece| !piece.is_empty()).collect()
    }
}

/// A body that could not be read whole.
pub(super) struct Uncollected {
    pub(super) refusal: Refusal,
    /// The complete body, if it was only too large to collect.
    pub(super) body: Option<Body>,
}

/// Reads a whole body of at most `limit` bytes, within `deadline` and the memory budget. A larger one is returned in the
/// error for streaming, up to `outer_limit` bytes. `look` sees all that has come, whenever there is more of it, and again as long
/// as it returns true; others have their turns in between.
pub(super) async fn collect(
    mut source: Source,
    counter: &Counter,
    (limit, outer_limit): (u64, u64),
    deadline: Duration,
    memory: &MemoryBudget,
    mut look: impl FnMut(&[u8]) -> bool,
) -> Result<Bytes, Uncollected> {
    let broken_off = |refusal| Uncollected { refusal, body: None };
    let reading = async move {
        let mut collected = Collected::new(memory);
        while let Some(frame) = source.frame().await {
            // Trailers are not part of what is checked, so a checked body is forwarded without them.
            let Ok(data) = frame.map_err(|error| broken_off(broken(&*error)))?.into_data() else { continue };
            let large = counter.add(data.len()) > limit;
            let refusal = match collected.push(data, &source.size_hint()) {
                _ if large => too_large(limit),
                Err(Exhausted) => no_memory(Stage::Schema),
                Ok(()) => {
                    while look(collected.bytes()) {
                        tokio::task::yield_now().await;
                    }
                    continue;
                }
            };
            let body = (counter.bytes() <= outer_limit)
                .then(|| Body::resumed(collected.into_pieces(), source, counter, outer_limit, deadline));
            return Err(Uncollected { refusal: refusal.closing(), body });
        }
        Ok(collected.into_bytes())
    };
    tokio::time::timeout(deadline, reading).await.unwrap_or_else(|_| Err(broken_off(too_slow())))
}

fn too_slow() -> Refusal {
    Refusal::new(Stage::Schema, Reason::RequestTimeout, "send the whole body sooner").closing()
}

/// The connection was ended because the client sent too little on it.
#[derive(Debug)]
pub(crate) struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was ended because the client was too slow")
    }
}

impl Error for TooSlow {}

fn broken(error: &(dyn Error + 'static)) -> Refusal {
    if error.is::<TooSlow>() {
        return too_slow();
    }
    Refusal::new(Stage::Request, Reason::MalformedRequest, "the body's framing is broken, or it ended early")
        .cause(error.to_string())
        .closing()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that sends a byte after each pause.
    #[derive(Debug)]
    struct Slow {
        left: u32,
        pause: Duration,
        sleep: Pin<Box<Sleep>>,
    }

    impl HttpBody for Slow {
        type Data = Bytes;
        type Error = Box<dyn Error>;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Box<dyn Error>>>> {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            ready!(self.sleep.as_mut().poll(cx));
            (self.left, self.sleep) = (self.left - 1, Box::pin(tokio::time::sleep(self.pause)));
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"a")))))
        }
    }

    /// Traps (e): a stream that goes both ways is not cut by what bounds a body.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_may_pause_has_a_deadline_for_each_piece_until_it_is_answered() {
        let seconds = Duration::from_secs;
        for (may_pause, answered, pause, comes_whole) in [
            (false, false, 3, true),
            (false, false, 6, false),
            (true, false, 6, true),
            (true, false, 11, false),
            (true, true, 11, true),
        ] {
            let slow = Slow { left: 3, pause: seconds(pause), sleep: Box::pin(tokio::time::sleep(seconds(pause))) };
            let counter = Counter::default();
            let mut body = Body::streaming(Source::client(slow, |_| ()), &counter, 100, seconds(10));
            if may_pause {
                body.allow_pauses();
            }
            if answered {
                counter.answered();
            }
            let whole = body.collect().await.map(|whole| whole.to_bytes());
            assert_eq!(whole.is_ok(), comes_whole, "{may_pause} {answered} {pause}");
            assert_eq!(
                counter.failure().map(|refusal| refusal.reason()),
                (!comes_whole).then_some(Reason::RequestTimeout)
            );
            assert_eq!(counter.last().is_some(), may_pause && (comes_whole || pause < 10));
        }
    }

    #[tokio::test]
    async fn what_is_put_back_comes_first_again_and_counts_once() {
        let slow = Slow { left: 3, pause: Duration::ZERO, sleep: Box::pin(tokio::time::sleep(Duration::ZERO)) };
        let counter = Counter::default();
        let mut body = Body::streaming(Source::client(slow, |_| ()), &counter, 3, Duration::from_secs(10));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        body.put_back(first);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "aaa");
        assert_eq!(counter.bytes(), 3);
    }

    /// Of unknown size.
    fn more() -> SizeHint {
        SizeHint::new()
    }

    #[test]
    fn a_collected_body_takes_memory_as_it_arrives_and_not_as_it_is_announced() {
        // S9: a client that announces much and sends little must not take the budget from others.
        let memory = MemoryBudget::new(1 << 30);
        let mut collected = Collected::new(&memory);
        let announced = SizeHint::with_exact(100 << 20);
        for (piece, taken) in [(10, 10), (10, FIRST_ROOM), (FIRST_ROOM, 2 * (FIRST_ROOM + 20))] {
            collected.push(vec![b'a'; piece].into(), &announced).unwrap();
            assert_eq!(memory.in_use(), taken as u64);
        }
        assert_eq!(collected.into_bytes().len(), FIRST_ROOM + 20);
        assert_eq!(memory.in_use(), 0);
    }

    #[test]
    fn a_body_past_the_memory_budget_is_not_kept_but_can_be_streamed_on() {
        let memory = MemoryBudget::new(20_000);
        let mut collected = Collected::new(&memory);
        for piece in [&b"ab"[..], b"cd"] {
            collected.push(Bytes::from_static(piece), &more()).unwrap();
        }
        let large = Bytes::from(vec![b'e'; 20_000]);
        assert_eq!(collected.push(large.clone(), &more()), Err(Exhausted));
        assert_eq!(collected.into_pieces(), [Bytes::from_static(b"abcd"), large]);
        assert_eq!((memory.in_use(), memory.refusals()), (0, 1));
    }

    #[test]
    fn what_was_collected_returns_its_memory_when_the_body_is_dropped() {
        let memory = MemoryBudget::new(100);
        let mut collected = Collected::new(&memory);
        collected.push(Bytes::from_static(b"body"), &SizeHint::with_exact(0)).unwrap();
        let body = Body::whole(collected.into_bytes());
        let copy = body.copy();
        drop(body);
        assert_eq!(memory.in_use(), 4, "a copy that may be sent again holds it");
        drop(copy);
        assert_eq!(memory.in_use(), 0);
    }
}
