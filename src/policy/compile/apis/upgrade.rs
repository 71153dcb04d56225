//! `apis.*.routes.*.upgrade`.

use http::Method;

use crate::policy::Upstream;
use crate::policy::compile::context::Context;
use crate::policy::document;
use crate::policy::tree::At;
use crate::policy::upgrade::WebSocket;

/// The settings of WebSockets of a route called `name`. `at` is the place of the route.
pub(super) fn websocket(
    context: &mut Context<'_>,
    name: &str,
    route: &document::Route,
    checks_responses: bool,
    upstream: &Upstream,
    at: At<'_>,
) -> Option<WebSocket> {
    let written = route.upgrade.as_ref()?;
    let at = at.key("upgrade");
    let Some(written) = &written.websocket else {
        context.missing(at, "`upgrade` does not say to what", "write `upgrade: { websocket: {} }`");
        return None;
    };
    let at = at.key("websocket");
    if name.split_once(' ').is_none_or(|(method, _)| method != Method::GET.as_str()) {
        context.error(at, "a WebSocket begins with a GET request").help("write it at the route `GET …`");
    }
    if checks_responses {
        context
            .error(at, "the messages of a WebSocket cannot be checked against the schema of a response")
            .help("remove `response` from this route, or give WebSockets a route of their own");
    }
    if upstream.speaks_http2() {
        context
            .error(at, "WebSockets go to servers over HTTP/1.1, but the API's `upstream.protocol` is HTTP/2")
            .help("give WebSockets an API of their own, with `protocol: http1`");
    }
    let usual = WebSocket::default();
    Some(WebSocket {
        idle: context.period(at.key("idle"), written.idle, usual.idle),
        lifetime: context.period(at.key("lifetime"), written.lifetime, usual.lifetime),
    })
}
