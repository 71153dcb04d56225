//! HTTP/1.x with a client (RFC 9112): one request after the other, each read, handled and answered in this task.
//!
//! - `wire` is the socket: heads and bodies are read off it by `framing`, which takes the strict subset alone.
//! - `response` writes the head of an answer; the rest is the business of `outgoing`.

pub(super) mod read_buffer;
pub(crate) mod reader;
mod response;
mod wire;
pub(super) mod writer;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Method, Request, Version};

use response::Ending;
pub(super) use wire::Wire;
use wire::{RequestBody, Tap};

use crate::body::Source;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::worker::Worker;
use crate::proxy::headers::strip_trailers;
use crate::proxy::request::handle;
use reader::{Flaw, RequestHead};
use writer::MessageWriter;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Between two requests, or with an answer that says so, or the client has gone.
    Closed,
    /// Within a head.
    CutShort,
    /// With a head that nobody should read.
    Flawed(Flaw),
}

/// Serves a connection to its end, which comes soon when `finish` is set: after the request that is being read or answered.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    wire: &Rc<RefCell<Wire>>,
    finish: &Cell<bool>,
) -> End {
    loop {
        let head = poll_fn(|cx| {
            let head = wire.borrow_mut().poll_head(cx);
            let idle = head.is_pending() && finish.get() && !wire.borrow().is_mid_head();
            if idle { Poll::Ready(Err(End::Closed)) } else { head }
        });
        let head = match head.await {
            Ok(head) => head,
            Err(end) => return end,
        };
        if let Err(end) = exchange(worker, client, wire, head, finish).await {
            return end;
        }
    }
}

/// Handles and answers one request. An error when no other may follow.
async fn exchange(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    wire: &Rc<RefCell<Wire>>,
    head: RequestHead,
    finish: &Cell<bool>,
) -> Result<(), End> {
    let RequestHead { method, uri, version, headers, keep_alive, takes_trailers, .. } = head;
    let http_10 = version == Version::HTTP_10;
    let mut asked = response::Asked { head: method == Method::HEAD, http_10, takes_trailers, keep_alive };
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
    let source = Source::client(RequestBody::new(wire), strip_trailers);

    let answered = {
        let mut answering = pin!(handle(Rc::clone(worker), Rc::clone(client), parts, source));
        poll_fn(|cx| unless_disconnected(wire, cx, |cx| answering.as_mut().poll(cx))).await
    };
    // Dropping what was being done records that the client has gone.
    let answer = answered.ok_or(End::Closed)?;

    let (before, body_comes) = wire.borrow_mut().answers();
    asked.keep_alive &= body_comes && !finish.get();
    let (parts, body) = answer.into_parts();
    let mut outgoing = MessageWriter::default();
    outgoing.begin().extend_from_slice(before);
    let (ending, mut body) = response::write(&mut outgoing, &asked, &parts, body);
    let unfinished = (ending == Ending::WithConnection).then(|| Unfinished(wire));
    let sent =
        poll_fn(|cx| unless_disconnected(wire, cx, |cx| outgoing.poll_send(&mut Tap(wire), &mut body, cx))).await;
    let Some(Ok(())) = sent else { return Err(End::Closed) };
    // It was sent whole.
    std::mem::forget(unfinished);
    if ending == Ending::Kept && wire.borrow_mut().is_done() { Ok(()) } else { Err(End::Closed) }
}

/// An answer that ends with its connection is on its way: when it is dropped, the rest of it never comes.
struct Unfinished<'a>(&'a RefCell<Wire>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().abort();
    }
}

/// What a step comes to; nothing when it waits and the client has gone.
fn unless_disconnected<T>(
    wire: &RefCell<Wire>,
    cx: &mut Context<'_>,
    mut step: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Poll<Option<T>> {
    match step(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => wire.borrow_mut().poll_gone(cx).map(|()| None),
    }
}
