//! Sinks that are reached by HTTP: Elasticsearch, OTLP and lines.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::common::{Rejected, parent_exists, timeout};
use crate::audit::{ElasticsearchConfig, HttpConfig, HttpEndpoint, HttpFormat, OtlpConfig, SinkConfig};
use crate::policy::compile::context::{ClientTls, Context};
use crate::policy::document::{self, Secret};
use crate::policy::tree::At;
use crate::policy::units::{Period, Size};
use crate::secrets;
use crate::url::{Form, HttpUrl};

/// Default of `max_batch`, and its bounds.
const MAX_BATCH: u64 = 1 << 20;
const BATCH_BOUNDS: RangeInclusive<u64> = 64 << 10..=32 << 20;
/// Default of `data_stream`.
const DATA_STREAM: &str = "logs-bartizan-default";
/// Longest name of a data stream, in bytes.
const LONGEST_NAME: usize = 200;

/// Fields that the sink itself sends.
const OWN_FIELDS: [HeaderName; 15] = [
    header::HOST,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::USER_AGENT,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

/// The settings that all these sinks have.
struct Common<'a> {
    kind: &'static str,
    tls: ClientTls<'a>,
    timeout: Option<Period>,
    gzip: Option<bool>,
    max_batch: Option<Size>,
    rejected: Option<&'a String>,
    default_rejected: Rejected<'a>,
}

macro_rules! common {
    ($kind:literal, $written:expr, $rejected:expr) => {
        Common {
            kind: $kind,
            tls: ClientTls {
                ca: $written.ca.as_ref(),
                certificate: $written.certificate.as_ref(),
                key: $written.key.as_ref(),
            },
            timeout: $written.timeout,
            gzip: $written.gzip,
            max_batch: $written.max_batch,
            rejected: $written.rejected.as_ref(),
            default_rejected: $rejected,
        }
    };
}

/// `elasticsearch`.
pub(super) fn elasticsearch(
    context: &mut Context<'_>,
    written: &document::ElasticsearchSink,
    rejected: Rejected<'_>,
    at: At<'_>,
) -> Option<SinkConfig> {
    let data_stream = written.data_stream.as_deref().unwrap_or(DATA_STREAM);
    let letters = data_stream.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
    let begins = data_stream.starts_with(|first: char| first.is_ascii_alphanumeric());
    if !letters || !begins || data_stream.len() > LONGEST_NAME {
        context
            .error(at.key("data_stream"), "this cannot be the name of a data stream")
            .help("write TYPE-DATASET-NAMESPACE in lower case, such as `logs-bartizan-default`");
    }
    let headers = credentials(context, written, at);
    let example = "write `url: https://es.example.com:9200`";
    let endpoint = (written.url.as_ref(), "url", Form::BASE, example);
    let endpoint = endpoint_of(context, endpoint, headers, &common!("elasticsearch", written, rejected), at)?;
    Some(SinkConfig::Elasticsearch(ElasticsearchConfig { endpoint, data_stream: data_stream.into() }))
}

