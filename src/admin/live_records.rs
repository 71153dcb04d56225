//! `GET /v1/audit`: records as they are written, as server-sent events (HTML standard, "Server-sent events").

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use percent_encoding::percent_decode_str;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::connections::Connection;
use crate::audit::Filter;
use crate::proxy::downstream::worker::Shared;
use crate::refusal::{Reason, Refusal, Stage};
use crate::runtime::InForce;

/// How often it is looked whether another policy is in force.
const LOOK: Duration = Duration::from_secs(1);

/// After so many looks something is sent, so that a connection that has broken is noticed.
const HEARTBEAT: u32 = 15;

/// The body of an answer.
pub(super) enum AnswerBody {
    /// One that is there whole.
    Whole(Full<Bytes>),
    /// One that goes on.
    Live(mpsc::Receiver<Bytes>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Live(events) => events.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Live(_) => SizeHint::default(),
        }
    }
}

impl From<Full<Bytes>> for AnswerBody {
    fn from(body: Full<Bytes>) -> Self {
        Self::Whole(body)
    }
}

/// Reads the filter of a query.
fn filter(query: Option<&str>) -> Result<Filter, Refusal> {
    let wrong = |detail: String| Refusal::new(Stage::Request, Reason::MalformedRequest, detail);
    let mut filter = Filter::default();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.replace('+', " ");
        let value = percent_decode_str(&value).decode_utf8().map_err(|_| wrong("the query is not UTF-8".to_owned()))?;
        if !filter.set(name, value.into_owned()) {
            let names = Filter::NAMES.join("`, `");
            return Err(wrong(format!("the query has an unknown parameter; use `{names}`")));
        }
    }
    Ok(filter)
}

/// Answers with the records that the query asks for, from now on until another policy is in force: then the client has to
/// show its token again. A client that reads too slowly gets an event with the number of batches that it missed, and is cut off
/// if it reads nothing.
pub(super) fn follow(
    shared: &Arc<Shared>,
    query: Option<&str>,
    connection: &Rc<Connection>,
) -> Result<Response<AnswerBody>, Refusal> {
    let filter = filter(query)?;
    let in_force = shared.in_force.current();
    let Some(records) = in_force.trail.follow() else {
        let detail = "the policy keeps no record (`audit: none`)";
        return Err(Refusal::new(Stage::Request, Reason::Conflict, detail));
    };
    // One event waits for the client; what comes meanwhile waits in the channel of the record, which is bounded.
    let (events, body) = mpsc::channel(1);
    let stream =
        Stream { filter, records, events, shared: Arc::clone(shared), in_force, connection: Rc::clone(connection) };
    tokio::task::spawn_local(stream.run());
    let mut answer = Response::new(AnswerBody::Live(body));
    *answer.status_mut() = StatusCode::OK;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

/// What one client follows.
struct Stream {
    filter: Filter,
    records: broadcast::Receiver<Bytes>,
    events: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
    /// The policy that knows the client's token.
    in_force: Arc<InForce>,
    connection: Rc<Connection>,
}

impl Stream {
    async fn run(mut self) {
        // Sent at once, so that the client knows that it is connected.
        let mut event = Bytes::from_static(b": following\n\n");
        loop {
            if self.events.send(event).await.is_err() {
                return;
            }
            // The client reads, so its connection is in use.
            self.connection.answers();
            match self.due().await {
                Some(next) => event = next,
                None => return,
            }
        }
    }

    /// What is sent next; absent once another policy is in force, or the client has gone.
    async fn due(&mut self) -> Option<Bytes> {
        for _ in 0..HEARTBEAT {
            let next = tokio::time::timeout(LOOK, self.next()).await;
            if self.events.is_closed() || !Arc::ptr_eq(&self.in_force, &self.shared.in_force.current()) {
                return None;
            }
            if let Ok(event) = next {
                return event;
            }
        }
        Some(Bytes::from_static(b":\n\n"))
    }

    /// The next event; absent at the end of the record.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.records.recv().await {
                Ok(lines) => {
                    let events = events(&lines, &self.filter);
                    if !events.is_empty() {
                        return Some(events.into());
                    }
                }
                Err(RecvError::Lagged(batches)) => return Some(format!("event: missed\ndata: {batches}\n\n").into()),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// The events of the lines that are wanted.
fn events(lines: &[u8], filter: &Filter) -> Vec<u8> {
    let mut events = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && filter.wants(line)) {
        events.extend_from_slice(b"event: record\ndata: ");
        events.extend_from_slice(line);
        events.extend_from_slice(b"\n\n");
    }
    events
}
