//! Every metric's name, and how logs are set up. Words only: nothing here decides, and nothing of ours is imported.
//!
//! Names follow Prometheus' rules: base units, `_total` for counters. Labels come from the policy alone, never from a
//! request, so nobody outside can make them grow. Label sets are resolved when the policy is compiled; the hot path holds
//! handles.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of duration buckets, in seconds.
const DURATIONS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Labels of what is counted per route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    api: String,
    route: String,
}

/// Labels of how requests of a route ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    api: String,
    route: String,
    code: &'static str,
}

/// A `code` alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

/// All metrics of this process. Clones are handles to the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<EndLabels, Counter>,
    would_refuse: Family<EndLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    upstream_durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    reloads: Family<CodeLabels, Counter>,
    /// Open client connections.
    pub(crate) connections: Gauge,
    /// Connections refused because their address had too many.
    pub(crate) connections_refused: Counter,
    /// When the policy in force was loaded, in seconds since 1970.
    pub(crate) policy_loaded: Gauge<f64, AtomicU64>,
}

/// How one request ended, as the metrics tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Position among all ends; below [`ENDS`].
    pub(crate) index: usize,
    /// The `code` label: a refusal's code, or `2xx`.
    pub(crate) code: &'static str,
}

/// How many different ends there can be.
pub(crate) const ENDS: usize = 64;

/// The handles of one route.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    labels: RouteLabels,
    requests: Family<EndLabels, Counter>,
    would_refuse: Family<EndLabels, Counter>,
    /// Resolved when first used: most routes never see most ends.
    ends: [OnceLock<Counter>; ENDS],
    duration: Histogram,
    upstream_duration: Histogram,
}

impl RouteMetrics {
    /// Counts one request. Durations: from its head to its end, and what of that was spent on the upstream's answer.
    pub(crate) fn count(&self, end: End, duration: Duration, upstream: Option<Duration>) {
        if let Some(slot) = self.ends.get(end.index) {
            slot.get_or_init(|| {
                let RouteLabels { api, route } = self.labels.clone();
                self.requests.get_or_create_owned(&EndLabels { api, route, code: end.code })
            })
            .inc();
        }
        self.duration.observe(duration.as_secs_f64());
        if let Some(upstream) = upstream {
            self.upstream_duration.observe(upstream.as_secs_f64());
        }
    }

    /// Counts a refusal that was only reported.
    pub(crate) fn would_refuse(&self, code: &'static str) {
        let RouteLabels { api, route } = self.labels.clone();
        self.would_refuse.get_or_create_owned(&EndLabels { api, route, code }).inc();
    }
}

impl Metrics {
    /// Zeros.
    pub(crate) fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(DURATIONS);
        Self {
            durations: Family::new_with_constructor(histogram),
            upstream_durations: Family::new_with_constructor(histogram),
            requests: Family::default(),
            would_refuse: Family::default(),
            reloads: Family::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            policy_loaded: Gauge::default(),
        }
    }

    /// The handles of a route; both names are empty for requests that found none.
    pub(crate) fn route(&self, api: &str, route: &str) -> RouteMetrics {
        let labels = RouteLabels { api: api.to_owned(), route: route.to_owned() };
        RouteMetrics {
            requests: self.requests.clone(),
            would_refuse: self.would_refuse.clone(),
            ends: [const { OnceLock::new() }; ENDS],
            duration: self.durations.get_or_create_owned(&labels),
            upstream_duration: self.upstream_durations.get_or_create_owned(&labels),
            labels,
        }
    }

    /// Counts a reload: `loaded`, `unchanged` or `failed`.
    pub(crate) fn reload(&self, code: &'static str) {
        self.reloads.get_or_create(&CodeLabels { code }).inc();
    }

    /// Everything, in the OpenMetrics text format, with numbers that others keep.
    pub(crate) fn page(&self, audit: AuditNumbers) -> String {
        let mut registry = Registry::with_prefix("bartizan");
        registry.register("requests", "Requests by how they ended", self.requests.clone());
        let help = "Refusals that were only reported, by code";
        registry.register("would_refuse", help, self.would_refuse.clone());
        registry.register_with_unit(
            "request_duration",
            "From a request's head to its end",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "upstream_duration",
            "Until the upstream's response headers",
            Unit::Seconds,
            self.upstream_durations.clone(),
        );
        registry.register("policy_reloads", "Reloads of the policy", self.reloads.clone());
        registry.register("connections", "Open client connections", self.connections.clone());
        registry.register(
            "connections_refused",
            "Connections refused because their address had too many",
            self.connections_refused.clone(),
        );
        registry.register_with_unit(
            "policy_loaded_timestamp",
            "When the policy in force was loaded",
            Unit::Seconds,
            self.policy_loaded.clone(),
        );
        let (records, bytes) = (Counter::<u64>::default(), Counter::<u64>::default());
        records.inc_by(audit.records);
        bytes.inc_by(audit.bytes);
        registry.register("audit_records", "Audit records written, over all sinks", records);
        registry.register_with_unit("audit_written", "Audit bytes written, over all sinks", Unit::Bytes, bytes);
        let failing = Gauge::<i64>::default();
        failing.set(i64::from(audit.failing));
        registry.register("audit_failing", "1 while a sink cannot be written to", failing);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// What the audit writers count themselves.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct AuditNumbers {
    /// Records written.
    pub(crate) records: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
    /// A sink cannot be written to.
    pub(crate) failing: bool,
}

/// Sets up logs: to standard error; `BARTIZAN_LOG` holds a filter such as `debug` (default `info`), and
/// `BARTIZAN_LOG_FORMAT=json` makes each a JSON object.
pub(crate) fn start_logs() {
    start_logs_from("info");
}

/// The same, where nothing less than this is said unless the environment asks for more.
pub(crate) fn start_logs_from(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BARTIZAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr);
    // Only a second start fails, and then logs are set up already.
    let _ = if std::env::var("BARTIZAN_LOG_FORMAT").is_ok_and(|format| format == "json") {
        logs.json().try_init()
    } else {
        logs.with_ansi(colour).compact().try_init()
    };
}
