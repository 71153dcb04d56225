//! `telemetry.otlp`, compiled.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::egress::{Egress, Trust};
use crate::url::HttpUrl;

/// All of a share: a million parts.
pub(crate) const WHOLE: u32 = 1_000_000;

/// Which requests are traced, and where their spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TracesConfig {
    /// Where spans go.
    pub(crate) collector: CollectorConfig,
    /// How many traces are sampled, in parts of [`WHOLE`].
    pub(crate) share: u32,
    /// How many sampled traces of strangers are followed.
    pub(crate) sampled_parents: SampledParents,
    /// Whether traces of callers are continued: not if the policy drops their `traceparent`.
    pub(crate) continues: bool,
}

/// A number of traces in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SampledParents {
    /// The number.
    pub(crate) count: NonZeroU32,
    /// The time.
    pub(crate) per: Duration,
}

/// A collector that speaks OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CollectorConfig {
    /// Its base URL, which `/v1/traces` is appended to.
    pub(crate) url: HttpUrl,
    /// Fields of every request, marked as sensitive.
    pub(crate) headers: HeaderMap,
    /// The authorities to trust, and the certificate to present, if it is https.
    pub(crate) trust: Option<Trust>,
    /// How it is called.
    pub(crate) egress: Arc<Egress>,
    /// For a whole exchange.
    pub(crate) timeout: Duration,
    /// Whether requests are compressed by gzip.
    pub(crate) gzip: bool,
}

impl CollectorConfig {
    /// The URL that spans are sent to.
    pub(super) fn target(&self) -> String {
        let uri = self.url.uri();
        let scheme = uri.scheme_str().unwrap_or_default();
        format!("{scheme}://{}{}/v1/traces", self.url.authority(), uri.path().trim_end_matches('/'))
    }
}
