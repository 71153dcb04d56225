//! The body of a response to the client: streamed from the upstream, or the proxy's own.
//!
//! It holds the upstream connection and the request's `RecordGuard`, and releases both when it ends.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::record_guard::RecordGuard;
use crate::body::Pieces;
use crate::proxy::headers::strip_trailers;
use crate::proxy::upstream::{Pool, ResponseError, UpstreamConnection};
use crate::refusal::{Reason, Refusal, Stage};

/// The body of a response to the client.
pub(crate) struct ResponseBody {
    source: Source,
    guard: Box<RecordGuard>,
}

enum Source {
    Local(Option<Bytes>),
    Upstream(Upstream),
}

/// A body streamed from the upstream.
struct Upstream {
    /// The beginning of the body, read before the response was released.
    prefix: Pieces,
    /// Present until the response is interrupted.
    connection: Option<Box<UpstreamConnection>>,
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
        Self { source: Source::Local(Some(bytes).filter(|bytes| !bytes.is_empty())), guard }
    }

    /// Creates a body streamed from the upstream: `prefix` has been read already, the rest follows on `connection`.
    pub(crate) fn upstream(
        connection: Box<UpstreamConnection>,
        pool: Rc<Pool>,
        mut prefix: Pieces,
        guard: Box<RecordGuard>,
    ) -> Self {
        prefix.retain(|piece| !piece.is_empty());
        Self {
            source: Source::Upstream(Upstream { prefix, connection: Some(connection), pool, waiting_since: None }),
            guard,
        }
    }
}

impl Upstream {
    fn poll(&mut self, cx: &mut Context<'_>, guard: &RecordGuard) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        if let Some(prefix) = self.prefix.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(prefix))));
        }
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        let frame = match connection.poll_body(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let idle = self.pool.idle_timeout();
                let since = *self.waiting_since.get_or_insert_with(|| {
                    let now = Instant::now();
                    connection.deadline.not_after(now + idle);
                    now
                });
                ready!(connection.deadline.poll(cx, |_| since + idle));
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
                    strip_trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(data) => data,
            })),
        })
    }

    fn has_ended(&self) -> bool {
        self.prefix.is_empty() && self.connection.as_ref().is_none_or(|connection| connection.has_ended())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.connection.as_ref().map(|connection| connection.size_hint()).unwrap_or_default();
        let prefix = self.prefix.iter().map(Bytes::len).sum::<usize>() as u64;
        rest.exact().map_or_else(SizeHint::new, |rest| SizeHint::with_exact(rest.saturating_add(prefix)))
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
        let frame = match &mut this.source {
            Source::Local(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Source::Upstream(upstream) => ready!(upstream.poll(cx, &this.guard)),
        };
        Poll::Ready(match frame {
            None => {
                this.guard.completed();
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
                Some(Err(Interrupted))
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
        // hyper and our writer drop a body of known length without polling for its end.
        if let Source::Upstream(upstream) = &mut self.source
            && upstream.has_ended()
            && let Some(connection) = upstream.connection.take()
        {
            self.guard.completed();
            upstream.pool.put(connection);
        }
    }
}
