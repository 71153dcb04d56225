//! `telemetry`: traces, and the collector that they go to.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::audit::{header_fields, sink_timeout};
use super::context::{ClientTls, Context};
use crate::exchange::TRACEPARENT;
use crate::policy::document::{OtlpTraces, Telemetry};
use crate::policy::header_rules::HeaderRules;
use crate::policy::share::Share;
use crate::policy::tree::At;
use crate::policy::units::Rate;
use crate::traces::{CollectorConfig, SampledParents, TracesConfig};
use crate::url::{Form, HttpUrl};

/// Default of `traces`, in millionths.
const TRACES: u32 = 10_000;
/// Default of `sampled_parents`.
const SAMPLED_PARENTS: SampledParents =
    SampledParents { count: NonZeroU32::MIN.saturating_add(99), per: Duration::from_secs(1) };

/// `telemetry`; absent: no traces.
pub(super) fn compile(
    context: &mut Context<'_>,
    written: &Telemetry,
    headers: &HeaderRules,
    at: At<'_>,
) -> Option<TracesConfig> {
    let written = written.otlp.as_ref()?;
    let at = at.key("otlp");
    let collector = collector(context, written, at)?;
    let Share(share) = written.traces.unwrap_or(Share(TRACES));
    let sampled_parents =
        written.sampled_parents.map_or(SAMPLED_PARENTS, |Rate { count, per }| SampledParents { count, per });
    Some(TracesConfig { collector, share, sampled_parents, continues: !headers.drops(TRACEPARENT.as_str()) })
}

fn collector(context: &mut Context<'_>, written: &OtlpTraces, at: At<'_>) -> Option<CollectorConfig> {
    let headers = header_fields(context, &written.headers, at.key("headers"));
    let timeout = sink_timeout(context, written.timeout, at.key("timeout"));
    let tls =
        ClientTls { ca: written.ca.as_ref(), certificate: written.certificate.as_ref(), key: written.key.as_ref() };
    let at_endpoint = at.key("endpoint");
    let Some(text) = &written.endpoint else {
        context.missing(at_endpoint, "`endpoint` is missing", "write `endpoint: http://127.0.0.1:4318`");
        return None;
    };
    if text.trim_end_matches('/').ends_with("/v1/traces") {
        context
            .error(at_endpoint, "the endpoint is a base URL, which `/v1/traces` is appended to")
            .help("remove `/v1/traces`");
    }
    let url = match HttpUrl::parse(text, Form::BASE) {
        Ok(url) => url,
        Err(error) => {
            context.error(at_endpoint, error.message).help(error.help);
            return None;
        }
    };
    let trust = if url.is_https() {
        Some(context.client_tls(&tls, at)?)
    } else {
        tls.unused(context, "of this URL, which is plain http", at);
        None
    };
    if !url.is_safe() {
        context
            .warning(at_endpoint, "paths and addresses of callers, and `headers`, cross the network in clear text")
            .help("use https; `ca:` names a private authority");
    }
    let egress = Arc::clone(&context.egress);
    Some(CollectorConfig { url, headers, trust, egress, timeout, gzip: written.gzip.unwrap_or(true) })
}
