//! The names of all metrics, and the setup of logging. Nothing here decides, and no other module of this crate is
//! imported.
//!
//! Names follow Prometheus' rules: base units, `_total` for counters. Labels come from the policy, never from a
//! request, so clients cannot increase their number. Two come from elsewhere, and both are bounded: `kid`, published by
//! an issuer that the policy trusts, and the ids of keys and consumers that operators created. Label sets are resolved
//! when the policy is compiled; the hot path holds handles. Gauges of current state are collected on each scrape
//! ([`Gauges`]), so that what no longer exists disappears from the page.

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

/// An issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}

/// A key of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KidLabels {
    issuer: String,
    kid: String,
}

/// A kind of store, or of its entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    consumer: String,
    key: String,
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

/// How one request ended, for the metrics.
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
    /// Counts one request. Durations: from its head to its end, and until the upstream's response headers.
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
    /// Returns metrics that are all zero.
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

    /// Returns the handles of a route; both names are empty for requests that match no route.
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

    /// Renders all metrics in the OpenMetrics text format, together with gauges collected elsewhere.
    pub(crate) fn page(&self, gauges: Gauges) -> String {
        let mut registry = Registry::with_prefix("bartizan");
        registry.register("requests", "Requests by how they ended", self.requests.clone());
        let help = "Refusals that were only reported, by code";
        registry.register("would_refuse", help, self.would_refuse.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to its end",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "upstream_duration",
            "Time to the upstream's response headers",
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
        gauges.register(&mut registry);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// Current values that other modules hold, collected on each scrape.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// The audit log.
    pub(crate) audit: AuditNumbers,
    /// Issuers whose keys tokens are verified with.
    pub(crate) issuers: Vec<IssuerNumbers>,
    /// The store, where there is one.
    pub(crate) store: Option<StoreNumbers>,
    /// API keys that expire soon, soonest first; bounded in number.
    pub(crate) ending: Vec<KeyNumbers>,
    /// How many API keys expire soon in all.
    pub(crate) endings: usize,
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

/// The state of an issuer's keys.
#[derive(Debug)]
pub(crate) struct IssuerNumbers {
    /// Its name in the policy.
    pub(crate) name: String,
    /// Its keys are loaded, and the last fetch succeeded.
    pub(crate) up: bool,
    /// Keys that verify tokens now.
    pub(crate) keys: usize,
    /// When they were last fetched, in seconds since 1970; absent for those of a file or a secret.
    pub(crate) loaded: Option<i64>,
    /// `kid` → tokens verified.
    pub(crate) tokens: Vec<(String, u64)>,
}

/// The state of the store.
#[derive(Debug)]
pub(crate) struct StoreNumbers {
    /// `embedded` or `redis`.
    pub(crate) kind: &'static str,
    /// This node is in sync with the store.
    pub(crate) up: bool,
    /// Kind → how many there are.
    pub(crate) entries: Vec<(&'static str, usize)>,
}

/// When an API key expires.
#[derive(Debug)]
pub(crate) struct KeyNumbers {
    /// The consumer that owns the key.
    pub(crate) consumer: String,
    /// Its id.
    pub(crate) key: String,
    /// In seconds since 1970.
    pub(crate) end: i64,
}

impl Gauges {
    fn register(self, registry: &mut Registry) {
        let (records, bytes) = (Counter::<u64>::default(), Counter::<u64>::default());
        records.inc_by(self.audit.records);
        bytes.inc_by(self.audit.bytes);
        registry.register("audit_records", "Audit records written, over all sinks", records);
        registry.register_with_unit("audit_written", "Audit bytes written, over all sinks", Unit::Bytes, bytes);
        let failing = gauge(self.audit.failing.into());
        registry.register("audit_failing", "1 while a sink cannot be written to", failing);
        register_issuers(self.issuers, registry);
        if let Some(store) = self.store {
            register_store(store, registry);
        }
        let ends: Family<KeyLabels, Gauge> = Family::default();
        for KeyNumbers { consumer, key, end } in self.ending {
            ends.get_or_create(&KeyLabels { consumer, key }).set(end);
        }
        registry.register_with_unit(
            "api_key_expires_timestamp",
            "When API keys expire, for the first 1000 that expire within 30 days",
            Unit::Seconds,
            ends,
        );
        let endings = gauge(self.endings.try_into().unwrap_or(i64::MAX));
        registry.register("api_keys_expiring", "API keys that expire within 30 days", endings);
    }
}

fn register_issuers(issuers: Vec<IssuerNumbers>, registry: &mut Registry) {
    let (up, keys, loaded): (Family<IssuerLabels, Gauge>, Family<_, Gauge>, Family<_, Gauge>) = Default::default();
    let tokens: Family<KidLabels, Counter> = Family::default();
    for numbers in issuers {
        let labels = IssuerLabels { issuer: numbers.name };
        up.get_or_create(&labels).set(numbers.up.into());
        keys.get_or_create(&labels).set(numbers.keys.try_into().unwrap_or(i64::MAX));
        if let Some(at) = numbers.loaded {
            loaded.get_or_create(&labels).set(at);
        }
        for (kid, count) in numbers.tokens {
            // Keys without a name, or with the same one, are counted together.
            tokens.get_or_create(&KidLabels { issuer: labels.issuer.clone(), kid }).inc_by(count);
        }
    }
    registry.register("issuer_up", "1 when an issuer's keys are loaded and the last fetch succeeded", up);
    registry.register(
        "issuer_keys",
        "Keys of an issuer that are in use; with 0, its callers are refused with 503",
        keys,
    );
    registry.register_with_unit(
        "issuer_keys_loaded_timestamp",
        "When an issuer's keys were last fetched",
        Unit::Seconds,
        loaded,
    );
    registry.register(
        "issuer_tokens",
        "Tokens verified with an issuer's key; cached results are not counted again",
        tokens,
    );
}

fn register_store(store: StoreNumbers, registry: &mut Registry) {
    let (up, entries): (Family<KindLabels, Gauge>, Family<KindLabels, Gauge>) = Default::default();
    up.get_or_create(&KindLabels { kind: store.kind }).set(store.up.into());
    for (kind, count) in store.entries {
        entries.get_or_create(&KindLabels { kind }).set(count.try_into().unwrap_or(i64::MAX));
    }
    registry.register("store_up", "1 while this node is in sync with the store", up);
    registry.register(
        "store_entries",
        "Entries in the store, by kind; expired ones count until they are swept",
        entries,
    );
}

fn gauge(value: i64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

/// Starts logging to standard error. `BARTIZAN_LOG` holds a filter such as `debug` (default `info`), and
/// `BARTIZAN_LOG_FORMAT=json` makes each message a JSON object.
pub(crate) fn start_logs() {
    start_logs_from("info");
}

/// Starts logging with this default level instead of `info`.
pub(crate) fn start_logs_from(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BARTIZAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr);
    // This fails only when logging is set up already.
    let _ = if std::env::var("BARTIZAN_LOG_FORMAT").is_ok_and(|format| format == "json") {
        logs.json().try_init()
    } else {
        logs.with_ansi(colour).compact().try_init()
    };
}

/// Formats an error with its sources: "client error (Connect)" alone is no help.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
