//! The response to the client: that of the upstream, or the proxy's own.

use http::{Response, StatusCode};
use hyper::body::Body as _;
use hyper::ext::ReasonPhrase;

use super::response_body::ResponseBody;
use super::upgrade::Upgraded;
use crate::proxy::headers::ResponseFields;

/// A response to the client.
pub(crate) struct ClientResponse {
    pub(crate) status: StatusCode,
    /// The reason phrase, unless it is the standard one.
    pub(crate) reason: Option<ReasonPhrase>,
    pub(crate) fields: ResponseFields,
    pub(crate) body: ResponseBody,
    /// The connection that the upstream has switched to WebSocket, with the status 101.
    pub(crate) upgraded: Option<Box<Upgraded>>,
}

impl ClientResponse {
    /// Returns the head as HTTP/2 has it, without a reason phrase, and the body.
    pub(crate) fn into_http2(self) -> (Response<()>, ResponseBody) {
        let length = self.body.size_hint().exact().filter(|_| !self.body.is_end_stream());
        let mut head = Response::new(());
        *head.status_mut() = self.status;
        *head.headers_mut() = self.fields.into_http2(length);
        (head, self.body)
    }
}
