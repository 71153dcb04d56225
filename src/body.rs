//! Request bodies: counts them, and bounds their size and time while they are streamed to the upstream.
//!
//! If a client aborts its body, the first symptom is a failed call to the upstream. [`Counter`] records the cause.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::refusal::{Reason, Refusal, Stage};

/// Initial capacity for a collected body of unknown size, in bytes.
const FIRST_ROOM: u64 = 16 * 1024;

/// Refuses a body of more than `limit` bytes.
pub(crate) fn too_large(limit: u64) -> Refusal {
    Refusal::new(Stage::Schema, Reason::BodyTooLarge, format!("send a body of at most {limit} bytes"))
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
    /// The part that was already read, if any, and the rest.
    Streaming(Option<Bytes>, Box<Bounded>),
}

#[derive(Debug)]
struct Bounded {
    source: Source,
    counter: Counter,
    limit: u64,
    deadline: Duration,
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
        Self::resumed(Bytes::new(), source, counter, limit, deadline)
    }

    /// Streams the part that was already read, then the rest.
    fn resumed(read: Bytes, source: Source, counter: &Counter, limit: u64, deadline: Duration) -> Self {
        if source.is_end_stream() {
            return Self::whole(read);
        }
        let counter = counter.clone();
        counter.0.progress.set(Progress::Streaming);
        let read = Some(read).filter(|read| !read.is_empty());
        Self(Kind::Streaming(read, Box::new(Bounded { source, counter, limit, deadline, sleep: None })))
    }
}

impl Bounded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let polled = Pin::new(&mut self.source).poll_frame(cx);
        let frame = match polled {
            Poll::Ready(frame) => frame,
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
            Kind::Streaming(read, bounded) => match read.take() {
                Some(read) => Poll::Ready(Some(Ok(Frame::data(read)))),
                None => bounded.poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Streaming(read, bounded) => read.is_none() && bounded.source.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Streaming(read, bounded) => {
                let (read, mut hint) = (read.as_ref().map_or(0, Bytes::len) as u64, bounded.source.size_hint());
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper.saturating_add(read));
                }
                hint.set_lower(hint.lower().saturating_add(read));
                hint
            }
        }
    }
}

/// A body that could not be read whole.
pub(super) struct Uncollected {
    pub(super) refusal: Refusal,
    /// The complete body, if it was only too large to collect.
    pub(super) body: Option<Body>,
}

/// Reads a whole body of at most `limit` bytes, within `deadline`. A larger one is returned in the error for streaming, up
/// to `outer_limit` bytes.
pub(super) async fn collect(
    mut source: Source,
    counter: &Counter,
    (limit, outer_limit): (u64, u64),
    deadline: Duration,
) -> Result<Bytes, Uncollected> {
    let broken_off = |refusal| Uncollected { refusal, body: None };
    let reading = async move {
        let mut first: Option<Bytes> = None;
        let mut rest: Option<BytesMut> = None;
        while let Some(frame) = source.frame().await {
            // Trailers are not part of what is checked, so a checked body is forwarded without them.
            let Ok(data) = frame.map_err(|error| broken_off(broken(&*error)))?.into_data() else { continue };
            let large = counter.add(data.len()) > limit;
            match (&first, &mut rest) {
                (None, _) => first = Some(data),
                (Some(_), Some(rest)) => rest.extend_from_slice(&data),
                (Some(before), None) => {
                    let room = source.size_hint().lower().max(FIRST_ROOM).min(limit);
                    let mut joined =
                        BytesMut::with_capacity(before.len() + data.len() + usize::try_from(room).unwrap_or(0));
                    joined.extend_from_slice(before);
                    joined.extend_from_slice(&data);
                    rest = Some(joined);
                }
            }
            if large {
                let read = rest.map(BytesMut::freeze).or(first).unwrap_or_default();
                let body = (counter.bytes() <= outer_limit)
                    .then(|| Body::resumed(read, source, counter, outer_limit, deadline));
                return Err(Uncollected { refusal: too_large(limit).closing(), body });
            }
        }
        // A single frame is the common case and needs no copy.
        Ok(rest.map(BytesMut::freeze).or(first).unwrap_or_default())
    };
    tokio::time::timeout(deadline, reading).await.unwrap_or_else(|_| Err(broken_off(too_slow())))
}

fn too_slow() -> Refusal {
    Refusal::new(Stage::Schema, Reason::RequestTimeout, "send the whole body sooner").closing()
}

fn broken(error: &dyn Error) -> Refusal {
    Refusal::new(Stage::Request, Reason::MalformedRequest, "the body's framing is broken, or it ended early")
        .cause(error.to_string())
        .closing()
}
