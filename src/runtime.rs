//! The state of the process, which outlives policies, and a policy attached to it.
//!
//! A policy is names and numbers. [`InForce::attach`] binds it to the counters, keys and stores of this process, and reuses
//! what the previous policy shares with it. Attaching changes nothing that is in force, so a policy that is then discarded
//! leaves no trace. What belongs only to the previous policy is dropped with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use crate::audit::Trail;
use crate::budget::MemoryBudget;
use crate::policy::{Api, Policy, Route, Server};
use crate::secrets::ages::InputAges;
use crate::secrets::stale::StaleSecrets;
use crate::secrets::vault::Vaults;
use crate::stages::auth::dpop::{Nonces, Replays};
use crate::stages::auth::key_rotation::progress::Progress;
use crate::stages::auth::{Authentication, State};
use crate::stages::rate_limit::Shared;
use crate::state::documents::Documents;
use crate::state::endpoint::{ApiLoad, Endpoints, KnownEndpoints, Resolved};
use crate::state::epoch::Epoch;
use crate::state::ledger::Ledger;
use crate::state::published::Published;
use crate::state::registry::{Registry, StoreConfig};
use crate::state::signing::Signing;
use crate::telemetry::{Metrics, RouteMetrics, ServerMetrics};
use crate::traces::Tracer;

/// The state that outlives policies.
pub(crate) struct Runtime {
    /// The usage of all rate limits.
    pub(crate) ledger: Arc<Ledger>,
    /// The memory of bodies that are held and decoded.
    memory: MemoryBudget,
    /// The metrics of the process.
    pub(crate) metrics: Metrics,
    /// Counts changes of credentials, so that cached tokens are checked again.
    pub(crate) epoch: Epoch,
    /// Used DPoP proofs, to detect replays.
    replays: Arc<Replays>,
    /// Creates and verifies nonces for DPoP proofs.
    nonces: Arc<Nonces>,
    /// The registries in use by any policy: a store on this machine cannot be opened twice.
    registries: Mutex<Vec<Weak<Registry>>>,
    /// The vaults in use, with their logins and the last good values.
    pub(crate) vaults: Vaults,
    /// Since when the inputs of the policy in force have their content.
    pub(crate) ages: Arc<InputAges>,
    /// The API keys that are being made on schedule.
    rotations: Arc<Progress>,
    /// The addresses of upstream servers.
    pub(crate) known_endpoints: Arc<KnownEndpoints>,
}

impl Runtime {
    /// Creates the runtime of a process that started at `started`.
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            ledger: Arc::new(Ledger::new(started)),
            // Nothing is taken from it before a policy sets the limit.
            memory: MemoryBudget::new(0),
            metrics: Metrics::new(),
            epoch: Epoch::default(),
            replays: Arc::new(Replays::new()),
            nonces: Arc::new(Nonces::new()),
            registries: Mutex::default(),
            vaults: Vaults::default(),
            ages: Arc::default(),
            rotations: Arc::default(),
            known_endpoints: Arc::default(),
        }
    }

    /// Returns the registry of a store: the one in use, or a new one that is not open yet.
    pub(crate) fn registry(&self, config: Option<&StoreConfig>) -> Arc<Registry> {
        let mut known = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|registry| registry.strong_count() > 0);
        let mut alive = known.iter().filter_map(Weak::upgrade);
        if let Some(registry) = alive.find(|registry| registry.config() == config) {
            return registry;
        }
        let registry = Arc::new(Registry::new(config.cloned(), self.epoch.clone(), self.ledger.clock()));
        known.push(Arc::downgrade(&registry));
        registry
    }
}

