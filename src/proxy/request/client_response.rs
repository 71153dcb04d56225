//! The response to the client: that of the upstream, or the proxy's own.

use http::{Response, StatusCode};
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
    /// Returns the response in the form that hyper takes, for HTTP/2, which has no reason phrases.
    pub(super) fn into_http2(self) -> Response<ResponseBody> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.fields.to_map();
        response
    }
}
