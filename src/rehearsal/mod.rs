//! Processes requests without sockets, with the code that `run` uses for the head, the route and the chain, and with a given
//! clock. `bartizan explain`, `bartizan test` and the benches share it.
//!
//! Nothing is forwarded or recorded, and only the stages keep state: limits are counted, and verified credentials cached. The
//! policy may be compiled with stand-ins, which a served policy never has.
//!
//! - `request`: a request as its sender writes it; `trace`: its outcome, stage by stage;
//! - `persona`: the caller; `mint` and `proof`: valid credentials for the caller under the rehearsed policy;
//! - `connection`: the bytes of a connection, and of an operator; [`parsers`]: single parsers, for fuzz targets.

mod connection;
pub(crate) mod delivery;
pub(crate) mod mint;
pub mod parsers;
pub(crate) mod persona;
mod proof;
pub(crate) mod request;
pub(crate) mod trace;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use http_body_util::Full;
use jiff::Timestamp;

use self::request::{Moment, ParsedHead, RehearsalRequest};
use self::trace::{CredentialOrigin, RehearsalTrace};
use crate::audit::Trail;
use crate::body::{Counter, Source};
use crate::chain::{self, Admitted, Trace};
use crate::exchange::{Exchange, Peer, Request};
use crate::policy::compile::{self, StandIns};
use crate::policy::cors::{self, Preflight};
use crate::policy::diagnostic::Problems;
use crate::policy::{Policy, Route};
use crate::proxy::request::{mapped_target, path, preflight, target};
use crate::refusal::{Reason, Refusal};
use crate::runtime::{InForce, Runtime};
use crate::stages::auth::cache::TokenCache;
use crate::stages::auth::locations::CredentialLocations;
use crate::stages::rate_limit::{Now, Subject, usage};
use crate::state::registry::entry::{Change, Entry, Revocation};
use crate::state::registry::revocation_key::RevocationTarget;

/// How long to wait for keys that have to be fetched: as long as the daemon does when it starts.
const FIRST_FETCH: Duration = Duration::from_secs(3);
/// The host of a request that names none.
const HOST: &str = "localhost";

/// A policy that requests can be tested against.
pub struct Rehearsal {
    in_force: InForce,
    runtime: Runtime,
    tokens: TokenCache,
    /// The start of its clocks.
    begun: Instant,
}