/// A policy attached to the state of this process. A request keeps the one it began with.
pub(crate) struct InForce {
    pub(crate) policy: Policy,
    /// The sinks that audit records are written to.
    pub(crate) trail: Arc<Trail>,
    /// Sends spans; absent: the proxy takes no part in traces.
    pub(crate) tracer: Option<Arc<Tracer>>,
    pub(crate) auth: Authentication,
    /// Signs tokens of the token service; absent: there is none.
    pub(crate) signing: Option<Arc<Signing>>,
    /// What may not go on, because a secret that it needs is stale.
    pub(crate) stale: Arc<StaleSecrets>,
    /// Since when its inputs have their content.
    pub(crate) ages: Arc<InputAges>,
    /// The API keys that are being made on schedule.
    pub(crate) rotations: Arc<Progress>,
    /// The usage of all rate limits.
    pub(crate) ledger: Arc<Ledger>,
    /// What callers have read of this policy.
    pub(crate) documents: Documents,
    /// The memory of bodies that are held and decoded, within the limit of this policy.
    pub(crate) memory: MemoryBudget,
    /// By [`Route::index`].
    routes: Box<[Arc<RouteMetrics>]>,
    /// The metrics of requests without a route.
    unrouted: Arc<RouteMetrics>,
    /// By [`Server::index`]; those of the same name are the same.
    servers: Box<[Arc<ServerMetrics>]>,
    /// Round-robin positions, by [`Api::index`].
    turns: Box<[AtomicUsize]>,
    /// By [`Api::index`]; those of the same name are the same.
    loads: Box<[(Arc<str>, Arc<ApiLoad>)]>,
    /// The addresses of all servers, as they are resolved now.
    pub(crate) endpoints: Arc<Published<Endpoints>>,
    /// The state of these addresses, which outlives policies.
    pub(crate) known_endpoints: Arc<KnownEndpoints>,
}

impl InForce {
    /// Attaches a policy to the runtime. Does not open the registry, and fetches no key set.
    pub(crate) fn attach(policy: Policy, trail: Arc<Trail>, runtime: &Runtime, previous: Option<&Self>) -> Self {
        let stale = Arc::new(StaleSecrets::default());
        let state = State {
            stale: Arc::clone(&stale),
            registry: runtime.registry(policy.store()),
            ledger: Arc::clone(&runtime.ledger),
            epoch: runtime.epoch.clone(),
            replays: Arc::clone(&runtime.replays),
            nonces: Arc::clone(&runtime.nonces),
        };
        let signing = policy.token_service().and_then(|service| service.signing.clone());
        let signing = signing.map(|settings| Arc::new(Signing::new(settings, Arc::clone(&state.registry))));
        let auth = Authentication::bind(Arc::clone(policy.auth()), state, previous.map(|previous| &previous.auth));
        let known = previous.into_iter().flat_map(|previous| &previous.routes);
        let known: HashMap<_, _> = known.map(|metrics| (metrics.route(), metrics)).collect();
        let metrics = |route: &Arc<Route>| {
            let (api, route) = (&**route.api().name(), &**route.name());
            known.get(&(api, route)).map_or_else(|| Arc::new(RouteMetrics::new(api, route)), |known| Arc::clone(known))
        };
        Self {
            trail,
            tracer: None,
            auth,
            signing,
            stale,
            ages: Arc::clone(&runtime.ages),
            rotations: Arc::clone(&runtime.rotations),
            ledger: Arc::clone(&runtime.ledger),
            documents: Documents::default(),
            memory: runtime.memory.limited_to(policy.limits().memory),
            routes: policy.routes().iter().map(metrics).collect(),
            unrouted: previous
                .map_or_else(|| Arc::new(RouteMetrics::new("", "")), |previous| Arc::clone(&previous.unrouted)),
            servers: servers(&policy, previous),
            turns: policy.apis().iter().map(|_| AtomicUsize::new(0)).collect(),
            loads: policy.apis().iter().map(|api| load(api, previous)).collect(),
            endpoints: Arc::new(Published::new(Arc::new(endpoints(&policy, &runtime.known_endpoints, previous)))),
            known_endpoints: Arc::clone(&runtime.known_endpoints),
            policy,
        }
    }

    /// The same, with spans sent by this tracer.
    pub(crate) fn traced(self, tracer: Option<Arc<Tracer>>) -> Self {
        Self { tracer, ..self }
    }

