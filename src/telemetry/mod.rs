//! The names of all metrics. Nothing here decides, and no other module of this crate is imported.
//!
//! Names follow Prometheus' rules: base units, `_total` for counters. Labels come from the policy, never from a
//! request, so clients cannot increase their number. Two come from elsewhere, and both are bounded: `kid`, published by
//! an issuer that the policy trusts, and the ids of keys and consumers that operators created. The hot path uses the
//! metrics of a route directly ([`RouteMetrics`]). Every scrape renders the policy in force, so series of removed routes
//! disappear, and a route has series from its first request on.

mod durations;
mod ends;
mod gauges;
mod series;
mod upstream;

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::durations::Durations;
use self::ends::Ends;
pub(crate) use self::ends::{ENDS, End};
use self::gauges::register_process;
pub(crate) use self::gauges::{
    AuditNumbers, CertificateNumbers, Gauges, InputNumbers, IssuerNumbers, KeyNumbers, MemoryNumbers, ProcessNumbers,
    RotationNumbers, SecretNumbers, SharedLimitNumbers, SinkNumbers, StoreNumbers, VaultNumbers,
};
use self::series::{Series, counter};
use self::upstream::register_servers;
pub(crate) use self::upstream::{AddressNumbers, OpenConnection, ServerMetrics};
use crate::error_text::without_codes;

/// The outcome of a reload that changed nothing because of an error.
const FAILED: &str = "failed";

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

/// Labels of refusals by a limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    plan: String,
    limit: String,
}

/// An `event.action`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
}

/// A `code` alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

/// What became of spans. Clones are handles to the same numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpanCounters {
    /// Spans that the collector took.
    pub(crate) exported: Counter,
    /// Spans that found no place in the queue, or that the collector did not take.
    pub(crate) dropped: Counter,
}

/// All metrics of this process. Clones are handles to the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    reloads: Family<CodeLabels, Counter>,
    last_reload_successful: Gauge,
    admin_refusals: Family<CodeLabels, Counter>,
    limit_refusals: Family<LimitLabels, Counter>,
    alerts: Family<ActionLabels, Counter>,
    /// Open client connections.
    pub(crate) connections: Gauge,
    /// Requests being processed, responses included.
    pub(crate) requests_in_flight: Gauge,
    /// WebSockets that are open.
    pub(crate) websockets: Gauge,
    /// Connections refused because their address had too many.
    pub(crate) connections_refused: Counter,
    /// When the policy in force was loaded, in seconds since 1970.
    pub(crate) policy_loaded: Gauge<f64, AtomicU64>,
    /// What became of spans.
    pub(crate) spans: SpanCounters,
}

/// The metrics of one route. They outlive policies: the next policy with this route continues counting.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    labels: RouteLabels,
    ends: Ends,
    /// Refusals that were only reported, by code.
    would_refuse: Mutex<Vec<(&'static str, u64)>>,
    duration: Durations,
    /// Created with the first response.
    upstream_duration: OnceLock<Durations>,
}

impl RouteMetrics {
    /// Returns metrics that are all zero. Both names are empty for requests that match no route.
    pub(crate) fn new(api: &str, route: &str) -> Self {
        Self {
            labels: RouteLabels { api: api.to_owned(), route: route.to_owned() },
            ends: Ends::new(),
            would_refuse: Mutex::default(),
            duration: Durations::new(),
            upstream_duration: OnceLock::new(),
        }
    }

    /// The names of its API and of the route itself.
    pub(crate) fn route(&self) -> (&str, &str) {
        (&self.labels.api, &self.labels.route)
    }

