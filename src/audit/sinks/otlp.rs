//! OTLP logs over HTTP with Protobuf bodies.

use std::io;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use prost::Message;

use super::super::config::OtlpConfig;
use super::batches::{Batches, Verdict};
use super::delivery::{Delivery, Failure};
use super::facts::{Facts, Severity};
use super::lines::{lines, trimmed};
use super::post::{Advice, Post, unsuccessful};
use super::rejected::Rejected;
use crate::egress::{Answer, NoAnswer};
use crate::otlp::{
    AnyValue, ExportResponse, KeyValue, LogRecord, LogsRequest, PROTOBUF, PartialSuccess, Resource, ResourceLogs,
    Scope, ScopeLogs,
};

/// Bytes of what a collector says of records that it rejects.
const MESSAGE: usize = 192 << 10;

/// A collector.
pub(in crate::audit) struct Otlp {
    post: Post,
    batches: Batches,
    resource: Resource,
    max_batch: usize,
}

impl Otlp {
    pub(super) fn new(config: &OtlpConfig, node: &str) -> io::Result<Self> {
        let endpoint = &config.endpoint;
        let uri = format!("{}/v1/logs", endpoint.base());
        Ok(Self {
            post: Post::new(endpoint, &uri, PROTOBUF, PROTOBUF)?,
            batches: Batches::new(Rejected::at(endpoint.rejected.clone()), endpoint.max_batch),
            resource: Resource::here(node),
            max_batch: endpoint.max_batch,
        })
    }

    pub(super) fn max_batch(&self) -> usize {
        self.max_batch
    }

    pub(super) async fn deliver(&mut self, batch: Bytes) -> Delivery {
        let Self { post, batches, resource, .. } = self;
        batches.deliver(batch, async |part| export(post, resource, &part).await).await
    }
}

async fn export(post: &Post, resource: &Resource, part: &[u8]) -> Verdict {
    let request = request(part, resource, Timestamp::now());
    let answer = match post.send(request.encode_to_vec(), MESSAGE).await {
        Ok(answer) => answer,
        // The collector has the records: only what it says of them is not known.
        Err(NoAnswer { is_success: true, why, .. }) => {
            tracing::warn!(why, "what an OTLP collector said of records that it took could not be read");
            return Verdict::Taken;
        }
        Err(error) => return Verdict::Again(Failure::new(error.why).into()),
    };
    match answer.status {
        status if status.is_success() => taken(&answer),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            Verdict::Refused(format!("{}: {}", answer.status, answer.complaint()))
        }
        // The retryable ones of the specification ("OTLP/HTTP Response"), and others that are not about the records.
        _ => {
            let (credentials, target) = ("check `headers` of this sink", "check `endpoint` of this sink");
            unsuccessful(&answer, &Advice { credentials, privileges: credentials, target })
        }
    }
}

/// Reads the response of a success.
fn taken(answer: &Answer) -> Verdict {
    match ExportResponse::read(answer) {
        Err(why) => Verdict::Again(Failure::lasting(format!("{why}; check `endpoint` of this sink")).into()),
        Ok(PartialSuccess { rejected: 0, message }) => {
            if !message.is_empty() {
                tracing::warn!(said = message, "an OTLP collector took the audit records, with a warning");
            }
            Verdict::Taken
        }
        Ok(PartialSuccess { rejected, message }) => {
            tracing::error!(rejected, said = message, "an OTLP collector rejected audit records");
            Verdict::Partly { rejected, why: message }
        }
    }
}

/// The records of a batch.
fn request(batch: &[u8], resource: &Resource, now: Timestamp) -> LogsRequest {
    let log_records = lines(batch).map(|line| record(trimmed(line), now)).collect();
    let scope = Scope { name: "bartizan.audit".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records }];
    LogsRequest { resource_logs: vec![ResourceLogs { resource: Some(resource.clone()), scope_logs }] }
}

fn record(line: &[u8], now: Timestamp) -> LogRecord {
    let facts = Facts::of(line);
    let (severity_number, severity_text) = match facts.severity() {
        Severity::Info => (9, "INFO"),
        Severity::Alert | Severity::Denied => (13, "WARN"),
        Severity::Error => (17, "ERROR"),
    };
    LogRecord {
        time_unix_nano: facts.at().map_or(0, nanoseconds),
        observed_time_unix_nano: nanoseconds(now),
        severity_number,
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue::text(String::from_utf8_lossy(line))),
        attributes: attributes(&facts),
        trace_id: hexadecimal(&facts.trace.id, 16),
        span_id: hexadecimal(&facts.span.id, 8),
        event_name: facts.event.action.into_owned(),
    }
}

/// What records are searched by; the whole record is the body.
fn attributes(facts: &Facts<'_>) -> Vec<KeyValue> {
    let texts = [
        ("event.id", &facts.event.id),
        ("event.kind", &facts.event.kind),
        ("event.action", &facts.event.action),
        ("event.outcome", &facts.event.outcome),
        ("event.reason", &facts.event.reason),
        ("http.request.method", &facts.http.request.method),
        ("url.path", &facts.url.path),
        ("url.domain", &facts.url.domain),
        ("client.address", &facts.client.ip),
        ("user.id", &facts.user.id),
        ("bartizan.consumer", &facts.bartizan.consumer),
        ("bartizan.api", &facts.bartizan.api),
        ("bartizan.route", &facts.bartizan.route),
        ("bartizan.stage", &facts.bartizan.stage),
    ];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    let texts = texts.map(|(key, text)| KeyValue::new(key, AnyValue::text(&**text)));
    let status = facts.http.response.status_code.map(i64::from);
    texts.chain(status.map(|status| KeyValue::new("http.response.status_code", AnyValue::int(status)))).collect()
}

fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

/// The bytes of an id; none if it is not one of this length.
fn hexadecimal(text: &str, length: usize) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?);
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
    bytes.filter(|bytes| bytes.len() == length).unwrap_or_default()
}