    /// The registry of operators' changes.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        self.auth.registry()
    }

    /// The store that nodes count limits in, if they share one.
    pub(crate) fn shared_limits(&self) -> Option<Shared<'_>> {
        let counters = self.registry().counters()?;
        Some(Shared { counters, settings: self.policy.shared_limits() })
    }

    /// The metrics of a route, or of requests without one.
    pub(crate) fn metrics(&self, route: Option<&Route>) -> &Arc<RouteMetrics> {
        route.and_then(|route| self.routes.get(route.index())).unwrap_or(&self.unrouted)
    }

    /// The metrics of all routes, and of requests without one.
    pub(crate) fn all_metrics(&self) -> impl Iterator<Item = &RouteMetrics> + Clone {
        std::iter::once(&self.unrouted).chain(&self.routes).map(|metrics| &**metrics)
    }

    /// The servers of the policy, with their metrics.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (&Arc<Server>, &Arc<ServerMetrics>)> {
        self.policy.servers().iter().zip(&self.servers)
    }

    /// The metrics of a server of the policy.
    pub(crate) fn server_metrics(&self, server: &Server) -> Option<&Arc<ServerMetrics>> {
        self.servers.get(server.index)
    }

    /// The metrics of all servers; one that several APIs use comes several times.
    pub(crate) fn all_server_metrics(&self) -> impl Iterator<Item = &ServerMetrics> {
        self.servers.iter().map(|metrics| &**metrics)
    }

    /// The next position in the round of an API.
    pub(crate) fn turn(&self, api: &Api) -> usize {
        self.turns.get(api.index()).map_or(0, |turn| turn.fetch_add(1, Ordering::Relaxed))
    }

    /// The load of an API of the policy.
    pub(crate) fn load(&self, api: &Api) -> Option<&Arc<ApiLoad>> {
        self.loads.get(api.index()).map(|(_, load)| load)
    }
}

/// The load of an API: that of the previous policy's with the same name.
fn load(api: &Api, previous: Option<&InForce>) -> (Arc<str>, Arc<ApiLoad>) {
    let mut known = previous.into_iter().flat_map(|previous| &previous.loads);
    let load = known.find(|(name, _)| name == api.name()).map(|(_, load)| Arc::clone(load)).unwrap_or_default();
    (Arc::clone(api.name()), load)
}

/// The addresses of servers that have one without resolving a name, or that the previous policy has resolved.
fn endpoints(policy: &Policy, known: &KnownEndpoints, previous: Option<&InForce>) -> Endpoints {
    let before = previous.map(|previous| previous.endpoints.current());
    let servers = previous.into_iter().flat_map(|previous| previous.policy.servers());
    let servers: HashMap<&Arc<str>, usize> = servers.map(|server| (&server.identity, server.index)).collect();
    let of = |server: &Arc<Server>| {
        if let Some(address) = server.literal() {
            let endpoint = known.endpoint(&server.identity, &server.name, &address);
            return Resolved { endpoints: [endpoint].into(), error: None };
        }
        let same = servers.get(&server.identity).zip(before.as_ref());
        same.and_then(|(index, before)| before.0.get(*index)).cloned().unwrap_or_default()
    };
    Endpoints(policy.servers().iter().map(of).collect())
}