/// How a request ended: the refusal's status and code, or `None` when it would have been forwarded.
pub type Verdict = Option<(u16, &'static str)>;

fn verdict(refusal: &Refusal) -> (u16, &'static str) {
    (refusal.reason().status().as_u16(), refusal.reason().code())
}

/// No stand-ins: only the store is left out.
struct NoStandIns;

impl StandIns for NoStandIns {}

impl Rehearsal {
    /// Compiles a policy file. The error is the text that `bartizan check` prints.
    ///
    /// # Errors
    /// When the policy has errors.
    pub fn new(policy: &Path) -> Result<Self, String> {
        Self::without_stand_ins(policy).map_err(|problems| problems.text(false))
    }

    /// Compiles a policy file for callers with real credentials.
    pub(crate) fn without_stand_ins(policy: &Path) -> Result<Self, Problems> {
        Self::with(policy, &NoStandIns)
    }

    /// Compiles a policy file with stand-ins for issuers, endpoints and keys.
    pub(crate) fn with(policy: &Path, stand_ins: &dyn StandIns) -> Result<Self, Problems> {
        let begun = Instant::now();
        let runtime = Runtime::new(begun);
        let (policy, problems) = compile::rehearsed(policy, stand_ins);
        let policy = policy.ok_or(problems)?;
        let in_force = InForce::attach(policy, Arc::new(Trail::silent()), &runtime, None);
        Ok(Self { in_force, tokens: TokenCache::new(runtime.epoch.clone()), runtime, begun })
    }

    /// The rehearsed policy.
    pub(crate) fn policy(&self) -> &Policy {
        &self.in_force.policy
    }

    /// The names of all routes, as they are written: `METHOD /path`.
    pub fn routes(&self) -> impl Iterator<Item = &str> {
        self.policy().routes().iter().map(|route| &**route.name())
    }

    /// The policy, with the state that this rehearsal keeps.
    pub(crate) fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Forgets all verified tokens.
    pub fn forget_tokens(&mut self) {
        self.tokens = TokenCache::new(self.runtime.epoch.clone());
    }

    /// Resets the state: forgets verified tokens and the usage of all limits.
    pub(crate) fn forget(&mut self) {
        self.forget_tokens();
        self.runtime.ledger.forget();
    }

    /// Adds this many revocations, by token ids that no caller uses.
    pub fn revoke_others(&self, count: usize) {
        let registry = self.in_force.registry();
        for number in 0..count {
            registry.learn(Change::Put(Entry::Revocation(Revocation {
                target: RevocationTarget::Jti(format!("revoked-{number}").into()),
                issued_before: None,
                expires: None,
                reason: None,
                created: jiff::Timestamp::UNIX_EPOCH,
                created_by: "rehearsal".into(),
            })));
        }
    }

    /// Fetches the key sets that have URLs, with the timeout of a start, for requests at this time. Needs a tokio runtime.
    pub(crate) async fn fetch_keys(&self, at: Timestamp) {
        let key_sets = self.in_force.auth.key_sets();
        for key_set in key_sets {
            let kept = Arc::clone(key_set);
            tokio::spawn(async move { kept.keep_fresh().await });
        }
        let first = async {
            for key_set in key_sets {
                key_set.first_fetch().await;
            }
        };
        // Tokens of an issuer whose keys are missing are refused, as they would be by the daemon.
        let _ = tokio::time::timeout(FIRST_FETCH, first).await;
        key_sets.iter().for_each(|key_set| key_set.as_of(at));
    }

    /// Passes one request through route, auth, scope, rate limit and schema. Needs a tokio runtime with time.
    pub async fn request(&self, method: &Method, target: &str, headers: &HeaderMap, body: Bytes) -> Verdict {
        let peer = Peer::new(([127, 0, 0, 1], 1).into(), None);
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let exchange = Exchange::open(&peer, method, Version::HTTP_11, path, headers);
        let route = match self.policy().route("", method, path, query) {
            Ok(route) => route,
            Err(refusal) => return Some(verdict(&refusal)),
        };
        let tick = self.runtime.ledger.tick(exchange.decided());
        let request = Request {
            exchange: &exchange,
            certificate: None,
            headers,
            scheme: "http",
            authority: "",
            received_path: path,
            received_query: query,
            query,
            tick,
        };
        self.admit(route, &request, body, &mut Trace::default()).await.err().as_ref().map(verdict)
    }

    /// Processes one request completely, beginning with its head.
    pub(crate) async fn trace(&self, request: RehearsalRequest, moment: Moment) -> RehearsalTrace {
        let mut trace =
            RehearsalTrace::of(&request.method, &without_key(&self.policy().auth().locations, &request.target));
        trace.end = self.process(request, moment, &mut trace).await;
        trace
    }

    async fn process(
        &self,
        mut request: RehearsalRequest,
        moment: Moment,
        trace: &mut RehearsalTrace,
    ) -> Result<(), Refusal> {
        let head = request.read(self.policy().limits())?;
        let peer = request.peer(self.policy());
        self.decide(&head, request.body, &peer, moment, trace).await
    }

    /// Decides about a request whose head has been parsed.
    async fn decide(
        &self,
        head: &ParsedHead,
        body: Bytes,
        peer: &Peer,
        moment: Moment,
        trace: &mut RehearsalTrace,
    ) -> Result<(), Refusal> {
        let exchange = Exchange::open(peer, &head.method, head.version, &head.uri, &head.headers);
        let mut exchange = exchange.dated(moment.at, self.begun + moment.since);
        let arrived = target::read(&mut exchange, &head.uri, &head.headers, peer, self.policy());
        (*exchange.path).clone_into(&mut trace.path);
        exchange.host.clone_into(&mut trace.host);
        let mut target = arrived?;
        trace.target = without_key(&self.policy().auth().locations, &target.target);
        trace.arrived = true;
        if target.ends_here {
            return Ok(());
        }

        trace.page = cors::origin(&head.headers).cloned();
        if let Some(preflight) = Preflight::of(&head.method, &head.headers)
            && let Some(route) = preflight::route(self.policy(), &preflight, &exchange, head.uri.query())
            && let Some(cors) = route.api().cors()
        {
            let (about, counting) = ((&exchange, &*self.runtime.ledger), &mut trace.chain.counting);
            trace.preflight = Some(preflight.method.clone());
            trace.route = Some(Arc::clone(&route));
            return preflight::permit(cors, &preflight, &head.headers, about, counting).await.map(drop);
        }
        let route = self.policy().route(&exchange.host, &head.method, &exchange.path, head.uri.query())?;
        trace.route = Some(Arc::clone(route));
        trace.target = without_key(route.api().credentials(), &target.target);
        target.take_key(route.api(), head.uri.query());
        mapped_target::map(route, &mut target.target)?;
        trace.mapped = Some(without_key(route.api().credentials(), &target.target));
        let tick = self.runtime.ledger.tick(exchange.decided());
        let asked = target.request(&exchange, peer, &head.uri, &head.headers, tick);
        let admitted = self.admit(route, &asked, body, &mut trace.chain).await;
        let subject = match trace.chain.caller.as_deref() {
            Some(caller) => Subject::Consumer(caller.plan(), caller.account(), caller.user_account()),
            None => Subject::Address(asked.client()),
        };
        trace.limits = usage::left(&route.limits, &subject, &self.runtime.ledger, Now::of(&asked));
        trace.sent_as = self.policy().auth().locations.kind_of(&asked);
        trace.origin = CredentialOrigin::of(self.policy(), &asked, trace.chain.caller.as_deref());
        admitted.map(drop)
    }

    /// Passes a request through the chain that `run` uses.
    async fn admit(
        &self,
        route: &Route,
        request: &Request<'_>,
        body: Bytes,
        trace: &mut Trace,
    ) -> Result<Admitted, Refusal> {
        let body = Source::Given(Full::new(body));
        chain::admit(&self.in_force, route, &self.tokens, request, body, &Counter::default(), trace).await
    }

    /// Returns a host for which the policy has this route, or at least this path.
    pub(crate) fn likely_host(&self, method: &str, target: &str) -> String {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let slashes = path::EncodedSlashes::of(self.policy().keeps_encoded_slashes());
        let path = path::normalise(path, slashes).unwrap_or(path.into());
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        let apis = self.policy().apis().iter();
        // Any label does for a wildcard.
        let named = apis.flat_map(|api| api.hosts().iter().map(|host| host.replacen('*', "any", 1)));
        let has = |host: &String, other_methods: bool| match self.policy().route(host, &method, &path, query) {
            Ok(_) => true,
            Err(refusal) => other_methods && refusal.reason() == Reason::MethodNotAllowed,
        };
        let mut hosts = [HOST.to_owned()].into_iter().chain(named);
        let exact = hosts.clone().find(|host| has(host, false));
        exact.or_else(|| hosts.find(|host| has(host, true))).unwrap_or_else(|| HOST.to_owned())
    }
}

/// A target without the API key that its query may have, to be shown.
fn without_key(locations: &CredentialLocations, target: &str) -> String {
    let query = target.split_once('?').map(|(_, query)| query);
    let rest = locations.query_without_key(query);
    rest.map_or_else(|| target.to_owned(), |rest| target::with_query(target, &rest))
}
