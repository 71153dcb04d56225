//! Serves HTTP/1.x to a client (RFC 9112): one request after the other, each read, handled and answered in one task.
//!
//! - `wire` owns the socket. `reader` parses requests from it, and accepts only the strict subset.
//! - `body_decoder` and `fields` read bodies and field lines, strictly or leniently.
//! - `response` writes the head of a response; `writer` sends it with its body.
//! - `read_buffer` holds input that is not parsed yet.

pub(super) mod body_decoder;
pub(crate) mod fields;
pub(crate) mod framing_error;
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

use response::After;
pub(super) use wire::{End, Wire};
use wire::{RequestBody, WireWriter};

use crate::body::Source;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::worker::Worker;
use crate::proxy::headers::strip_trailers;
use crate::proxy::request::handle;
use reader::RequestHead;
use writer::MessageWriter;

/// Serves a connection until it ends. Once `finish` is set, it ends after the request being read or answered.
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

/// Handles and answers one request. Returns an error when no other may follow.
async fn exchange(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    wire: &Rc<RefCell<Wire>>,
    head: RequestHead,
    finish: &Cell<bool>,
) -> Result<(), End> {
    let RequestHead { method, uri, version, headers, keep_alive, takes_trailers, .. } = head;
    let http_10 = version == Version::HTTP_10;
    let mut framing = response::RequestFraming { head: method == Method::HEAD, http_10, takes_trailers, keep_alive };
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
    let source = Source::client(RequestBody::new(wire), strip_trailers);

    let response = {
        let mut handling = pin!(handle(worker, Rc::clone(client), parts, source));
        poll_fn(|cx| unless_disconnected(wire, cx, |cx| handling.as_mut().poll(cx))).await
    };
    // Dropping the handling of the request records that the client disconnected.
    let response = response.ok_or(End::Closed)?;

    let (interim, body_expected) = wire.borrow_mut().begin_response();
    framing.keep_alive &= body_expected && !finish.get();
    let (parts, body) = response.into_parts();
    let mut writer = MessageWriter::default();
    writer.begin().extend_from_slice(interim);
    let (after, mut body) = response::write(&mut writer, &framing, &parts, body);
    let unfinished = (after == After::CloseDelimited).then(|| Unfinished(wire));
    let sent =
        poll_fn(|cx| unless_disconnected(wire, cx, |cx| writer.poll_send(&mut WireWriter(wire), &mut body, cx))).await;
    let Some(Ok(())) = sent else { return Err(End::Closed) };
    // It was sent whole, so the connection must not be aborted.
    std::mem::forget(unfinished);
    if after == After::KeepAlive && wire.borrow_mut().is_done() { Ok(()) } else { Err(End::Closed) }
}

/// Aborts the connection when dropped: a response delimited by the close of the connection was not sent whole.
struct Unfinished<'a>(&'a RefCell<Wire>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().abort();
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
