//! Requests of HTTP sinks.

use std::io;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use jiff::Timestamp;

use super::super::config::HttpEndpoint;
use super::batches::{Trouble, Verdict};
use super::delivery::Failure;
use crate::egress::{Answer, HttpClient, NoAnswer, SecretTarget, gzipped};

/// Bytes that every response may have, and that none may have.
const RESPONSE: (usize, usize) = (64 << 10, 16 << 20);
/// A record may be the reason for so many failures with a status that blames the request.
pub(super) const PATIENCE: u32 = 5;
/// The same, for a status that blames the server.
pub(super) const SERVER_PATIENCE: u32 = 30;
const REDIRECTED: &str = "redirects are not followed: correct the URL of this sink";

/// Sends batches to one URL.
pub(super) struct Post {
    client: HttpClient,
    uri: Uri,
    headers: HeaderMap,
    gzip: bool,
    has_secret_path: bool,
}

impl Post {
    /// Requests to `uri` with the fields of the endpoint.
    pub(super) fn new(
        endpoint: &HttpEndpoint,
        uri: &str,
        content: &'static str,
        accept: &'static str,
    ) -> io::Result<Self> {
        let mut headers = endpoint.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if endpoint.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let uri = uri.parse().map_err(io::Error::other)?;
        let client = HttpClient::new(&endpoint.egress, endpoint.trust.as_ref(), endpoint.timeout, RESPONSE.1);
        let has_secret_path = endpoint.has_secret_path;
        Ok(Self { client, uri, headers, gzip: endpoint.gzip, has_secret_path })
    }

    /// Sends a body, and returns the response, whatever its status. It may have `room` bytes beside those that every one may have.
    pub(super) async fn send(&self, body: Vec<u8>, room: usize) -> Result<Answer, NoAnswer> {
        let body = if self.gzip { gzipped(&body).map_err(|error| NoAnswer::from(error.to_string()))? } else { body };
        let mut request = Request::post(self.uri.clone()).body(Full::new(Bytes::from(body)));
        if let Ok(request) = &mut request {
            *request.headers_mut() = self.headers.clone();
            if self.has_secret_path {
                request.extensions_mut().insert(SecretTarget);
            }
        }
        let request = request.map_err(|error| NoAnswer::from(error.to_string()))?;
        self.client.exchange_within(request, RESPONSE.0.saturating_add(room).min(RESPONSE.1)).await
    }
}

/// What there is for an operator to check.
pub(super) struct Advice<'a> {
    pub(super) credentials: &'a str,
    pub(super) privileges: &'a str,
    pub(super) target: &'a str,
}

/// What a status means that is no success, and says nothing about the records themselves. A firewall on the way can refuse a
/// request for one record, and a server can fail at one; both look as if they met all.
pub(super) fn unsuccessful(answer: &Answer, advice: &Advice<'_>) -> Verdict {
    let (advice, patience) = match answer.status {
        StatusCode::PAYLOAD_TOO_LARGE => return Verdict::TooLarge,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => (None, None),
        status if status.is_server_error() => (None, Some(SERVER_PATIENCE)),
        StatusCode::UNAUTHORIZED => (Some(advice.credentials), None),
        StatusCode::FORBIDDEN => (Some(advice.privileges), Some(PATIENCE)),
        status if status.is_redirection() => (Some(REDIRECTED), None),
        _ => (Some(advice.target), Some(PATIENCE)),
    };
    Verdict::Again(Trouble { failure: failure(answer, advice), patience })
}

/// The failure that a response is; `advice` is for an operator, who alone can help.
fn failure(answer: &Answer, advice: Option<&str>) -> Failure {
    let complaint = answer.complaint();
    let colon = if complaint.is_empty() { "" } else { ": " };
    let status = answer.status;
    let mut failure = match advice {
        Some(advice) => Failure::lasting(format!("the status is {status}{colon}{complaint}; {advice}")),
        None => Failure::new(format!("the status is {status}{colon}{complaint}")),
    };
    failure.retry_after = failure.retry_after.max(answer.retry_after(Timestamp::now()));
    failure
}
