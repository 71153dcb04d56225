//! The way of a request without sockets: through the very code that `run` has for its head, its route and the chain, with a
//! clock that is given. `bartizan explain`, `bartizan test` and the benches share it.
//!
//! Nothing is forwarded, nothing recorded, and nothing is kept but what the stages keep: limits are counted, verified
//! credentials remembered. A policy is compiled for it with stand-ins, which nothing that is served ever has.
//!
//! - `question`: a request as its sender writes it; `walk`: what came of it, stage by stage;
//! - `persona`: who asks; `mint` and `proof`: credentials of theirs that are good for the policy as it is rehearsed.

pub(crate) mod mint;
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

use self::request::{Moment, RehearsalRequest};
use self::trace::{RehearsalTrace, Vouched};
use crate::audit::Trail;
use crate::body::{Counter, Source};
use crate::chain::{self, Admitted, Trace};
use crate::exchange::{Exchange, Peer, Request};
use crate::policy::compile::{self, StandIns};
use crate::policy::diagnostic::Problems;
use crate::policy::{Policy, Route};
use crate::proxy::request::{path, target};
use crate::refusal::{Reason, Refusal};
use crate::runtime::{InForce, Runtime};
use crate::stages::auth::cache::TokenCache;
use crate::state::registry::entry::{Change, Entry, Revocation};
use crate::state::registry::revocation_key::Target;

/// How long keys are waited for that have to be fetched: as long as a daemon does when it starts.
const FIRST_FETCH: Duration = Duration::from_secs(3);
/// The host of a request that names none.
const HOST: &str = "localhost";

/// A policy that requests can be walked through.
pub struct Rehearsal {
    in_force: InForce,
    runtime: Runtime,
    tokens: TokenCache,
    /// Where all clocks of it begin.
    begun: Instant,
}

