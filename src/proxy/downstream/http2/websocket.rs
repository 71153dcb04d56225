//! WebSockets over HTTP/2 (RFC 8441): a stream takes the place of a connection.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::header::SEC_WEBSOCKET_ACCEPT;
use http::request::Parts;
use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::Notify;

use super::piece::{Piece, Taken};
use super::stream_counter::Unread;
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

    /// Serves it until it ends, the client resets it, or has taken too little. `running` counts it.
    pub(super) async fn serve(self, sending: SendStream<Piece>, running: Rc<()>) {
        let Self { receiving, upgraded, mut body, all } = self;
        let (uptake, sending) = (Uptake::default(), RefCell::new(sending));
        let mut stream = Duplex {
            receiving,
            part: Bytes::new(),
            unread: &all.unread,
            sending: &sending,
            queued: Rc::default(),
            uptake: &uptake,
        };
        let finish = Cell::new(all.is_ending.get());
        let ended = {
            let mut tunnel = pin!(tunnel::run(&mut stream, Bytes::new(), upgraded, &mut body, &finish));
            loop {
                tokio::select! {
                    biased;
                    () = &mut tunnel => break Ended::Closed,
                    () = all.ending.notified() => finish.set(true),
                    () = stalls(&uptake, all.stall) => break Ended::Stalled,
                    // Nothing is read of the client while the upstream takes nothing.
                    _ = poll_fn(|cx| sending.borrow_mut().poll_reset(cx)) => break Ended::Reset,
                }
            }
        };
        match ended {
            Ended::Closed => {}
            Ended::Stalled => body.client_stalled(),
            Ended::Reset => tunnel::closed_by_client(&mut body),
        }
        drop(body);
        let closes = matches!(ended, Ended::Closed);
        let is_closed = closes && matches!(tokio::time::timeout(CLOSE, stream.shutdown()).await, Ok(Ok(())));
        if !is_closed {
            // What is queued for the client is dropped.
            sending.borrow_mut().send_reset(Reason::CANCEL);
        }
        drop(running);
    }
}

/// How a WebSocket has ended.
enum Ended {
    Closed,
    /// The client has taken too little.
    Stalled,
    /// The client has reset its stream, or the connection has ended.
    Reset,
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
    sending: &'a RefCell<SendStream<Piece>>,
    queued: Rc<Queued>,
    uptake: &'a Uptake,
}

/// What was sent of a WebSocket and is not written.
#[derive(Default)]
struct Queued {
    bytes: Cell<usize>,
    waker: Cell<Option<Waker>>,
}

impl Queued {
    /// Returns a piece that counts until it is written or dropped.
    fn piece(self: &Rc<Self>, bytes: &[u8]) -> Piece {
        self.bytes.set(self.bytes.get() + bytes.len());
        Piece::new(Bytes::copy_from_slice(bytes), Rc::<Self>::clone(self))
    }

    /// Ready when nothing is left.
    fn poll_none(&self, cx: &Context<'_>) -> Poll<()> {
        if self.bytes.get() == 0 {
            return Poll::Ready(());
        }
        self.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Taken for Queued {
    fn wrote(self: Rc<Self>, size: usize) {
        self.bytes.set(self.bytes.get().saturating_sub(size));
        if self.bytes.get() == 0
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    fn dropped(self: Rc<Self>, size: usize) {
        self.wrote(size);
    }
}

impl AsyncRead for Duplex<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.part.is_empty() {
            this.part = match ready!(poll_part(&mut this.receiving, this.unread, cx)) {
                Some(part) => part.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            };
        }
        let size = this.part.len().min(buffer.remaining());
        buffer.put_slice(&this.part.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sending = &mut *self.sending.borrow_mut();
        let written = poll_room(sending, cx).map(|room| {
            room?;
            sending.send_data(self.queued.piece(bytes), false)?;
            Ok(bytes.len())
        });
        self.uptake.track_write(written.map_err(io::Error::other::<h2::Error>))
    }

    /// What HTTP/2 has counts as taken: there is room for more only when the client takes it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.uptake.track_flush(Poll::Ready(Ok(())))
    }

    /// Waits until the client has taken what was sent, however little room there is then: the end needs none.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.queued.poll_none(cx));
        let ended = self.sending.borrow_mut().send_data(Piece::empty(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}
