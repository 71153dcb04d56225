//! WebSockets over HTTP/2 (RFC 8441): a stream takes the place of a connection.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;

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

/// A stream that becomes a WebSocket once its response was sent.
pub(super) struct WebSocketStream {
    upgrade: OnUpgrade,
    upgraded: Box<Upgraded>,
    body: ResponseBody,
    ending: Rc<Ending>,
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
        (head, Self { upgrade, upgraded, body: response.body, ending: Rc::clone(ending) })
    }

    /// Serves it until it ends. `running` counts it.
    pub(super) async fn serve(self, running: Rc<()>) {
        let Self { upgrade, upgraded, mut body, ending } = self;
        // If the client has gone meanwhile, its record says so.
        let Ok(stream) = upgrade.await else { return };
        let mut stream = TokioIo::new(stream);
        let finish = Cell::new(ending.is_now.get());
        {
            let mut tunnel = pin!(tunnel::run(&mut stream, Bytes::new(), upgraded, &mut body, &finish));
            loop {
                tokio::select! {
                    biased;
                    () = &mut tunnel => break,
                    () = ending.notify.notified() => finish.set(true),
                }
            }
        }
        drop(body);
        let _ = tokio::time::timeout(CLOSE, stream.shutdown()).await;
        drop(running);
    }
}
