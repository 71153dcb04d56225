//! The body of a response to the client: streamed from the upstream, or the proxy's own.
//!
//! It holds the upstream connection and the request's `RecordGuard`, and releases both when it ends.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::permission::Credentials;
use super::record_guard::RecordGuard;
use crate::body::Pieces;
use crate::grpc;
use crate::proxy::downstream::rechecks::CHECK;
use crate::proxy::upstream::{Pool, ResponseError, UpstreamExchange};
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::schema::response::Masking;

/// The body of a response to the client.
pub(crate) struct ResponseBody {
    source: Source,
    guard: Box<RecordGuard>,
    /// Why the response was interrupted.
    interruption: Option<Refusal>,
    /// All of it was sent.
    completed: bool,
    watch: Watch,
}

/// What becomes of a response whose caller may no longer have it.
enum Watch {
    /// Everybody may have it, or it has come whole.
    None,
    /// It is looked at after a while: most responses are over soon.
    Later(Box<Credentials>),
    /// It ends then.
    Now(Pin<Box<dyn Future<Output = Refusal>>>),
}

/// What was held of a body until the response was released.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) pieces: Pieces,
    /// Hides something in what is still to come.
    pub(crate) masking: Option<Box<Masking>>,
}

impl From<Pieces> for Held {
    fn from(pieces: Pieces) -> Self {
        Self { pieces, masking: None }
    }
}

enum Source {
    Local(Option<Bytes>),
    Upstream(Upstream),
}

/// A body streamed from the upstream.
struct Upstream {
    held: Held,
    /// What came first of a body of which nothing was held.
    /// Boxed, because it is large and rare, and would enlarge every response.
    beginning: Option<Box<Frame<Bytes>>>,
    /// Present until the response is interrupted.
    connection: Option<UpstreamExchange>,
    pool: Rc<Pool>,
    /// When the wait for the next piece began.
    waiting_since: Option<Instant>,
}

/// The response was interrupted: the client's connection or stream ends early.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the upstream's response ended early")
    }
}

impl std::error::Error for Interrupted {}

impl ResponseBody {
    /// Creates a body that does not come from an upstream.
    pub(crate) fn local(bytes: Bytes, guard: Box<RecordGuard>) -> Self {
        Self::new(Source::Local(Some(bytes).filter(|bytes| !bytes.is_empty())), guard)
    }

    /// Creates a body streamed from the upstream: `held` has been read already, the rest follows on `connection`. With
    /// `credentials`, it ends early when the caller may no longer have it.
    pub(crate) fn upstream(
        connection: UpstreamExchange,
        pool: Rc<Pool>,
        mut held: Held,
        credentials: Option<Box<Credentials>>,
        guard: Box<RecordGuard>,
    ) -> Self {
        held.pieces.retain(|piece| !piece.is_empty());
        let connection = Some(connection);
        let upstream = Upstream { held, beginning: None, connection, pool, waiting_since: None };
        let mut body = Self::new(Source::Upstream(upstream), guard);
        body.watch = credentials.map_or(Watch::None, Watch::Later);
        body
    }

    fn new(source: Source, guard: Box<RecordGuard>) -> Self {
        let completed = false;
        Self { source, guard, interruption: None, completed, watch: Watch::None }
    }

