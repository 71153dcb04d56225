//! The names of all metrics. Nothing here decides, and no other module of this crate is imported.
//!
//! Names follow Prometheus' rules: base units, `_total` for counters. Labels come from the policy, never from a
//! request, so clients cannot increase their number. Two come from elsewhere, and both are bounded: `kid`, published by
//! an issuer that the policy trusts, and the ids of keys and consumers that operators created. The hot path uses the
//! metrics of a route directly ([`RouteMetrics`]). Every scrape renders the policy in force, so series of removed routes
//! disappear.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of duration buckets, in seconds.
const DURATIONS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Labels of metrics per route.
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

/// Maximum number of different ends.
pub(crate) const ENDS: usize = 64;

/// The metrics of one route. They outlive policies: the next policy with this route continues counting.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    labels: RouteLabels,
    /// By [`End::index`]; created on first use, because most ends never occur on most routes.
    ends: [OnceLock<EndCount>; ENDS],
    /// Refusals that were only reported, by code.
    would_refuse: Mutex<Vec<(&'static str, u64)>>,
    duration: Histogram,
    upstream_duration: Histogram,
}

/// Number of requests of a route that ended in one way.
#[derive(Debug)]
struct EndCount {
    code: &'static str,
    requests: AtomicU64,
}

impl RouteMetrics {
    /// Returns metrics that are all zero. Both names are empty for requests that match no route.
    pub(crate) fn new(api: &str, route: &str) -> Self {
        Self {
            labels: RouteLabels { api: api.to_owned(), route: route.to_owned() },
            ends: [const { OnceLock::new() }; ENDS],
            would_refuse: Mutex::default(),
            duration: Histogram::new(DURATIONS),
            upstream_duration: Histogram::new(DURATIONS),
        }
    }

    /// The names of its API and of the route itself.
    pub(crate) fn route(&self) -> (&str, &str) {
        (&self.labels.api, &self.labels.route)
    }

    /// Counts one request. Durations: from its head to its end, and until the upstream's response headers.
    pub(crate) fn count(&self, end: End, duration: Duration, upstream: Option<Duration>) {
        if let Some(count) = self.ends.get(end.index) {
            let count = count.get_or_init(|| EndCount { code: end.code, requests: AtomicU64::new(0) });
            count.requests.fetch_add(1, Ordering::Relaxed);
        }
        self.duration.observe(duration.as_secs_f64());
        if let Some(upstream) = upstream {
            self.upstream_duration.observe(upstream.as_secs_f64());
        }
    }

    /// Counts a refusal that was only reported.
    pub(crate) fn would_refuse(&self, code: &'static str) {
        let mut counts = self.would_refuse.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => counts.push((code, 1)),
        }
    }

    fn ends(&self) -> Vec<(EndLabels, Counter)> {
        let counts = self.ends.iter().filter_map(OnceLock::get);
        counts.map(|end| (self.end(end.code), counter(end.requests.load(Ordering::Relaxed)))).collect()
    }

    fn would_refuses(&self) -> Vec<(EndLabels, Counter)> {
        let counts = self.would_refuse.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(code, count)| (self.end(code), counter(*count))).collect()
    }

    fn end(&self, code: &'static str) -> EndLabels {
        let RouteLabels { api, route } = self.labels.clone();
        EndLabels { api, route, code }
    }
}

/// A family of the series that exist now, in this order; [`Family`] would keep removed ones.
#[derive(Debug)]
struct Series<S, M>(Vec<(S, M)>);

impl<S: EncodeLabelSet, M: EncodeMetric + TypedMetric> EncodeMetric for Series<S, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.iter().try_for_each(|(labels, metric)| metric.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Metrics {
    /// Returns metrics that are all zero.
    pub(crate) fn new() -> Self {
        Self {
            reloads: Family::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            policy_loaded: Gauge::default(),
        }
    }

    /// Counts a reload: `loaded`, `unchanged` or `failed`.
    pub(crate) fn reload(&self, code: &'static str) {
        self.reloads.get_or_create(&CodeLabels { code }).inc();
    }

    /// Renders all metrics in the OpenMetrics text format: those of the routes in force, and gauges collected elsewhere.
    pub(crate) fn page<'a>(&self, routes: impl Iterator<Item = &'a RouteMetrics> + Clone, gauges: Gauges) -> String {
        let mut registry = Registry::with_prefix("bartizan");
        register_routes(routes, &mut registry);
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
    /// The store, if there is one.
    pub(crate) store: Option<StoreNumbers>,
    /// The memory of bodies.
    pub(crate) memory: MemoryNumbers,
    /// API keys that expire soon, soonest first; bounded in number.
    pub(crate) ending: Vec<KeyNumbers>,
    /// Total number of API keys that expire soon.
    pub(crate) endings: usize,
}

/// The counters of the audit writers.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct AuditNumbers {
    /// Records written.
    pub(crate) records: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
    /// A sink cannot be written to.
    pub(crate) failing: bool,
    /// Records dropped.
    pub(crate) dropped: u64,
}

/// The memory budget of bodies that are held and decoded.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct MemoryNumbers {
    /// Bytes in use.
    pub(crate) in_use: u64,
    /// The limit in bytes.
    pub(crate) limit: u64,
    /// How often bytes were refused.
    pub(crate) refusals: u64,
}

