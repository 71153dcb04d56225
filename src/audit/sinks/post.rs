//! Requests of HTTP sinks.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Request, Uri};
use http_body_util::Full;
use jiff::Timestamp;

use super::super::config::HttpEndpoint;
use super::delivery::Failure;
use crate::egress::{Answer, HttpClient};

/// Largest response, in bytes.
const MAX_RESPONSE: usize = 16 << 20;
/// How much of a complaint is shown, in characters.
const SHOWN: usize = 300;
/// Longest wait that a sink can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
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
        let body = if self.gzip { compressed(&body).map_err(|error| Failure::new(error.to_string()))? } else { body };
        let mut request = Request::post(self.uri.clone()).body(Full::new(Bytes::from(body)));
        if let Ok(request) = &mut request {
            *request.headers_mut() = self.headers.clone();
        }
        let request = request.map_err(|error| Failure::new(error.to_string()))?;
        self.client.send(request).await.map_err(Failure::new)
    }
}

fn compressed(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// The failure that a response is; `advice` is for an operator, who alone can help.
pub(super) fn failure(answer: &Answer, advice: Option<&str>) -> Failure {
    let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
    let complaint = complaint(answer);
    let colon = if complaint.is_empty() { "" } else { ": " };
    let least = if advice.is_empty() { None } else { Some(OPERATOR_WAIT) };
    let asked = retry_after(&answer.headers, Timestamp::now());
    Failure { why: format!("the status is {}{colon}{complaint}{advice}", answer.status), retry_after: asked.or(least) }
}

/// What a response says, on one line and shortened.
pub(super) fn complaint(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(SHOWN).collect::<String>().trim().to_owned()
}

/// `Retry-After`: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(date.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_says_how_long_to_wait() {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        for (text, wait) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("100000", Some(600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(retry_after(&headers, now), wait.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
