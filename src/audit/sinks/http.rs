//! Lines to an HTTP endpoint: as they are, as events of Splunk, or as a stream of Loki.

use std::io;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::super::config::{HttpConfig, HttpFormat};
use super::batches::{Batches, Verdict};
use super::delivery::{Delivery, Failure};
use super::facts::Facts;
use super::lines::{lines, trimmed};
use super::post::{Advice, Post, unsuccessful};
use super::rejected::Rejected;
use crate::egress::{Answer, NoAnswer};

/// An endpoint.
pub(in crate::audit) struct Http {
    post: Post,
    batches: Batches,
    wrap: Wrap,
    max_batch: usize,
}

/// How lines are wrapped.
struct Wrap {
    format: HttpFormat,
    /// The name of this host as JSON.
    node: String,
}

/// What is read of the response of Splunk's HTTP Event Collector.
#[derive(Deserialize)]
struct SplunkAnswer {
    code: u64,
}

/// Codes of Splunk's HTTP Event Collector that are about an event: invalid data format, event field required or blank.
const SPLUNK_EVENT: [u64; 3] = [6, 12, 13];

impl Http {
    pub(super) fn new(config: &HttpConfig, node: &str) -> io::Result<Self> {
        let endpoint = &config.endpoint;
        let content = match config.format {
            HttpFormat::Ndjson => "application/x-ndjson",
            HttpFormat::Splunk | HttpFormat::Loki => "application/json",
        };
        Ok(Self {
            post: Post::new(endpoint, &endpoint.url.uri().to_string(), content, "application/json, */*;q=0.1")?,
            batches: Batches::new(Rejected::at(endpoint.rejected.clone()), endpoint.max_batch),
            wrap: Wrap { format: config.format, node: json!(node).to_string() },
            max_batch: endpoint.max_batch,
        })
    }

    pub(super) fn max_batch(&self) -> usize {
        self.max_batch
    }

    pub(super) async fn deliver(&mut self, batch: Bytes) -> Delivery {
        let Self { post, batches, wrap, .. } = self;
        batches.deliver(batch, async |part| send(post, wrap, &part).await).await
    }
}

async fn send(post: &Post, wrap: &Wrap, part: &Bytes) -> Verdict {
    let answer = match post.send(wrap.body(part), 0).await {
        Ok(answer) => answer,
        // A success says no more that matters.
        Err(NoAnswer { is_success: true, .. }) => return Verdict::Taken,
        Err(error) => return Verdict::Again(Failure::new(error.why).into()),
    };
    match answer.status {
        status if status.is_success() => Verdict::Taken,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY if wrap.blames_an_event(&answer) => {
            Verdict::Refused(format!("{}: {}", answer.status, answer.complaint()))
        }
        _ => {
            let (credentials, target) = ("check `headers` of this sink", "check `url` and `format` of this sink");
            unsuccessful(&answer, &Advice { credentials, privileges: credentials, target })
        }
    }
}

impl Wrap {
    /// Whether a request that was refused as malformed was so for an event in it; Splunk says so of its settings, too.
    fn blames_an_event(&self, answer: &Answer) -> bool {
        let said = || serde_json::from_slice::<SplunkAnswer>(&answer.body).ok();
        self.format != HttpFormat::Splunk || said().is_none_or(|said| SPLUNK_EVENT.contains(&said.code))
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