/// The state of an issuer's keys.
#[derive(Debug)]
pub(crate) struct IssuerNumbers {
    /// Name in the policy.
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
    /// Kind → number of entries.
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
        let (records, bytes) = (counter(self.audit.records), counter(self.audit.bytes));
        registry.register("audit_records", "Audit records written, over all sinks", records);
        registry.register_with_unit("audit_written", "Audit bytes written, over all sinks", Unit::Bytes, bytes);
        let failing = gauge(self.audit.failing.into());
        registry.register("audit_failing", "1 while a sink cannot be written to", failing);
        let help = "Audit records of requests that were not admitted, dropped because the sinks could not keep up";
        registry.register("audit_dropped", help, counter(self.audit.dropped));
        register_memory(self.memory, registry);
        register_issuers(self.issuers, registry);
        if let Some(store) = self.store {
            register_store(store, registry);
        }
        let ends = self.ending.into_iter();
        let ends = ends.map(|KeyNumbers { consumer, key, end }| (KeyLabels { consumer, key }, gauge(end)));
        registry.register_with_unit(
            "api_key_expires_timestamp",
            "When API keys expire, for the first 1000 that expire within 30 days",
            Unit::Seconds,
            Series(ends.collect()),
        );
        let endings = gauge(self.endings.try_into().unwrap_or(i64::MAX));
        registry.register("api_keys_expiring", "API keys that expire within 30 days", endings);
    }
}

fn register_routes<'a>(routes: impl Iterator<Item = &'a RouteMetrics> + Clone, registry: &mut Registry) {
    let ends = routes.clone().flat_map(RouteMetrics::ends).collect();
    registry.register("requests", "Requests by how they ended", Series(ends));
    let reported = routes.clone().flat_map(RouteMetrics::would_refuses).collect();
    registry.register("would_refuse", "Refusals that were only reported, by code", Series(reported));
    let durations = routes.clone().map(|route| (route.labels.clone(), route.duration.clone())).collect();
    registry.register_with_unit(
        "request_duration",
        "Time from a request's head to its end",
        Unit::Seconds,
        Series(durations),
    );
    let durations = routes.map(|route| (route.labels.clone(), route.upstream_duration.clone())).collect();
    registry.register_with_unit(
        "upstream_duration",
        "Time to the upstream's response headers",
        Unit::Seconds,
        Series(durations),
    );
}

fn register_memory(memory: MemoryNumbers, registry: &mut Registry) {
    let bytes = |value: u64| gauge(value.try_into().unwrap_or(i64::MAX));
    let (in_use, limit, refusals) = (bytes(memory.in_use), bytes(memory.limit), counter(memory.refusals));
    let help = "Bytes of bodies that are held or decoded to be checked";
    registry.register_with_unit("body_memory", help, Unit::Bytes, in_use);
    registry.register_with_unit("body_memory_limit", "The limit of these bytes: `limits.memory`", Unit::Bytes, limit);
    let help = "Times that a body did not fit into this limit; its request is refused with 503";
    registry.register("body_memory_refusals", help, refusals);
}

fn register_issuers(issuers: Vec<IssuerNumbers>, registry: &mut Registry) {
    let (mut up, mut keys, mut loaded) = (Vec::new(), Vec::new(), Vec::new());
    // Keys without a name, or with the same one, are counted together.
    let mut tokens: BTreeMap<(String, String), u64> = BTreeMap::new();
    for numbers in issuers {
        let labels = IssuerLabels { issuer: numbers.name };
        up.push((labels.clone(), gauge(numbers.up.into())));
        keys.push((labels.clone(), gauge(numbers.keys.try_into().unwrap_or(i64::MAX))));
        loaded.extend(numbers.loaded.map(|at| (labels.clone(), gauge(at))));
        for (kid, count) in numbers.tokens {
            *tokens.entry((labels.issuer.clone(), kid)).or_default() += count;
        }
    }
    let tokens = tokens.into_iter().map(|((issuer, kid), count)| (KidLabels { issuer, kid }, counter(count)));
    registry.register("issuer_up", "1 when an issuer's keys are loaded and the last fetch succeeded", Series(up));
    registry.register(
        "issuer_keys",
        "Keys of an issuer that are in use; with 0, its callers are refused with 503",
        Series(keys),
    );
    registry.register_with_unit(
        "issuer_keys_loaded_timestamp",
        "When an issuer's keys were last fetched",
        Unit::Seconds,
        Series(loaded),
    );
    registry.register(
        "issuer_tokens",
        "Tokens verified with an issuer's key; cached results are not counted again",
        Series(tokens.collect()),
    );
}

fn register_store(store: StoreNumbers, registry: &mut Registry) {
    let up = vec![(KindLabels { kind: store.kind }, gauge(store.up.into()))];
    let entries = store.entries.into_iter();
    let entries = entries.map(|(kind, count)| (KindLabels { kind }, gauge(count.try_into().unwrap_or(i64::MAX))));
    registry.register("store_up", "1 while this node is in sync with the store", Series(up));
    registry.register(
        "store_entries",
        "Entries in the store, by kind; expired ones count until they are swept",
        Series(entries.collect()),
    );
}

fn counter(value: u64) -> Counter {
    let counter = Counter::default();
    counter.inc_by(value);
    counter
}

fn gauge(value: i64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

/// Formats an error with its sources: "client error (Connect)" alone does not help.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
