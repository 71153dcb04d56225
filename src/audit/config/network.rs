//! The settings of sinks over the network.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderValue, InvalidHeaderValue};

use crate::egress::{Egress, Trust};
use crate::url::{HttpUrl, StreamUrl};

/// An HTTP server that takes records.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HttpEndpoint {
    /// Its URL.
    pub(crate) url: HttpUrl,
    /// Whether path and query may be a credential, as those of webhooks are. Then they are not shown.
    pub(crate) has_secret_path: bool,
    /// Fields of every request; those with secrets are marked as sensitive.
    pub(crate) headers: HeaderMap,
    /// Trusted authorities, and the client certificate, for https.
    pub(crate) trust: Option<Trust>,
    /// How it is called.
    pub(crate) egress: Arc<Egress>,
    /// For a whole exchange.
    pub(crate) timeout: Duration,
    /// Whether requests are compressed by gzip.
    pub(crate) gzip: bool,
    /// Most bytes of lines in one request.
    pub(crate) max_batch: usize,
    /// A file for records that the server refuses for good.
    pub(crate) rejected: PathBuf,
}

impl HttpEndpoint {
    /// The base of the URLs of requests: scheme, host, port and path.
    pub(crate) fn base(&self) -> String {
        format!("{}{}", self.server(), self.url.uri().path().trim_end_matches('/'))
    }

    fn server(&self) -> String {
        format!("{}://{}", self.url.uri().scheme_str().unwrap_or_default(), self.url.authority())
    }
}

/// Its URL; a secret path and query as a short hash.
impl fmt::Display for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url.uri().path_and_query().map(|rest| rest.as_str()) {
            Some(rest) if self.has_secret_path && rest != "/" => {
                let digest = digest(&SHA256, rest.as_bytes());
                write!(f, "{}/#", self.server())?;
                digest.as_ref().iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            _ => f.write_str(&self.base()),
        }
    }
}

impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpEndpoint({self})")
    }
}

/// A data stream of Elasticsearch or OpenSearch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ElasticsearchConfig {
    /// The cluster, by the URL of its API.
    pub(crate) endpoint: HttpEndpoint,
    /// The data stream.
    pub(crate) data_stream: Box<str>,
}

impl ElasticsearchConfig {
    /// The `Authorization` of an API key: `ID:KEY`, or both in Base64. It is sensitive.
    ///
    /// # Errors
    /// It cannot be sent in a header.
    pub(crate) fn api_key(key: &str) -> Result<HeaderValue, InvalidHeaderValue> {
        let encoded = if key.contains(':') { STANDARD.encode(key) } else { key.to_owned() };
        let mut value = HeaderValue::from_str(&format!("ApiKey {encoded}"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// A collector that speaks OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtlpConfig {
    /// Its base URL, which `/v1/logs` is appended to (OTLP 1.x, "OTLP/HTTP request").
    pub(crate) endpoint: HttpEndpoint,
}

/// An HTTP endpoint that takes lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpConfig {
    /// Where to.
    pub(crate) endpoint: HttpEndpoint,
    /// How lines are wrapped.
    pub(crate) format: HttpFormat,
}

/// The body of requests to an HTTP endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpFormat {
    /// The lines themselves.
    Ndjson,
    /// Events of Splunk's HTTP Event Collector.
    Splunk,
    /// Streams of Loki's push API.
    Loki,
}

/// A syslog receiver (RFC 5424 over TCP or TLS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyslogConfig {
    /// Where it is.
    pub(crate) address: StreamUrl,
    /// Trusted authorities, and the client certificate, for TLS.
    pub(crate) trust: Option<Trust>,
    /// How it is called.
    pub(crate) egress: Arc<Egress>,
    /// For connecting, and until the receiver takes anything more.
    pub(crate) timeout: Duration,
    /// Facility, from 0 to 23 (RFC 5424 §6.2.1).
    pub(crate) facility: u8,
    /// APP-NAME.
    pub(crate) app_name: Box<str>,
    /// Most bytes of one message, its header included.
    pub(crate) max_message: usize,
    /// Whether `@cee:` is put before the JSON.
    pub(crate) cee: bool,
}
