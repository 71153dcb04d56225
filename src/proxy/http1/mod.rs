//! Serves HTTP/1.x to a client (RFC 9112): one request after the other, each read, handled and answered in one task.
//!
//! - `wire` owns the socket. `reader` parses requests from it, and accepts only the strict subset.
//! - `body_decoder` and `fields` read bodies and field lines, strictly or leniently.
//! - `response` writes the head of a response; `writer` sends it with its body.
//! - `read_buffer` holds input that is not parsed yet.

pub(crate) mod body_decoder;
pub(crate) mod fields;
pub(crate) mod framing_error;
pub(super) mod read_buffer;
pub(crate) mod reader;
mod response;
pub(super) mod wire;
pub(super) mod writer;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Method, Request, Version};

use response::After;
pub(super) use wire::{End, Wire};
use wire::{RequestBody, SharedWire};

use crate::body::Source;
use crate::in_box::in_box;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::worker::Worker;
use crate::proxy::headers::strip_trailers;
use crate::proxy::request::client_response::ClientResponse;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::request::upgrade::Upgraded;
use crate::proxy::request::{handle, replace_interrupted};
use reader::RequestHead;
use writer::{MessageWriter, SendError};

/// Why a connection is not served as HTTP any more.
pub(super) enum Served {
    /// It ended.
    Ended(End),
    /// It is a WebSocket now.
    Upgraded(Box<Upgraded>, ResponseBody),
}

impl From<End> for Served {
    fn from(end: End) -> Self {
        Self::Ended(end)
    }
}

/// Serves a connection until it ends, or is one of HTTP no more. Once `finish` is set, it ends after the request being read or
/// answered.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    wire: &Rc<RefCell<Wire>>,
    finish: &Cell<bool>,
) -> Served {
    loop {
        let head = poll_fn(|cx| {
            let head = wire.borrow_mut().poll_head(cx);
            let idle = head.is_pending() && finish.get() && !wire.borrow().is_mid_head();
            if idle { Poll::Ready(Err(End::Closed)) } else { head }
        });
        if let Err(end) = head.await {
            return end.into();
        }
        // Boxed, so that a connection that waits for its next request takes no room for it.
        if let Err(served) = Box::into_pin(in_box(|| exchange(worker, client, wire, finish))).await {
            return served;
        }
    }
}

/// Handles and answers the request whose head is here. Returns an error when no other may follow.
async fn exchange(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    wire: &Rc<RefCell<Wire>>,
    finish: &Cell<bool>,
) -> Result<(), Served> {
    let mut head = RequestHead::default();
    wire.borrow_mut().take_head(&mut head)?;
    let mut framing = response::RequestFraming {
        head: head.method == Method::HEAD,
        http_10: head.version == Version::HTTP_10,
        takes_trailers: head.takes_trailers,
        keep_alive: head.keep_alive,
    };
    let source = Source::client(RequestBody::new(wire), strip_trailers);

    let mut delivery = Delivery::new(wire);
    {
        let mut handling = pin!(handle(worker, Rc::clone(client), parts_of(head), source));
        let mut step = |cx: &mut Context<'_>| match handling.as_mut().poll(cx) {
            Poll::Ready(response) => {
                delivery.response = Some(response);
                Poll::Ready(())
            }
            Poll::Pending => {
                wire.borrow_mut().send_interims(cx);
                Poll::Pending
            }
        };
        // Dropping the handling of the request records that the client disconnected.
        poll_fn(|cx| unless_disconnected(wire, cx, &mut step)).await.ok_or(End::Closed)?;
    }

    let (interim, body_expected) = wire.borrow_mut().begin_response();
    framing.keep_alive &= body_expected && !finish.get() && wire.borrow_mut().ends_soon();
    let mut after = delivery.begin(&interim, &framing);
    let mut sent = delivery.send().await;
    if let Some(Err(SendError::Interrupted)) = sent
        && delivery.writer.sent == 0
        && delivery.response.as_mut().is_some_and(replace_interrupted)
    {
        after = delivery.begin(&interim, &framing);
        sent = delivery.send().await;
    }
    let Some(Ok(())) = sent else { return Err(End::Closed.into()) };
    if let Some((upgraded, body)) = delivery.upgraded() {
        return Err(Served::Upgraded(upgraded, body));
    }
    delivery.completed();
    if after != After::KeepAlive {
        return Err(End::Closed.into());
    }
    // A client that still sends its body reads the response afterwards, and then sends its next request.
    poll_fn(|cx| {
        let discarded = wire.borrow_mut().poll_discard(cx);
        if discarded.is_pending() && finish.get() { Poll::Ready(Err(End::Closed)) } else { discarded }
    })
    .await
    .map_err(Into::into)
}

/// The head of a request in the form that both versions of HTTP have.
fn parts_of(head: RequestHead) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (head.method, head.uri, head.version, head.headers);
    parts
}

/// A response on its way to the client. If it is dropped before it was sent whole, the record says so.
struct Delivery<'a> {
    wire: &'a RefCell<Wire>,
    writer: MessageWriter,
    /// Absent until there is one, and once the connection is a WebSocket.
    response: Option<ClientResponse>,
    /// The end of the connection delimits the body, so it must not look complete before it is.
    close_delimited: bool,
    completed: bool,
}

impl<'a> Delivery<'a> {
    fn new(wire: &'a RefCell<Wire>) -> Self {
        Self { wire, writer: MessageWriter::default(), response: None, close_delimited: false, completed: false }
    }

    /// Begins the response, after the rest of an interim response. Nothing is written yet.
    fn begin(&mut self, interim: &[u8], framing: &response::RequestFraming) -> After {
        self.writer = MessageWriter::default();
        self.writer.begin().extend_from_slice(interim);
        let Some(response) = &self.response else { return After::Close };
        let after = response::write(&mut self.writer, framing, response);
        self.close_delimited = after == After::CloseDelimited;
        after
    }

    /// Sends it. Returns `None` when the client has disconnected.
    async fn send(&mut self) -> Option<Result<(), SendError>> {
        let Self { wire, writer, response, .. } = self;
        let response = response.as_mut()?;
        poll_fn(|cx| {
            unless_disconnected(wire, cx, |cx| writer.poll_send(&mut SharedWire(wire), &mut response.body, cx))
        })
        .await
    }

    /// Takes what follows a response that has made the connection a WebSocket.
    fn upgraded(&mut self) -> Option<(Box<Upgraded>, ResponseBody)> {
        let upgraded = self.response.as_mut()?.upgraded.take()?;
        Some((upgraded, self.response.take()?.body))
    }

    /// Records that it was sent whole.
    fn completed(mut self) {
        self.completed = true;
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        let Some(ClientResponse { body, .. }) = &mut self.response else { return };
        if self.completed {
            body.completed();
            return;
        }
        body.cut_short(self.writer.sent, self.writer.unsent());
        if self.close_delimited {
            self.wire.borrow_mut().abort();
        }
    }
}

/// Polls a step. Resolves to `None` when the step is pending and the client has disconnected.
fn unless_disconnected<T>(
    wire: &RefCell<Wire>,
    cx: &mut Context<'_>,
    mut step: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Poll<Option<T>> {
    match step(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => wire.borrow_mut().poll_disconnected(cx).map(|()| None),
    }
}
