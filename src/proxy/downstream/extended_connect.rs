//! WebSockets over HTTP/2 (RFC 8441): a stream takes the place of a connection.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};

use super::uptake::Uptake;
use crate::proxy::request::client_response::ClientResponse;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::request::upgrade::{Upgraded, WEBSOCKET, tunnel};

/// How long the end of a stream may take to be written.
const CLOSE: Duration = Duration::from_secs(1);

/// Makes an extended CONNECT for a WebSocket the GET that it is in HTTP/1.1, so that it is routed and decided about like that. Returns
/// what its stream becomes; other requests stay as they are.
pub(super) fn take(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    let is_websocket = request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET);
    if request.method() != Method::CONNECT || !is_websocket {
        return None;
    }
    let upgrade = hyper::upgrade::on(&mut *request);
    *request.method_mut() = Method::GET;
    Some(upgrade)
}

/// Tells the WebSockets of a connection to end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    is_now: Cell<bool>,
    notify: Notify,
}

impl Ending {
    pub(super) fn begin(&self) {
        self.is_now.set(true);
        self.notify.notify_waiters();
    }
}

/// The task of hyper that sends what a WebSocket has for its client. It waits for the client's window for as long as the connection
/// lasts, whatever became of the WebSocket.
#[derive(Default)]
pub(super) struct Sending(Cell<Option<AbortHandle>>);

impl Sending {
    pub(super) fn runs(&self, task: &JoinHandle<()>) {
        self.0.set(Some(task.abort_handle()));
    }

    fn abort(&self) {
        self.0.take().iter().for_each(AbortHandle::abort);
    }
}

/// A stream that becomes a WebSocket once its response was sent.
pub(super) struct WebSocketStream {
    upgrade: OnUpgrade,
    upgraded: Box<Upgraded>,
    body: ResponseBody,
    ending: Rc<Ending>,
    sending: Rc<Sending>,
}

impl WebSocketStream {
    /// Takes the upgrade from a response, and returns what is left of that: its head, as HTTP/2 has it (RFC 8441 §5.1).
    pub(super) fn of(
        mut response: ClientResponse,
        upgraded: Box<Upgraded>,
        upgrade: OnUpgrade,
        ending: &Rc<Ending>,
    ) -> (http::Response<()>, Self) {
        [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT].iter().for_each(|name| response.fields.remove(name));
        response.body.guard().answering(StatusCode::OK);
        let mut head = http::Response::new(());
        *head.headers_mut() = response.fields.to_map();
        (head, Self { upgrade, upgraded, body: response.body, ending: Rc::clone(ending), sending: Rc::default() })
    }

    /// The task that sends what it has for the client, once that runs.
    pub(super) fn sending(&self) -> Rc<Sending> {
        Rc::clone(&self.sending)
    }

    /// Serves it until it ends, or the client has taken too little for `stall`. `running` counts it.
    pub(super) async fn serve(self, stall: Duration, running: Rc<()>) {
        let Self { upgrade, upgraded, mut body, ending, sending } = self;
        // If the client has gone meanwhile, its record says so.
        let Ok(stream) = upgrade.await else { return };
        let uptake = Uptake::default();
        let mut stream = Tracked { stream: TokioIo::new(stream), uptake: &uptake };
        let finish = Cell::new(ending.is_now.get());
        let has_stalled = {
            let mut tunnel = pin!(tunnel::run(&mut stream, Bytes::new(), upgraded, &mut body, &finish));
            loop {
                tokio::select! {
                    biased;
                    () = &mut tunnel => break false,
                    () = ending.notify.notified() => finish.set(true),
                    () = stalls(&uptake, stall) => break true,
                }
            }
        };
        if has_stalled {
            body.client_stalled();
        }
        drop(body);
        let is_closed = !has_stalled && tokio::time::timeout(CLOSE, stream.shutdown()).await.is_ok();
        if !is_closed {
            // The stream is reset, once the client has taken what is queued.
            sending.abort();
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

/// A stream, and how its client takes what is written to it.
struct Tracked<'a, S> {
    stream: S,
    uptake: &'a Uptake,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tracked<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tracked<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.uptake.track_write(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.uptake.track_flush(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
