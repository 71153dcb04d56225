//! WebSockets over HTTP/2 (RFC 8441): a stream takes the place of a connection.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::header::SEC_WEBSOCKET_ACCEPT;
use http::request::Parts;
use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::Notify;

use super::stream_counter::Unread;
use super::stream_deadline::Piece;
use super::window::{poll_part, poll_room};
use crate::proxy::downstream::uptake::Uptake;
use crate::proxy::request::client_response::ClientResponse;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::request::upgrade::{Upgraded, WEBSOCKET, tunnel};

/// How long the end of a stream may take to be written.
const CLOSE: Duration = Duration::from_secs(1);

/// Makes an extended CONNECT for a WebSocket the GET that it is in HTTP/1.1, so that it is routed and decided about like that. Returns
/// whether it is one; other requests stay as they are.
pub(super) fn is_asked_for(parts: &mut Parts) -> bool {
    let is_websocket = parts.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET);
    let is_asked_for = parts.method == Method::CONNECT && is_websocket;
    if is_asked_for {
        parts.method = Method::GET;
    }
    is_asked_for
}

/// What the WebSockets of a connection have in common.
#[derive(Debug)]
pub(super) struct WebSockets {
    /// How long a client may take nothing.
    stall: Duration,
    unread: Unread,
    is_ending: Cell<bool>,
    ending: Notify,
}

impl WebSockets {
    pub(super) fn new(stall: Duration, unread: Unread) -> Rc<Self> {
        Rc::new(Self { stall, unread, is_ending: Cell::default(), ending: Notify::default() })
    }

    /// Tells them to end.
    pub(super) fn end(&self) {
        self.is_ending.set(true);
        self.ending.notify_waiters();
    }
}

/// A stream that becomes a WebSocket once the head of its response was sent.
pub(super) struct WebSocketStream {
    receiving: RecvStream,
    upgraded: Box<Upgraded>,
    body: ResponseBody,
    all: Rc<WebSockets>,
}

impl WebSocketStream {
    /// Takes the upgrade from a response, and returns what is left of that: its head, as HTTP/2 has it (RFC 8441 §5.1).
    pub(super) fn of(
        mut response: ClientResponse,
        upgraded: Box<Upgraded>,
        receiving: RecvStream,
        all: Rc<WebSockets>,
    ) -> (http::Response<()>, Self) {
        response.fields.remove(&SEC_WEBSOCKET_ACCEPT);
        response.status = StatusCode::OK;
        response.body.guard().answering(response.status);
        let (head, body) = response.into_http2();
        (head, Self { receiving, upgraded, body, all })
    }

    /// Serves it until it ends, or the client has taken too little. `running` counts it.
    pub(super) async fn serve(self, sending: SendStream<Piece>, running: Rc<()>) {
        let Self { receiving, upgraded, mut body, all } = self;
        let uptake = Uptake::default();
        let mut stream =
            Duplex { receiving, part: Bytes::new(), unread: &all.unread, sending, is_full: false, uptake: &uptake };
        let finish = Cell::new(all.is_ending.get());
        let has_stalled = {
            let mut tunnel = pin!(tunnel::run(&mut stream, Bytes::new(), upgraded, &mut body, &finish));
            loop {
                tokio::select! {
                    biased;
                    () = &mut tunnel => break false,
                    () = all.ending.notified() => finish.set(true),
                    () = stalls(&uptake, all.stall) => break true,
                }
            }
        };
        if has_stalled {
            body.client_stalled();
        }
        drop(body);
        let is_closed = !has_stalled && matches!(tokio::time::timeout(CLOSE, stream.shutdown()).await, Ok(Ok(())));
        if !is_closed {
            // What is queued for the client is dropped.
            stream.sending.send_reset(Reason::CANCEL);
        }
        drop(running);
    }
}

/// Ends once a client has taken too little for this time. It has to be polled after each write.
async fn stalls(uptake: &Uptake, stall: Duration) {
    let mut timer = pin!(tokio::time::sleep(stall));
    poll_fn(|cx| {
        let Some(since) = uptake.stalled() else { return Poll::Pending };
        let due = (since + stall).into();
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    })
    .await;
}

/// What goes both ways on a stream, and how its client takes what is written to it.
struct Duplex<'a> {
    receiving: RecvStream,
    /// What was received and is not read.
    part: Bytes,
    unread: &'a Unread,
    sending: SendStream<Piece>,
    /// Something waits to be written until the client's window has room.
    is_full: bool,
    uptake: &'a Uptake,
}

impl Duplex<'_> {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = poll_room(&mut self.sending, cx).map_err(|error| io::Error::new(ErrorKind::BrokenPipe, error));
        self.is_full = room.is_pending();
        room
    }
}

impl AsyncRead for Duplex<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.part.is_empty() {
            this.part = match ready!(poll_part(&mut this.receiving, this.unread, cx)) {
                Some(Ok(part)) => part,
                None => return Poll::Ready(Ok(())),
                // A client that needs it no more may say so (RFC 9113 §8.1).
                Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            };
        }
        let size = this.part.len().min(buffer.remaining());
        buffer.put_slice(&this.part.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.poll_room(cx).map(|room| {
            room?;
            let piece = Piece::unwatched(Bytes::copy_from_slice(bytes));
            let sent = self.sending.send_data(piece, false);
            sent.map(|()| bytes.len()).map_err(|error| io::Error::new(ErrorKind::BrokenPipe, error))
        });
        self.uptake.track_write(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = if self.is_full { self.poll_room(cx) } else { Poll::Ready(Ok(())) };
        self.uptake.track_flush(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_room(cx))?;
        let ended = self.sending.send_data(Piece::unwatched(Bytes::new()), true);
        Poll::Ready(ended.map_err(|error| io::Error::new(ErrorKind::BrokenPipe, error)))
    }
}
