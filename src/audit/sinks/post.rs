//! Requests of HTTP sinks.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Uri};
use http_body_util::Full;
use jiff::Timestamp;

use super::super::config::HttpEndpoint;
use super::delivery::Failure;
use crate::egress::{Answer, HttpClient, gzipped};

/// Largest response, in bytes.
const MAX_RESPONSE: usize = 16 << 20;
/// How long to wait where only an operator can help.
const OPERATOR_WAIT: Duration = Duration::from_secs(30);

/// Sends batches to one URL.
pub(super) struct Post {
    client: HttpClient,
    uri: Uri,
    headers: HeaderMap,
    gzip: bool,
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
        let client = HttpClient::new(&endpoint.egress, endpoint.trust.as_ref(), endpoint.timeout, MAX_RESPONSE);
        Ok(Self { client, uri, headers, gzip: endpoint.gzip })
    }

    /// Sends a body, and returns the response, whatever its status.
    pub(super) async fn send(&self, body: Vec<u8>) -> Result<Answer, Failure> {
        let body = if self.gzip { gzipped(&body).map_err(|error| Failure::new(error.to_string()))? } else { body };
        let mut request = Request::post(self.uri.clone()).body(Full::new(Bytes::from(body)));
        if let Ok(request) = &mut request {
            *request.headers_mut() = self.headers.clone();
        }
        let request = request.map_err(|error| Failure::new(error.to_string()))?;
        self.client.send(request).await.map_err(Failure::new)
    }
}

/// The failure that a response is; `advice` is for an operator, who alone can help.
pub(super) fn failure(answer: &Answer, advice: Option<&str>) -> Failure {
    let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
    let complaint = answer.complaint();
    let colon = if complaint.is_empty() { "" } else { ": " };
    let least = if advice.is_empty() { None } else { Some(OPERATOR_WAIT) };
    let asked = answer.retry_after(Timestamp::now());
    Failure { why: format!("the status is {}{colon}{complaint}{advice}", answer.status), retry_after: asked.or(least) }
}