/// The API key, or user name and password.
fn credentials(context: &mut Context<'_>, written: &document::ElasticsearchSink, at: At<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let text = match (&written.api_key, &written.username, &written.password) {
        (None, None, None) => return headers,
        (Some(key), None, None) => {
            match ElasticsearchConfig::api_key(key.expose_secret()) {
                Ok(value) => drop(headers.insert(AUTHORIZATION, value)),
                Err(_) => {
                    context.error(at.key("api_key"), "this cannot be the value of a header").help("copy it again");
                }
            }
            return headers;
        }
        (None, Some(name), Some(password)) if !name.contains(':') => {
            format!("Basic {}", STANDARD.encode(format!("{name}:{}", password.expose_secret())))
        }
        (None, Some(_), Some(_)) => {
            context.error(at.key("username"), "a user name has no colon (RFC 7617)");
            return headers;
        }
        (None, ..) => {
            context.missing(
                at,
                "`username` and `password` go together",
                "write both, with the password as a reference; or an `api_key`",
            );
            return headers;
        }
        (Some(_), ..) => {
            context.error(at.key("api_key"), "a sink has an `api_key`, or `username` and `password`, not both");
            return headers;
        }
    };
    if let Some(value) = sensitive(context, &text.into(), at.key("password")) {
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

/// `otlp`.
pub(super) fn otlp(
    context: &mut Context<'_>,
    written: &document::OtlpSink,
    rejected: Rejected<'_>,
    at: At<'_>,
) -> Option<SinkConfig> {
    let headers = fields(context, &written.headers, at.key("headers"));
    if written.endpoint.as_ref().is_some_and(|endpoint| endpoint.trim_end_matches('/').ends_with("/v1/logs")) {
        context
            .error(at.key("endpoint"), "the endpoint is a base URL, which `/v1/logs` is appended to")
            .help("remove `/v1/logs`");
    }
    let endpoint = (written.endpoint.as_ref(), "endpoint", Form::BASE, "write `endpoint: http://127.0.0.1:4318`");
    let endpoint = endpoint_of(context, endpoint, headers, &common!("otlp", written, rejected), at)?;
    Some(SinkConfig::Otlp(OtlpConfig { endpoint }))
}

/// `http`.
pub(super) fn http(
    context: &mut Context<'_>,
    written: &document::HttpSink,
    rejected: Rejected<'_>,
    at: At<'_>,
) -> Option<SinkConfig> {
    let format = match written.format.as_deref() {
        None | Some("ndjson") => HttpFormat::Ndjson,
        Some("splunk") => HttpFormat::Splunk,
        Some("loki") => HttpFormat::Loki,
        Some(other) => {
            context.unknown(at.key("format"), "format", other, ["ndjson", "splunk", "loki"]);
            HttpFormat::Ndjson
        }
    };
    let headers = fields(context, &written.headers, at.key("headers"));
    let endpoint = (written.url.as_ref(), "url", Form::COLLECTOR, "write `url: https://collect.example.com/ndjson`");
    let mut common = common!("http", written, rejected);
    // Splunk and Loki are known to decompress; other receivers of lines may not.
    common.gzip = written.gzip.or(Some(format != HttpFormat::Ndjson));
    let endpoint = endpoint_of(context, endpoint, headers, &common, at)?;
    Some(SinkConfig::Http(HttpConfig { endpoint, format }))
}

fn endpoint_of(
    context: &mut Context<'_>,
    (written, key, form, help): (Option<&String>, &str, Form, &str),
    headers: HeaderMap,
    common: &Common<'_>,
    at: At<'_>,
) -> Option<HttpEndpoint> {
    let timeout = timeout(context, common.timeout, at.key("timeout"));
    let max_batch = common.max_batch.map_or(MAX_BATCH, |Size(size)| size);
    if !BATCH_BOUNDS.contains(&max_batch) {
        context.error(at.key("max_batch"), "one request has from 64KiB to 32MiB of records");
    }
    let rejected = match common.rejected {
        None => common.default_rejected.path(common.kind),
        Some(path) => {
            let path = context.sources.path(path);
            parent_exists(context, &path, "the folder of this file does not exist", at.key("rejected"));
            path
        }
    };
    let Some(text) = written else {
        context.missing(at.key(key), format!("`{key}` is missing"), help);
        return None;
    };
    let url = match HttpUrl::parse(text, form) {
        Ok(url) => url,
        Err(error) => {
            context.error(at.key(key), error.message).help(error.help);
            return None;
        }
    };
    let trust = if url.is_https() {
        Some(context.client_tls(&common.tls, at)?)
    } else {
        common.tls.unused(context, "of this URL, which is plain http", at);
        None
    };
    if !url.is_safe() {
        context
            .warning(at.key(key), "records, and the credentials of this sink, cross the network in clear text")
            .help("use https; `ca:` names a private authority");
    }
    let is_reference = at.key(key).written().is_some_and(secrets::has_reference);
    Some(HttpEndpoint {
        url,
        has_secret_path: common.kind == "http" || is_reference,
        headers,
        trust,
        egress: Arc::clone(&context.egress),
        timeout,
        gzip: common.gzip.unwrap_or(true),
        max_batch: usize::try_from(max_batch).unwrap_or(usize::MAX),
        rejected,
    })
}

/// The header fields that a policy gives to requests, marked as sensitive.
pub(in crate::policy::compile) fn fields(
    context: &mut Context<'_>,
    written: &BTreeMap<String, Secret>,
    at: At<'_>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, Secret(value)) in written {
        let at = at.key(name);
        match name.parse::<HeaderName>() {
            Ok(name) if OWN_FIELDS.contains(&name) => {
                context.problems.error(at.key_place(), "this header is not for the policy to set; remove it");
            }
            Ok(name) if headers.contains_key(&name) => {
                context.problems.error(at.key_place(), "this header is there twice");
            }
            Ok(name) => {
                if let Some(value) = sensitive(context, value, at) {
                    headers.insert(name, value);
                }
            }
            Err(_) => {
                context.problems.error(at.key_place(), "this is not the name of a header");
            }
        }
    }
    headers
}

/// The value of a header that is not shown.
fn sensitive(context: &mut Context<'_>, value: &SecretString, at: At<'_>) -> Option<HeaderValue> {
    let parsed = HeaderValue::from_str(value.expose_secret());
    if parsed.is_err() {
        context.error(at, "this cannot be the value of a header").help("it has one line, without control characters");
    }
    let mut value = parsed.ok()?;
    value.set_sensitive(true);
    Some(value)
}