/// Returns the metrics of the servers of a policy: those of the previous policy where it has the same server.
fn servers(policy: &Policy, previous: Option<&InForce>) -> Box<[Arc<ServerMetrics>]> {
    let known = previous.into_iter().flat_map(|previous| &previous.servers);
    let mut known: HashMap<Arc<str>, _> =
        known.map(|metrics| (Arc::clone(metrics.name()), Arc::clone(metrics))).collect();
    let metrics = |server: &Arc<Server>| {
        let metrics = known.entry(Arc::clone(&server.name)).or_insert_with(|| ServerMetrics::new(&server.name));
        Arc::clone(metrics)
    };
    policy.servers().iter().map(metrics).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::compile;
    use crate::state::ledger::{LimitId, Tick};
    use crate::telemetry::{End, Gauges};

    const ONE: &str =
        "apis: { a: { upstream: \"http://127.0.0.1:9\", routes: { GET /x: { public: true, rate: 1/h } } } }";
    const TWO: &str = "plans: { p: { rate: 1/s, classes: { c: 1/h } } }\n\
        consumers: { new: { plan: p } }\n\
        auth: { failed_attempts: 3/h }\n\
        apis: { a: { upstream: \"http://127.0.0.1:9\", routes: { GET /x: { scopes: [s], class: c }, \
        GET /y: { public: true, rate: 1/h } } } }";

    fn policy(text: &str) -> Policy {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        std::fs::write(&path, format!("version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\n{text}\n")).unwrap();
        let (policy, problems) = compile::compile(&path);
        policy.unwrap_or_else(|| panic!("{}", problems.text(false)))
    }

    fn attach(policy: Policy, runtime: &Runtime, previous: Option<&InForce>) -> InForce {
        InForce::attach(policy, Arc::new(Trail::silent()), runtime, previous)
    }

    fn page(runtime: &Runtime, in_force: &InForce) -> String {
        runtime.metrics.page(in_force.all_metrics(), in_force.all_server_metrics(), Gauges::default())
    }

    fn count(in_force: &InForce, route: &str) {
        let route = in_force.policy.routes().iter().find(|known| **known.name() == *route).unwrap();
        in_force.metrics(Some(route)).count(End { index: 0, code: "2xx" }, Duration::from_millis(1), None);
    }

    #[test]
    fn a_discarded_policy_leaves_no_trace() {
        let runtime = Runtime::new(Instant::now());
        let current = attach(policy(ONE), &runtime, None);
        count(&current, "GET /x");
        let account = current.ledger.address([127, 0, 0, 1].into(), current.ledger.tick(Instant::now()));
        account.uses().of(LimitId::plan(), Tick(0)).full_at = 7;
        let before = (page(&runtime, &current), format!("{:?}", runtime.ledger));
        assert!(before.0.contains(r#"route="GET /x""#) && before.1.contains("full_at: 7,"), "{before:?}");

        drop(attach(policy(TWO), &runtime, Some(&current)));
        assert_eq!(before, (page(&runtime, &current), format!("{:?}", runtime.ledger)));
    }

    #[test]
    fn the_next_policy_continues_counting_and_removed_routes_disappear() {
        let runtime = Runtime::new(Instant::now());
        let one = attach(policy(TWO), &runtime, None);
        for route in ["GET /x", "GET /y"] {
            count(&one, route);
        }
        let two = attach(policy(ONE), &runtime, Some(&one));
        count(&two, "GET /x");
        let now = page(&runtime, &two);
        assert!(now.contains(r#"bartizan_requests_total{api="a",route="GET /x",code="2xx"} 2"#), "{now}");
        assert!(!now.contains("GET /y"), "{now}");
        // A request that began before still counts, on a page that nobody sees.
        count(&one, "GET /y");
        assert!(!page(&runtime, &two).contains("GET /y"));
    }
    #[test]
    fn a_server_is_counted_once_for_all_apis_until_no_policy_has_it() {
        // U24: requests and connections by server, with labels from the policy alone.
        const SHARED: &str = "apis: { a: { upstream: \"http://127.0.0.1:9\", routes: { GET /x: { public: true } } }, \
            b: { hosts: [b], upstream: { servers: [\"http://127.0.0.1:9\", \"http://127.0.0.1:10\"] }, \
            routes: { GET /x: { public: true } } } }";
        let runtime = Runtime::new(Instant::now());
        let both = attach(policy(SHARED), &runtime, None);
        for server in both.policy.servers() {
            both.server_metrics(server).unwrap().count(End { index: 0, code: "2xx" });
        }
        let open = both.server_metrics(&both.policy.servers()[0]).unwrap().opens();
        let lines = |in_force: &InForce| {
            let page = page(&runtime, in_force);
            let lines = page.lines().filter(|line| {
                ["bartizan_upstream_requests", "bartizan_upstream_connections"]
                    .iter()
                    .any(|name| line.starts_with(name))
            });
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(&both),
            [
                r#"bartizan_upstream_requests_total{server="http://127.0.0.1:10",code="2xx"} 1"#,
                r#"bartizan_upstream_requests_total{server="http://127.0.0.1:9",code="2xx"} 2"#,
                r#"bartizan_upstream_connections{server="http://127.0.0.1:10"} 0"#,
                r#"bartizan_upstream_connections{server="http://127.0.0.1:9"} 1"#,
            ]
        );
        let one = attach(policy(ONE), &runtime, Some(&both));
        drop(open);
        assert_eq!(
            lines(&one),
            [
                r#"bartizan_upstream_requests_total{server="http://127.0.0.1:9",code="2xx"} 2"#,
                r#"bartizan_upstream_connections{server="http://127.0.0.1:9"} 0"#,
            ]
        );
    }
}