    /// Ready once the caller may no longer have the response.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        self.watch = match std::mem::replace(&mut self.watch, Watch::None) {
            Watch::Later(credentials) if self.guard.exchange.begun.elapsed() >= CHECK => {
                Watch::Now(Box::pin(self.guard.permission(*credentials).lost()))
            }
            watch => watch,
        };
        let Watch::Now(lost) = &mut self.watch else { return Poll::Pending };
        let refusal = ready!(lost.as_mut().poll(cx));
        self.watch = Watch::None;
        Poll::Ready(refusal)
    }

    /// Returns the maximum time that the upstream may take for the next piece.
    pub(crate) fn idle_timeout(&self) -> Duration {
        match &self.source {
            Source::Local(_) => Duration::ZERO,
            Source::Upstream(upstream) => upstream.pool.idle_timeout(),
        }
    }

    /// When the last piece of the request came, if it may go on beside the response.
    pub(crate) fn request_continued(&self) -> Option<Instant> {
        self.guard.counter.last()
    }

    /// Returns how many bytes were read from the upstream and are not taken yet.
    pub(crate) fn read_ahead(&self) -> usize {
        match &self.source {
            Source::Upstream(Upstream { connection: Some(connection), .. }) => connection.read_ahead(),
            Source::Local(_) | Source::Upstream(_) => 0,
        }
    }

    /// Reads little from the upstream the next time, however much there is.
    pub(crate) fn read_less(&mut self) {
        if let Source::Upstream(Upstream { connection: Some(connection), .. }) = &mut self.source {
            connection.read_less();
        }
    }

    /// Reads what is already there of the body, so that a response that breaks at its beginning can still be replaced.
    pub(super) fn poll_beginning(&mut self, cx: &mut Context<'_>) {
        if let Source::Upstream(upstream) = &mut self.source
            && upstream.held.pieces.is_empty()
            && upstream.beginning.is_none()
        {
            match upstream.poll(cx, &self.watch, &self.guard) {
                Poll::Ready(Some(Ok(frame))) => upstream.beginning = Some(Box::new(frame)),
                Poll::Ready(Some(Err(refusal))) => self.interruption = Some(refusal),
                Poll::Ready(None) | Poll::Pending => {}
            }
        }
    }

    /// Returns why the response was interrupted, if it was. Then nothing of it may have been sent, and the caller
    /// replaces the body.
    pub(super) fn take_interruption(&mut self) -> Option<Refusal> {
        self.interruption.take()
    }

    /// Replaces the body by the proxy's own.
    pub(super) fn replace(&mut self, with: impl FnOnce(&mut RecordGuard) -> Bytes) {
        self.source = Source::Local(Some(with(&mut self.guard)));
    }

    /// The record of the request, for what follows the response on the same connection.
    pub(in crate::proxy) fn guard(&mut self) -> &mut RecordGuard {
        &mut self.guard
    }

    /// Records that what followed the response was ended for this reason.
    pub(in crate::proxy) fn interrupted(&mut self, refusal: Refusal) {
        self.interruption = Some(refusal);
    }

    /// Records that all of the response was sent.
    pub(crate) fn completed(&mut self) {
        self.completed = true;
    }

    /// Records that the stream is ended because the client took too little of the response.
    pub(crate) fn client_stalled(&mut self) {
        self.guard.stalled();
    }

    /// Records that the response was not sent whole: this many bytes were, with head and framing, and this many that were
    /// ready were not.
    pub(crate) fn cut_short(&mut self, sent: u64, unsent: u64) {
        self.guard.unsent(unsent, sent == 0);
    }

    /// Takes back bytes of the body that were not sent after all, though the head was.
    pub(crate) fn unsent(&mut self, bytes: u64) {
        self.guard.unsent(bytes, false);
    }

    /// Gives the upstream's connection back once the whole response has been read.
    fn release(&mut self) {
        if let Source::Upstream(upstream) = &mut self.source
            && upstream.has_ended()
            && let Some(connection) = upstream.connection.take()
        {
            upstream.pool.put(connection);
        }
    }
}

