//! Lines to an HTTP endpoint: as they are, as events of Splunk, or as a stream of Loki.

use std::io;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::super::config::{HttpConfig, HttpFormat};
use super::batches::{self, Verdict};
use super::delivery::Delivery;
use super::facts::Facts;
use super::lines::{lines, trimmed};
use super::post::{Post, failure};
use super::rejected::Rejected;

/// An endpoint.
pub(in crate::audit) struct Http {
    post: Post,
    rejected: Rejected,
    format: HttpFormat,
    /// The name of this host as JSON.
    node: String,
    max_batch: usize,
    /// Most bytes of lines in one request, as the endpoint has shown.
    most: usize,
}

impl Http {
    pub(super) fn new(config: &HttpConfig, node: &str) -> io::Result<Self> {
        let endpoint = &config.endpoint;
        let content = match config.format {
            HttpFormat::Ndjson => "application/x-ndjson",
            HttpFormat::Splunk | HttpFormat::Loki => "application/json",
        };
        Ok(Self {
            post: Post::new(endpoint, &endpoint.url.uri().to_string(), content, "application/json, */*;q=0.1")?,
            rejected: Rejected::at(endpoint.rejected.clone()),
            format: config.format,
            node: json!(node).to_string(),
            max_batch: endpoint.max_batch,
            most: endpoint.max_batch,
        })
    }

    pub(super) fn max_batch(&self) -> usize {
        self.max_batch
    }

    pub(super) async fn deliver(&mut self, batch: Bytes) -> Delivery {
        let mut most = self.most;
        let delivery = batches::deliver(batch, &mut most, &self.rejected, async |part| self.send(&part).await).await;
        self.most = most;
        delivery
    }

    async fn send(&self, part: &Bytes) -> Verdict {
        let answer = match self.post.send(self.body(part)).await {
            Ok(answer) => answer,
            Err(failure) => return Verdict::Again(failure),
        };
        match answer.status {
            status if status.is_success() => Verdict::Taken { rejected: 0 },
            StatusCode::PAYLOAD_TOO_LARGE => Verdict::TooLarge,
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                Verdict::Refused(format!("{}: {}", answer.status, answer.complaint()))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Verdict::Again(failure(&answer, None)),
            status if status.is_server_error() => Verdict::Again(failure(&answer, None)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Verdict::Again(failure(&answer, Some("check `headers` of this sink")))
            }
            status if status.is_redirection() => {
                Verdict::Again(failure(&answer, Some("redirects are not followed: correct `url` of this sink")))
            }
            _ => Verdict::Again(failure(&answer, Some("check `url` and `format` of this sink"))),
        }
    }

    fn body(&self, part: &Bytes) -> Vec<u8> {
        match self.format {
            HttpFormat::Ndjson => part.to_vec(),
            HttpFormat::Splunk => self.splunk(part),
            HttpFormat::Loki => self.loki(part),
        }
    }

    /// Events of the HTTP Event Collector, one after the other.
    fn splunk(&self, part: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(part.len() + part.len() / 4 + 128);
        for line in lines(part) {
            body.push(b'{');
            if let Some(at) = Facts::of(line).at() {
                let milliseconds = at.as_millisecond();
                let (seconds, rest) = (milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000));
                body.extend_from_slice(format!("\"time\":{seconds}.{rest:03},").as_bytes());
            }
            body.extend_from_slice(b"\"host\":");
            body.extend_from_slice(self.node.as_bytes());
            body.extend_from_slice(b",\"source\":\"bartizan\",\"sourcetype\":\"_json\",\"event\":");
            body.extend_from_slice(trimmed(line));
            body.extend_from_slice(b"}\n");
        }
        body
    }

    /// One stream of the push API. Its labels are few and fixed: each set of values is a stream of its own there.
    fn loki(&self, part: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(part.len() + part.len() / 4 + 128);
        body.extend_from_slice(b"{\"streams\":[{\"stream\":{\"job\":\"bartizan\",\"node\":");
        body.extend_from_slice(self.node.as_bytes());
        body.extend_from_slice(b"},\"values\":[");
        for (position, line) in lines(part).enumerate() {
            let nanoseconds = Facts::of(line).at().map_or(0, |at| at.as_nanosecond());
            let comma = if position == 0 { "" } else { "," };
            body.extend_from_slice(format!("{comma}[\"{nanoseconds}\",").as_bytes());
            body.extend_from_slice(json!(String::from_utf8_lossy(trimmed(line))).to_string().as_bytes());
            body.push(b']');
        }
        body.extend_from_slice(b"]}]}");
        body
    }
}
