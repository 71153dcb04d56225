//! The body of an answer on its way to the client: the upstream's, piece by piece, or our own.
//!
//! It carries the connection the pieces come from and the witness of the request, and lets go of both when it ends.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::record_guard::RecordGuard;
use crate::proxy::headers::strip_trailers;
use crate::proxy::upstream::{Link, LinkError, Pool};
use crate::refusal::{Reason, Refusal, Stage};

/// A body to send to the client.
pub(crate) struct ResponseBody {
    source: Source,
    guard: Box<RecordGuard>,
}

enum Source {
    Ours(Option<Bytes>),
    Upstream(Upstream),
}

/// The upstream's side of an answer.
struct Upstream {
    /// What was read of it before it was let go.
    held: Option<Bytes>,
    /// Present until the answer breaks off.
    link: Option<Box<Link>>,
    pool: Rc<Pool>,
    /// Since when a piece is waited for.
    waiting: Option<Instant>,
}

/// An answer broke off; the client sees its connection or stream end early.
#[derive(Debug)]
pub(crate) struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the upstream's answer broke off")
    }
}

impl std::error::Error for BrokenOff {}

impl ResponseBody {
    /// Our own.
    pub(crate) fn ours(bytes: Bytes, guard: Box<RecordGuard>) -> Self {
        Self { source: Source::Ours(Some(bytes).filter(|bytes| !bytes.is_empty())), guard }
    }

    /// The upstream's: what has been read of it, and the rest as it comes.
    pub(crate) fn upstream(link: Box<Link>, pool: Rc<Pool>, held: Bytes, guard: Box<RecordGuard>) -> Self {
        let held = Some(held).filter(|held| !held.is_empty());
        Self { source: Source::Upstream(Upstream { held, link: Some(link), pool, waiting: None }), guard }
    }
}

impl Upstream {
    fn poll(&mut self, cx: &mut Context<'_>, guard: &RecordGuard) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        if let Some(held) = self.held.take() {
            return Poll::Ready(Some(Ok(Frame::data(held))));
        }
        let Some(link) = &mut self.link else { return Poll::Ready(None) };
        let frame = match link.poll_body(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let idle = self.pool.idle_timeout();
                let since = *self.waiting.get_or_insert_with(|| {
                    let now = Instant::now();
                    link.deadline.not_after(now + idle);
                    now
                });
                ready!(link.deadline.poll(cx, |_| since + idle));
                self.link = None;
                return Poll::Ready(Some(Err(Refusal::new(
                    Stage::Forward,
                    Reason::UpstreamTimeout,
                    "the service behind stopped sending",
                ))));
            }
        };
        self.waiting = None;
        Poll::Ready(match frame {
            None => None,
            Some(Err(error)) => {
                self.link = None;
                Some(Err(broken(&error, guard)))
            }
            Some(Ok(frame)) => Some(Ok(match frame.into_trailers() {
                Ok(mut trailers) => {
                    strip_trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(data) => data,
            })),
        })
    }

    fn has_ended(&self) -> bool {
        self.held.is_none() && self.link.as_ref().is_none_or(|link| link.has_ended())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.link.as_ref().map(|link| link.size_hint()).unwrap_or_default();
        let held = self.held.as_ref().map_or(0, Bytes::len) as u64;
        rest.exact().map_or_else(SizeHint::new, |rest| SizeHint::with_exact(rest.saturating_add(held)))
    }
}

/// Why an answer broke off: for the client's own body, which was still being sent, or the upstream's.
fn broken(error: &LinkError, guard: &RecordGuard) -> Refusal {
    guard.counter.failure().unwrap_or_else(|| {
        let detail = "the service behind broke off its answer";
        Refusal::new(Stage::Forward, Reason::InvalidUpstreamResponse, detail).cause(error.to_string())
    })
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let frame = match &mut this.source {
            Source::Ours(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Source::Upstream(upstream) => ready!(upstream.poll(cx, &this.guard)),
        };
        Poll::Ready(match frame {
            None => {
                this.guard.answered();
                None
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.guard.sent(data.len());
                }
                Some(Ok(frame))
            }
            Some(Err(refusal)) => {
                this.guard.refused(&refusal);
                Some(Err(BrokenOff))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ours(bytes) => bytes.is_none(),
            Source::Upstream(upstream) => upstream.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ours(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Source::Upstream(upstream) => upstream.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body whose length is known is dropped without asking for its end.
        if let Source::Upstream(upstream) = &mut self.source
            && upstream.has_ended()
            && let Some(link) = upstream.link.take()
        {
            self.guard.answered();
            upstream.pool.put(link);
        }
    }
}