impl Upstream {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        watch: &Watch,
        guard: &RecordGuard,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        if let Some(piece) = self.held.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(frame) = self.beginning.take() {
            return Poll::Ready(Some(Ok(*frame)));
        }
        if self.held.masking.is_some() { self.poll_masked(cx, watch, guard) } else { self.poll_next(cx, watch, guard) }
    }

    /// The next piece of a body in which something is hidden. Its trailers are of the whole, and do not go on.
    #[cold]
    fn poll_masked(
        &mut self,
        cx: &mut Context<'_>,
        watch: &Watch,
        guard: &RecordGuard,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        loop {
            let Some(masking) = &mut self.held.masking else { return self.poll_next(cx, watch, guard) };
            let masked = if masking.has_more() {
                masking.go_on()
            } else {
                let frame = ready!(self.poll_next(cx, watch, guard));
                let Some(masking) = &mut self.held.masking else { return Poll::Ready(frame) };
                match frame {
                    Some(Ok(frame)) => masking.add(frame.into_data().unwrap_or_default()).map(|()| Bytes::new()),
                    Some(Err(refusal)) => Err(refusal),
                    None => {
                        let rest = masking.finish();
                        self.held.masking = None;
                        let rest = rest.map(|rest| (!rest.is_empty()).then(|| Frame::data(rest)));
                        return Poll::Ready(rest.transpose());
                    }
                }
            };
            match masked {
                Ok(piece) if !piece.is_empty() => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Ok(_) if self.held.masking.as_ref().is_some_and(|masking| masking.has_more()) => {
                    // Others have their turn between two slices.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(_) => {}
                Err(refusal) => {
                    (self.connection, self.held.masking) = (None, None);
                    return Poll::Ready(Some(Err(refusal)));
                }
            }
        }
    }

    /// The next piece from the upstream.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        watch: &Watch,
        guard: &RecordGuard,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        let frame = match connection.poll_body(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let idle = self.pool.idle_timeout();
                let since = *self.waiting_since.get_or_insert_with(|| {
                    let now = Instant::now();
                    // Woken then, it looks whether the caller may have the rest.
                    let wakes = if matches!(watch, Watch::Later(_)) { idle.min(CHECK) } else { idle };
                    connection.deadline().not_after(now + wakes);
                    now
                });
                // A request that goes on meanwhile is no silence.
                let last = guard.counter.last();
                ready!(connection.deadline().poll(cx, |_| last.map_or(since, |last| last.max(since)) + idle));
                connection.gave_up();
                self.connection = None;
                return Poll::Ready(Some(Err(Refusal::new(
                    Stage::Forward,
                    Reason::UpstreamTimeout,
                    "the upstream stopped sending its response",
                ))));
            }
        };
        self.waiting_since = None;
        Poll::Ready(match frame {
            None => None,
            Some(Err(error)) => {
                self.connection = None;
                Some(Err(interruption(&error, guard)))
            }
            Some(Ok(frame)) => Some(Ok(match frame.into_trailers() {
                Ok(mut trailers) => {
                    guard.strip_trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(data) => data,
            })),
        })
    }

    fn has_ended(&self) -> bool {
        self.held.pieces.is_empty()
            && self.held.masking.is_none()
            && self.beginning.is_none()
            && self.connection.as_ref().is_none_or(|connection| connection.has_ended())
    }

    fn size_hint(&self) -> SizeHint {
        if self.held.masking.is_some() {
            return SizeHint::new();
        }
        let rest = self.connection.as_ref().map(|connection| connection.size_hint()).unwrap_or_default();
        let beginning = self.beginning.as_deref().and_then(Frame::data_ref).map_or(0, Bytes::len);
        let first = (self.held.pieces.iter().map(Bytes::len).sum::<usize>() + beginning) as u64;
        rest.exact().map_or_else(SizeHint::new, |rest| SizeHint::with_exact(rest.saturating_add(first)))
    }
}

/// Returns why a response was interrupted: the request's body failed while it was still being sent, or the upstream
/// did.
fn interruption(error: &ResponseError, guard: &RecordGuard) -> Refusal {
    guard.counter.failure().unwrap_or_else(|| {
        let detail = "the upstream ended its response early";
        Refusal::new(Stage::Forward, Reason::InvalidUpstreamResponse, detail).cause(error.to_string())
    })
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let this = self.get_mut();
        this.guard.release_replaced_policy();
        let lost = this.poll_lost(cx);
        let frame = match &mut this.source {
            Source::Local(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Source::Upstream(upstream) => match lost {
                Poll::Ready(refusal) => {
                    (upstream.connection, upstream.held.masking) = (None, None);
                    Some(Err(refusal))
                }
                Poll::Pending => ready!(upstream.poll(cx, &this.watch, &this.guard)),
            },
        };
        this.release();
        Poll::Ready(match frame {
            None => None,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.guard.sent(data.len());
                }
                Some(Ok(frame))
            }
            Some(Err(refusal)) => {
                // Trailers say why, to those who look at them: others would take them for the end of a whole response.
                let trailers = this.guard.tells_in_trailers().then(|| grpc::refused(&refusal));
                this.interruption = Some(refusal);
                match trailers {
                    None => Some(Err(Interrupted)),
                    Some(trailers) => {
                        this.source = Source::Local(None);
                        Some(Ok(Frame::trailers(trailers)))
                    }
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Local(bytes) => bytes.is_none(),
            Source::Upstream(upstream) => upstream.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Local(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Source::Upstream(upstream) => upstream.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.release();
        match self.interruption.take() {
            Some(refusal) => self.guard.refused(&refusal),
            None if self.completed => self.guard.completed(),
            None => {}
        }
    }
}