/// How a request ended: the refusal's status and code, or `None` when it would have been forwarded.
pub type Verdict = Option<(u16, &'static str)>;

/// The world as it is, but for the store.
struct AsItIs;

impl StandIns for AsItIs {}

impl Rehearsal {
    /// Compiles a policy file. The error is the text that `bartizan check` prints.
    ///
    /// # Errors
    /// When the policy has errors.
    pub fn new(policy: &Path) -> Result<Self, String> {
        Self::as_it_is(policy).map_err(|problems| problems.text(false))
    }

    /// Compiles a policy file whose callers bring credentials of the world outside.
    pub(crate) fn as_it_is(policy: &Path) -> Result<Self, Problems> {
        Self::with(policy, &AsItIs)
    }

    /// Compiles a policy file, and lets these stand in for the world outside.
    pub(crate) fn with(policy: &Path, stand_ins: &dyn StandIns) -> Result<Self, Problems> {
        let begun = Instant::now();
        let runtime = Runtime::new(begun);
        let (policy, problems) = compile::rehearsed(policy, stand_ins);
        let policy = policy.ok_or(problems)?;
        let in_force = InForce::attach(policy, Arc::new(Trail::silent()), &runtime, None);
        Ok(Self { in_force, tokens: TokenCache::new(runtime.epoch.clone()), runtime, begun })
    }

    /// What is rehearsed.
    pub(crate) fn policy(&self) -> &Policy {
        &self.in_force.policy
    }

    /// The policy, with the state that this rehearsal keeps.
    pub(crate) fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Forgets all verified tokens.
    pub fn forget_tokens(&mut self) {
        self.tokens = TokenCache::new(self.runtime.epoch.clone());
    }

    /// Begins anew: nobody is known, and nobody has used anything of a limit.
    pub(crate) fn forget(&mut self) {
        self.forget_tokens();
        self.runtime.ledger.forget();
    }

    /// Revokes so many tokens that nobody has, by their ids.
    pub fn revoke_others(&self, count: usize) {
        let registry = self.in_force.registry();
        for number in 0..count {
            registry.learn(Change::Put(Entry::Revocation(Revocation {
                target: Target::Jti(format!("revoked-{number}").into()),
                issued_before: None,
                expires: None,
                reason: None,
                created: jiff::Timestamp::UNIX_EPOCH,
                created_by: "rehearsal".into(),
            })));
        }
    }

    /// Fetches the key sets that are behind URLs, within the time that a start allows, for requests at this time. Within a
    /// tokio runtime.
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
        // What is not there in time is refused with its reason, as a daemon would.
        let _ = tokio::time::timeout(FIRST_FETCH, first).await;
        key_sets.iter().for_each(|key_set| key_set.as_of(at));
    }

    /// Walks one request through route, auth, scope, rate limit and schema. Bodies are read within a tokio runtime that
    /// has time.
    pub async fn ask(&self, method: &Method, target: &str, headers: &HeaderMap, body: Bytes) -> Verdict {
        let peer = Peer::new(([127, 0, 0, 1], 1).into(), None);
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let exchange = Exchange::open(&peer, method, Version::HTTP_11, path, headers);
        let verdict = |refusal: Refusal| (refusal.reason().status().as_u16(), refusal.reason().code());
        let route = match self.policy().route("", method, path) {
            Ok(route) => route,
            Err(refusal) => return Some(verdict(refusal)),
        };
        let tick = self.runtime.ledger.tick(exchange.begun);
        let request = Request {
            exchange: &exchange,
            peer: &peer,
            headers,
            scheme: "http",
            authority: "",
            received_path: path,
            query,
            tick,
        };
        self.admit(route, &request, body, &mut Trace::default()).await.err().map(verdict)
    }

    /// Walks one request the whole way, from its head on.
    pub(crate) async fn walk(&self, question: RehearsalRequest, moment: Moment) -> RehearsalTrace {
        let mut walk = RehearsalTrace::of(&question);
        let end = self.pass(question, moment, &mut walk).await;
        walk.end = end;
        walk
    }

    async fn pass(
        &self,
        mut question: RehearsalRequest,
        moment: Moment,
        walk: &mut RehearsalTrace,
    ) -> Result<(), Refusal> {
        let request = question.read(self.policy().limits())?;
        let peer = question.peer(self.policy());
        let exchange = Exchange::open(&peer, &request.method, Version::HTTP_11, &request.uri, &request.headers);
        let mut exchange = exchange.dated(moment.at, self.begun + moment.since);
        let trusted = self.policy().trusted_proxies();
        let arrived = target::read(&mut exchange, &request.uri, &request.headers, &peer, trusted);
        (*exchange.path).clone_into(&mut walk.path);
        exchange.host.clone_into(&mut walk.host);
        let target = arrived?;
        target.target.as_ref().clone_into(&mut walk.target);
        walk.arrived = true;

        let route = self.policy().route(&exchange.host, &request.method, &exchange.path)?;
        walk.route = Some(Arc::clone(route));
        let tick = self.runtime.ledger.tick(exchange.begun);
        let asked = target.request(&exchange, &peer, &request.uri, &request.headers, tick);
        let admitted = self.admit(route, &asked, question.body, &mut walk.trace).await;
        walk.vouched = Vouched::of(self.policy(), &request.headers, &peer, walk.trace.caller.as_deref());
        admitted.map(drop)
    }

    /// Takes a request through the chain that `run` uses.
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

    /// A host that the policy has this route for, or at least this path; of several, one that any API answers to.
    pub(crate) fn likely_host(&self, method: &str, target: &str) -> &str {
        let path = target.split('?').next().unwrap_or_default();
        let path = path::normalise(path).unwrap_or(path.into());
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        let named = self.policy().apis().iter().flat_map(|api| api.hosts().iter().map(|host| &**host));
        let has = |host: &&str, other_methods: bool| match self.policy().route(host, &method, &path) {
            Ok(_) => true,
            Err(refusal) => other_methods && refusal.reason() == Reason::MethodNotAllowed,
        };
        let mut hosts = [HOST].into_iter().chain(named);
        let exact = hosts.clone().find(|host| has(host, false));
        exact.or_else(|| hosts.find(|host| has(host, true))).unwrap_or(HOST)
    }
}