    /// Counts one request. Durations: from its head to its end, and until the upstream's response headers.
    pub(crate) fn count(&self, end: End, duration: Duration, upstream: Option<Duration>) {
        self.ends.count(end);
        self.duration.observe(duration);
        if let Some(upstream) = upstream {
            self.upstream_duration.get_or_init(Durations::new).observe(upstream);
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

    /// Whether a request has been counted: until then the route has no series.
    fn is_used(&self) -> bool {
        self.ends.is_used()
    }

    fn ends(&self) -> Vec<(EndLabels, Counter)> {
        self.ends.counts().map(|(code, count)| (self.end(code), counter(count))).collect()
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

impl Metrics {
    /// Returns metrics that are all zero.
    pub(crate) fn new() -> Self {
        let reloads = Family::default();
        // A series that begins with the first failure would hide it from `increase()`.
        for code in ["loaded", "unchanged", FAILED] {
            drop(reloads.get_or_create(&CodeLabels { code }));
        }
        let last_reload_successful = Gauge::default();
        last_reload_successful.set(1);
        Self {
            reloads,
            last_reload_successful,
            admin_refusals: Family::default(),
            limit_refusals: Family::default(),
            alerts: Family::default(),
            connections: Gauge::default(),
            requests_in_flight: Gauge::default(),
            websockets: Gauge::default(),
            connections_refused: Counter::default(),
            policy_loaded: Gauge::default(),
            spans: SpanCounters::default(),
        }
    }

    /// Counts a reload: `loaded`, `unchanged` or `failed`.
    pub(crate) fn reload(&self, code: &'static str) {
        self.reloads.get_or_create(&CodeLabels { code }).inc();
        self.last_reload_successful.set((code != FAILED).into());
    }

    /// Counts an operator's request that was refused for its token, by the refusal's code.
    pub(crate) fn admin_refusal(&self, code: &'static str) {
        self.admin_refusals.get_or_create(&CodeLabels { code }).inc();
    }

    /// Counts a request that a limit of a plan has refused, or would have. The plan is empty for the rate of a public route.
    pub(crate) fn limit_refusal(&self, plan: &str, limit: &str) {
        let labels = LimitLabels { plan: plan.to_owned(), limit: limit.to_owned() };
        self.limit_refusals.get_or_create(&labels).inc();
    }

    /// Makes the series of an alert, at zero.
    pub(crate) fn expect_alert(&self, action: &'static str) {
        drop(self.alerts.get_or_create(&ActionLabels { action }));
    }

    /// Counts an alert of the record.
    pub(crate) fn alert(&self, action: &'static str) {
        self.alerts.get_or_create(&ActionLabels { action }).inc();
    }

    /// Renders all metrics in the OpenMetrics text format: those of the routes and servers in force, and gauges collected
    /// elsewhere.
    pub(crate) fn page<'a>(
        &self,
        routes: impl Iterator<Item = &'a RouteMetrics> + Clone,
        servers: impl Iterator<Item = &'a ServerMetrics>,
        gauges: Gauges,
    ) -> String {
        let mut registry = Registry::with_prefix("bartizan");
        register_routes(routes, &mut registry);
        register_servers(servers, &mut registry);
        registry.register("policy_reloads", "Reloads of the policy, by outcome", self.reloads.clone());
        registry.register(
            "policy_last_reload_successful",
            "0 while the last reload has failed, so that an older policy is in force; 1 from the start on",
            self.last_reload_successful.clone(),
        );
        let help = "Requests to the admin listener that were refused for their token, by code";
        registry.register("admin_refusals", help, self.admin_refusals.clone());
        let help = "Requests that a limit refused, or would have in report mode, by plan and limit";
        registry.register("limit_refusals", help, self.limit_refusals.clone());
        let help = "Alerts in the record, by action";
        registry.register("alerts", help, self.alerts.clone());
        let help = "Spans of traces that the collector took";
        registry.register("trace_spans_exported", help, self.spans.exported.clone());
        let help = "Spans of traces that were dropped: the queue was full, or the collector did not take them";
        registry.register("trace_spans_dropped", help, self.spans.dropped.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this program", build);
        registry.register("connections", "Open client connections", self.connections.clone());
        let in_flight = self.requests_in_flight.clone();
        registry.register("websockets", "WebSockets that are open", self.websockets.clone());
        registry.register("requests_in_flight", "Requests being processed, until their response was sent", in_flight);
        registry.register(
            "connections_refused",
            "Connections closed because their address had too many, or because of the PROXY protocol: no valid header, no trusted proxy",
            self.connections_refused.clone(),
        );
        registry.register_with_unit(
            "policy_loaded_timestamp",
            "When the policy in force was loaded",
            Unit::Seconds,
            self.policy_loaded.clone(),
        );
        // These have the same names in every program.
        let mut process = Registry::with_prefix("process");
        register_process(gauges.process, &mut process);
        gauges.register(&mut registry);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode_registry(&mut text, &registry);
        let _ = encode_registry(&mut text, &process);
        let _ = encode_eof(&mut text);
        text
    }
}

fn register_routes<'a>(routes: impl Iterator<Item = &'a RouteMetrics> + Clone, registry: &mut Registry) {
    let ends = routes.clone().flat_map(RouteMetrics::ends).collect();
    registry.register("requests", "Requests by how they ended", Series(ends));
    let reported = routes.clone().flat_map(RouteMetrics::would_refuses).collect();
    registry.register("would_refuse", "Refusals that were only reported, by code", Series(reported));
    let used = routes.clone().filter(|route| route.is_used());
    let durations = used.map(|route| (route.labels.clone(), route.duration.counts())).collect();
    registry.register_with_unit(
        "request_duration",
        "Time from a request's head to its end",
        Unit::Seconds,
        Series(durations),
    );
    let durations = routes.filter_map(|route| Some((route.labels.clone(), route.upstream_duration.get()?.counts())));
    let durations = durations.collect();
    registry.register_with_unit(
        "upstream_duration",
        "Time to the upstream's response headers",
        Unit::Seconds,
        Series(durations),
    );
}

/// Formats an error with its sources, without codes of the system: "client error (Connect)" alone does not help.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    without_codes(&text)
}

#[cfg(test)]
mod tests {
    use super::durations::BOUNDS;
    use super::*;

    #[test]
    fn a_route_has_series_from_its_first_request_on() {
        // U16: a policy with thousands of routes must not fill the page, and the store behind it, with zeros.
        let routes: Vec<_> = (0..2000).map(|number| RouteMetrics::new("api", &format!("GET /{number}"))).collect();
        let lines = |page: &str| page.lines().filter(|line| line.contains("route=")).count();
        let page = || Metrics::new().page(routes.iter(), std::iter::empty(), Gauges::default());
        assert_eq!(lines(&page()), 0);
        let refused = End { index: 0, code: "no_route" };
        routes[7].count(refused, Duration::ZERO, None);
        let one_histogram = BOUNDS.len() + 3;
        assert_eq!(lines(&page()), 1 + one_histogram, "{}", page());
        routes[7].count(refused, Duration::ZERO, Some(Duration::ZERO));
        assert_eq!(lines(&page()), 1 + 2 * one_histogram);
        assert!(!page().contains("GET /8\""));
    }

    #[test]
    fn the_page_grows_with_the_routes_that_are_called_and_no_further() {
        // U16: one call of each of 2,000 routes, then many more calls, all of which end in the same way.
        let routes: Vec<_> = (0..2000).map(|number| RouteMetrics::new("api", &format!("GET /{number}"))).collect();
        let call = |times| {
            for route in routes.iter().flat_map(|route| std::iter::repeat_n(route, times)) {
                route.count(End { index: 1, code: "2xx" }, Duration::ZERO, Some(Duration::ZERO));
            }
            Metrics::new().page(routes.iter(), std::iter::empty(), Gauges::default())
        };
        let (once, often) = (call(1), call(9));
        let lines = once.lines().filter(|line| line.contains("route=")).count();
        assert_eq!(lines, routes.len() * (1 + 2 * (BOUNDS.len() + 3)));
        assert_eq!(often.lines().count(), once.lines().count());
        assert!(once.len() < routes.len() * 4000, "{} bytes", once.len());
    }
}
