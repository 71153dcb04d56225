//! One stream: the body of a request, and the response to it (RFC 9113 §8.1).

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderMap};
use hyper::body::{Body, Frame, SizeHint};

use super::piece::Piece;
use super::stream_counter::Unread;
use super::stream_deadline::{StreamDeadline, Watched};
use super::websocket::{WebSocketStream, WebSockets};
use super::window::{poll_part, poll_room};
use crate::body::TooSlow;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::headers::ResponseFields;
use crate::proxy::request::begin;
use crate::proxy::request::client_response::ClientResponse;

/// The body of a request, with as many trailers as in HTTP/1.
pub(super) struct RequestBody {
    receiving: RecvStream,
    /// What is left of it, in bytes, if the client has said how long it is.
    left: Option<u64>,
    /// Only trailers are left.
    has_ended: bool,
    /// The client sends it once it was told to go on (RFC 9110 §10.1.1).
    waits: bool,
    max_trailers: usize,
    unread: Unread,
    client: Rc<ClientConnection>,
}

impl RequestBody {
    pub(super) fn new(
        receiving: RecvStream,
        headers: &HeaderMap,
        max_trailers: usize,
        unread: Unread,
        client: Rc<ClientConnection>,
    ) -> Self {
        let left = if receiving.is_end_stream() { Some(0) } else { length(headers) };
        let waits = headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { receiving, left, has_ended: false, waits, max_trailers, unread, client }
    }

    fn failed(&self, error: h2::Error) -> Box<dyn Error> {
        if self.client.ended_stalled() { TooSlow.into() } else { error.into() }
    }
}

/// The length that the fields of a request say. HTTP/2 refuses it if its body has another one.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Box<dyn Error>>>> {
        let this = &mut *self;
        if !this.has_ended {
            let part = poll_part(&mut this.receiving, &this.unread, cx);
            if std::mem::take(&mut this.waits) && part.is_pending() {
                this.client.interim(StatusCode::CONTINUE, ResponseFields::default());
            }
            match ready!(part) {
                Some(Ok(part)) => {
                    this.left = this.left.map(|left| left.saturating_sub(part.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(part))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(this.failed(error)))),
                None => this.has_ended = true,
            }
        }
        Poll::Ready(match ready!(this.receiving.poll_trailers(cx)) {
            Ok(Some(trailers)) if trailers.len() > this.max_trailers => Some(Err("it has too many trailers".into())),
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(this.failed(error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.receiving.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// A request that is handled, and where its response goes.
pub(super) struct Handled {
    pub(super) client: Rc<ClientConnection>,
    pub(super) respond: SendResponse<Piece>,
    pub(super) stream: Rc<StreamDeadline>,
    /// What the client sends on the stream, if it asks for a WebSocket.
    pub(super) receiving: Option<RecvStream>,
    pub(super) websockets: Rc<WebSockets>,
    /// Counts the stream until all of its response is queued.
    pub(super) running: Rc<()>,
}

impl Handled {
    /// Sends the response, once it is there, until HTTP/2 has all of it, or the client has reset the stream. It is boxed, so that the
    /// request takes no room while its response is sent.
    pub(super) async fn answer(mut self, mut response: Pin<Box<impl Future<Output = ClientResponse>>>) {
        let begun = poll_fn(|cx| {
            let mut polled = response.as_mut().poll(cx);
            if let Poll::Ready(response) = &mut polled {
                begin(response, cx);
            }
            self.send_interims(cx);
            match polled {
                Poll::Ready(response) => Poll::Ready(Some(response)),
                Poll::Pending => self.respond.poll_reset(cx).map(|_| None),
            }
        });
        let Some(mut begun) = begun.await else { return };
        drop(response);
        match begun.upgraded.take().zip(self.receiving.take()) {
            Some((upgraded, receiving)) => {
                let (head, websocket) = WebSocketStream::of(begun, upgraded, receiving, self.websockets);
                self.stream.becomes_websocket();
                drop(self.stream);
                if let Some(sending) = send_head(&mut self.respond, head, false) {
                    drop(self.respond);
                    Box::pin(websocket.serve(sending, self.running)).await;
                }
            }
            None => {
                let (head, body) = begun.into_http2();
                let body = self.stream.watch(body, self.running);
                let is_all = body.is_end_stream();
                if let Some(sending) = send_head(&mut self.respond, head, is_all).filter(|_| !is_all)
                    && let Err(error) = send_body(&self.client, body, sending).await
                {
                    tracing::debug!(%error, "the response on a stream was not sent whole");
                }
            }
        }
    }

    /// Sends the interim responses that have come for it, unless the client has reset the stream.
    fn send_interims(&mut self, cx: &mut Context<'_>) {
        let interims = self.client.take_interims();
        if interims.is_empty() || self.respond.poll_reset(cx).is_ready() {
            return;
        }
        for (status, fields) in interims {
            // A client may wait for this one.
            if status == StatusCode::CONTINUE || self.stream.takes_interim() {
                // Whatever is wrong shows with the response.
                let _ = self.respond.send_informational(fields.into_interim(status));
            }
        }
    }
}

fn send_head(respond: &mut SendResponse<Piece>, head: http::Response<()>, is_all: bool) -> Option<SendStream<Piece>> {
    match respond.send_response(head, is_all) {
        Ok(sending) => Some(sending),
        Err(error) => {
            tracing::debug!(%error, "the response on a stream was not sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
            None
        }
    }
}

async fn send_body(
    client: &ClientConnection,
    mut body: Watched,
    mut sending: SendStream<Piece>,
) -> Result<(), h2::Error> {
    loop {
        let frame = poll_fn(|cx| {
            let polled = Pin::new(&mut body).poll_frame(cx);
            // The rest of the request is read meanwhile. It is too late for those.
            drop(client.take_interims());
            match polled {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                Poll::Pending => {
                    sending.poll_reset(cx).map(|reset| Err(reset.map_or_else(|error| error, h2::Error::from)))
                }
            }
        });
        let piece = match frame.await? {
            None => return sending.send_data(Piece::empty(), true),
            Some(Err(_interrupted)) => {
                sending.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => piece,
                Err(frame) => {
                    let Ok(trailers) = frame.into_trailers() else { continue };
                    return sending.send_trailers(trailers);
                }
            },
        };
        let is_last = body.is_end_stream();
        if piece.has_remaining() {
            poll_fn(|cx| poll_room(&mut sending, cx)).await?;
        }
        sending.send_data(piece, is_last)?;
        if is_last {
            return Ok(());
        }
    }
}
