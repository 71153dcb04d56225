//! One request to a collector: OTLP over HTTP with Protobuf bodies.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use jiff::Timestamp;
use prost::Message;

use super::config::CollectorConfig;
use super::request::FinishedRequest;
use crate::egress::{Answer, HttpClient, gzipped};
use crate::otlp::{
    ExportResponse, PROTOBUF, PartialSuccess, Resource, ResourceSpans, Scope, ScopeSpans, TracesRequest,
};

/// The version of the semantic conventions that attributes follow.
const CONVENTIONS: &str = "https://opentelemetry.io/schemas/1.37.0";
/// Largest response, in bytes.
const MAX_RESPONSE: usize = 1 << 20;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The collector took the spans, except so many.
    Taken { rejected: u64 },
    /// It may take them later.
    Again { why: String, wait: Option<Duration> },
    /// It will not take them.
    Refused { why: String },
}

/// A collector.
pub(super) struct Collector {
    client: HttpClient,
    uri: Uri,
    headers: HeaderMap,
    gzip: bool,
    resource: Resource,
}

impl Collector {
    /// Prepares requests, without sending any. `node` is the name of this host.
    ///
    /// # Errors
    /// The settings do not make a request.
    pub(super) fn new(config: &CollectorConfig, node: &str) -> io::Result<Self> {
        let mut headers = config.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        headers.insert(ACCEPT, HeaderValue::from_static(PROTOBUF));
        if config.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let uri = config.target().parse().map_err(io::Error::other)?;
        let client = HttpClient::new(&config.egress, config.trust.as_ref(), config.timeout, MAX_RESPONSE);
        Ok(Self { client, uri, headers, gzip: config.gzip, resource: Resource::here(node) })
    }

    /// The body of a request with the spans of these.
    ///
    /// # Errors
    /// They could not be compressed.
    pub(super) fn body(&self, requests: &[FinishedRequest]) -> io::Result<Bytes> {
        let spans = requests.iter().flat_map(|request| request.spans()).collect();
        let scope = Scope { name: "bartizan".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans, schema_url: CONVENTIONS.to_owned() }];
        let body = TracesRequest { resource_spans }.encode_to_vec();
        if !self.gzip {
            return Ok(body.into());
        }
        Ok(gzipped(&body)?.into())
    }

    /// Sends a body.
    pub(super) async fn send(&self, body: Bytes) -> Verdict {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        match self.client.send(request).await {
            Ok(answer) => verdict(&answer, Timestamp::now()),
            Err(why) => Verdict::Again { why, wait: None },
        }
    }
}

/// What a response means (OTLP 1.x, "OTLP/HTTP response").
fn verdict(answer: &Answer, now: Timestamp) -> Verdict {
    let why = || {
        let complaint = answer.complaint();
        let colon = if complaint.is_empty() { "" } else { ": " };
        format!("the status is {}{colon}{complaint}", answer.status)
    };
    match answer.status {
        status if status.is_success() => taken(answer),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Verdict::Again { why: why(), wait: answer.retry_after(now) },
        _ => Verdict::Refused { why: why() },
    }
}

fn taken(answer: &Answer) -> Verdict {
    match ExportResponse::read(answer) {
        Err(why) => Verdict::Refused { why },
        Ok(PartialSuccess { rejected, message }) => {
            if rejected > 0 || !message.is_empty() {
                tracing::warn!(rejected, said = message, "the collector of spans did not take all, or warns");
            }
            Verdict::Taken { rejected }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;

    use super::*;
    use crate::otlp::ExportPartialSuccess;

    fn answer(status: u16, headers: &[(http::HeaderName, &'static str)], body: impl Into<Bytes>) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.into() }
    }

    #[test]
    fn what_responses_mean() {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        let partly = |rejected, error_message: &str| {
            let partial = ExportPartialSuccess { rejected, error_message: error_message.to_owned() };
            ExportResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        let ours = [(CONTENT_TYPE, PROTOBUF)];
        let again =
            |why: &str, wait: Option<u64>| Verdict::Again { why: why.to_owned(), wait: wait.map(Duration::from_secs) };
        let refused = |why: &str| Verdict::Refused { why: why.to_owned() };
        for (answer, expected) in [
            (answer(200, &ours, ""), Verdict::Taken { rejected: 0 }),
            (answer(202, &[], ""), Verdict::Taken { rejected: 0 }),
            (answer(200, &ours, partly(0, "")), Verdict::Taken { rejected: 0 }),
            (answer(200, &ours, partly(0, "soon unsupported")), Verdict::Taken { rejected: 0 }),
            (answer(200, &ours, partly(3, "too old")), Verdict::Taken { rejected: 3 }),
            (answer(200, &ours, partly(-3, "")), Verdict::Taken { rejected: 0 }),
            (answer(200, &ours, "\x0a"), refused("this is no response of an OTLP collector: `application/x-protobuf`")),
            (
                answer(200, &[(CONTENT_TYPE, "text/html")], "<p>It works"),
                refused("this is no response of an OTLP collector: `text/html`"),
            ),
            (
                answer(429, &[(RETRY_AFTER, "7")], "slow\ndown"),
                again("the status is 429 Too Many Requests: slow down", Some(7)),
            ),
            (
                answer(503, &[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT")], ""),
                again("the status is 503 Service Unavailable", Some(7)),
            ),
            (answer(502, &[(RETRY_AFTER, "soon")], ""), again("the status is 502 Bad Gateway", None)),
            (answer(504, &[(RETRY_AFTER, "99999")], ""), again("the status is 504 Gateway Timeout", Some(600))),
            (answer(400, &[], "bad"), refused("the status is 400 Bad Request: bad")),
            (answer(401, &[], ""), refused("the status is 401 Unauthorized")),
            (answer(404, &[], ""), refused("the status is 404 Not Found")),
            (answer(500, &[(RETRY_AFTER, "7")], ""), refused("the status is 500 Internal Server Error")),
            (answer(302, &[], ""), refused("the status is 302 Found")),
        ] {
            assert_eq!(verdict(&answer, now), expected);
        }
    }
}
