//! Writes the one audit record of a request, however the request ends.
//!
//! The guard moves with the request, from the handler into the body of the response. The request ends where the guard
//! is dropped, also when the client disconnects midway. Its `Drop` is the only place where the records and metrics of
//! requests are made.

mod alerts;
mod changes;
mod kept_policy;
mod view;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode, Version};

use self::kept_policy::KeptPolicy;
use super::permission::{Credentials, Permission};
use crate::audit::{
    CLIENT_DISCONNECTED, CLIENT_STALLED, CredentialFacts, LimitFacts, Outcome, REQUEST, Record, UpstreamFields,
    WEBSOCKET_OPENED,
};
use crate::body::Counter;
use crate::chain::Trace;
use crate::exchange::{Exchange, RequestId, is_tracestate};
use crate::in_box::in_box;
use crate::policy::upstream::Protocol;
use crate::policy::{Api, Route, Server};
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::worker::Worker;
use crate::proxy::headers::{ResponseFields, TRACESTATE, UpstreamTrace, strip_grpc_trailers, strip_trailers};
use crate::proxy::upstream::Interims;
use crate::refusal::{Reason, Refusal, Violation};
use crate::stages::auth::Caller;
use crate::telemetry::{ENDS, End};
use crate::traces::{FinishedRequest, UpstreamCall, bounded, known_method};

/// Status classes, as metrics label them.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Ends beside refusals and status classes: the client disconnected, or was disconnected because it stalls.
const GONE: usize = 2;

const _: () = assert!(Reason::ALL.len() + CLASSES.len() + GONE <= ENDS, "there are more ends than metrics can count");

/// The state of a request, which determines its outcome when the guard is dropped.
enum State {
    /// Not ended. If the guard is dropped in this state, the client has disconnected or stalled.
    Open,
    /// Refused, or interrupted for this reason.
    Refused(Refusal),
    /// A response that is no refusal is being sent to the client.
    Responding,
    /// It was sent whole.
    Completed,
}

/// The call to an upstream server.
struct Upstream {
    server: Arc<Server>,
    /// Until the headers of its response.
    duration: Option<Duration>,
    status: Option<StatusCode>,
    /// When it began, after the request; only if it is sampled.
    after: Duration,
    /// How many there were, with this one.
    attempts: u32,
}

/// Collects what the record of one request needs, and writes it when dropped.
pub(crate) struct RecordGuard {
    worker: Rc<Worker>,
    client: Rc<ClientConnection>,
    /// The policy in force for this request, unaffected by a reload meanwhile.
    policy: KeptPolicy,
    /// The facts of the request.
    pub(crate) exchange: Exchange,
    /// Counts the bytes received of its body.
    pub(crate) counter: Counter,
    /// The route, once found.
    pub(crate) route: Option<Arc<Route>>,
    /// It is a call of gRPC.
    pub(super) is_grpc: bool,
    /// So is the response.
    pub(super) answers_grpc: bool,
    /// The path for the upstream, if it is another one.
    pub(super) mapped_path: Option<Box<str>>,
    /// The origin of the page that sent the request from a browser.
    pub(super) origin: Option<HeaderValue>,
    /// What the chain found.
    pub(crate) trace: Trace,
    /// It waited until the record can keep up, so its own record is never dropped.
    admitted: bool,
    upstream: Option<Upstream>,
    /// Whether its spans are exported; absent until that is decided, or if nobody's are.
    sampled: Option<bool>,
    /// `http` or `https`, as far as known.
    scheme: &'static str,
    status: Option<StatusCode>,
    sent: u64,
    /// The client took too little of the response on its HTTP/2 stream.
    stalled: bool,
    /// It is an open WebSocket.
    is_open: bool,
    /// Bytes received as a WebSocket.
    tunnelled: u64,
    /// How the WebSocket ended.
    over: Option<&'static str>,
    state: State,
}

impl RecordGuard {
    /// Creates the guard. The caller has called `begin` of `client`; the guard calls `end` when dropped.
    pub(crate) fn new(
        worker: &Rc<Worker>,
        client: &Rc<ClientConnection>,
        open: impl FnOnce() -> Exchange,
    ) -> Box<Self> {
        worker.shared.metrics.requests_in_flight.inc();
        in_box(|| Self {
            worker: Rc::clone(worker),
            client: Rc::clone(client),
            policy: KeptPolicy::Whole(worker.view()),
            exchange: open(),
            counter: Counter::default(),
            route: None,
            is_grpc: false,
            answers_grpc: false,
            mapped_path: None,
            origin: None,
            trace: Trace::default(),
            admitted: false,
            upstream: None,
            sampled: None,
            scheme: client.peer.scheme(),
            status: None,
            sent: 0,
            stalled: false,
            is_open: false,
            tunnelled: 0,
            over: None,
            state: State::Open,
        })
    }

    /// The permission of the request, to be watched while it goes on.
    pub(super) fn permission(&self, credentials: Credentials) -> Box<Permission> {
        Box::new(Permission {
            worker: Rc::clone(&self.worker),
            client: Rc::clone(&self.client),
            exchange: self.exchange.clone(),
            scheme: self.scheme,
            credentials,
            is_websocket: self.is_open,
        })
    }

    /// Records that it has become a WebSocket. When that ends, the request is recorded as every other.
    pub(in crate::proxy) fn opened(&mut self) {
        self.worker.shared.metrics.websockets.inc();
        self.is_open = true;
        self.record(WEBSOCKET_OPENED, self.exchange.begun.elapsed());
        self.release_policy();
    }

    /// Records how many bytes a WebSocket has sent, and received.
    pub(super) fn tunnelled(&mut self, received: u64, sent: u64) {
        (self.tunnelled, self.sent) = (received, sent);
    }

    /// Records how a WebSocket ended that nobody refuses.
    pub(in crate::proxy) fn over(&mut self, word: &'static str) {
        self.over = Some(word);
    }

    /// The API that the request is for; without a route, the only one that serves its host.
    fn api(&self) -> Option<&Api> {
        match &self.route {
            Some(route) => Some(route.api()),
            None => self.policy.only_api_of(&self.exchange.host),
        }
    }

    /// Changes the fields of a response as the API says. Those of a response that is not the upstream's stay.
    pub(super) fn finish(&self, fields: &mut ResponseFields, is_upstreams: bool) {
        let Some(api) = self.api() else { return };
        if is_upstreams {
            fields.change(api.response_headers());
        } else {
            fields.set_all(api.response_headers());
        }
        if let Some(cors) = api.cors() {
            fields.set_cors(cors.response_fields(self.origin.as_ref()));
        }
    }

    /// Waits until the record can keep up. Await it before any work is done for the request. Returns false if the request is to
    /// be refused, because its record could not be kept.
    pub(super) async fn admit(&mut self) -> bool {
        if self.worker.recorder.is_ready() {
            self.admitted = true;
            return true;
        }
        self.admitted = self.worker.recorder.ready().await;
        // Other requests of the caller were counted meanwhile, at later times.
        self.exchange.waited();
        self.admitted
    }

    /// Records that the request was sent to a server.
    pub(crate) fn sent_to(&mut self, server: &Arc<Server>, attempt: u32) {
        let after = if self.sampled == Some(true) { self.exchange.begun.elapsed() } else { Duration::ZERO };
        self.upstream =
            Some(Upstream { server: Arc::clone(server), duration: None, status: None, after, attempts: attempt });
    }

    /// Hands interim responses over to the client's connection, which sends them before the response. HTTP/1.0 has none (RFC
    /// 9110 §15.2).
    pub(crate) fn interim(&self, interims: &mut Interims) {
        let heads = interims.take_heads();
        if !matches!(self.exchange.version, Some(Version::HTTP_11 | Version::HTTP_2)) {
            return;
        }
        for (status, mut fields) in heads {
            if let Some(api) = self.api() {
                fields.drop_all(api.response_headers());
                if api.cors().is_some() {
                    fields.set_cors(Vec::new());
                }
            }
            self.client.interim(status, fields);
        }
    }

    /// Removes what may not follow the body of a response.
    pub(super) fn strip_trailers(&self, trailers: &mut HeaderMap) {
        match self.is_grpc {
            true => strip_grpc_trailers(trailers),
            false => strip_trailers(trailers),
        }
        let changes = self.api().map(Api::response_headers).filter(|changes| !changes.is_empty());
        if let Some(changes) = changes {
            let dropped: Vec<_> = trailers.keys().filter(|name| changes.drops(name.as_str())).cloned().collect();
            dropped.iter().for_each(|name| drop(trailers.remove(name)));
        }
    }

    /// Records that the server responded, and that its response is being sent to the client.
    pub(crate) fn responding(&mut self, status: StatusCode, after: Duration) {
        if let Some(upstream) = &mut self.upstream {
            (upstream.duration, upstream.status) = (Some(after), Some(status));
        }
        if self.is_grpc {
            self.counter.answered();
        }
        self.answering(status);
    }

    /// Records that the proxy itself answers, and that its response is being sent to the client.
    pub(in crate::proxy) fn answering(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.state = State::Responding;
    }

    /// Records that the server's response is not sent to the client after all.
    pub(crate) fn discarded(&mut self) {
        (self.status, self.sent) = (None, 0);
        self.state = State::Open;
    }

    /// Adds bytes of the response's body that were sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Takes back bytes of the response's body that were not sent after all. `nothing`: neither was its head.
    pub(crate) fn unsent(&mut self, bytes: u64, nothing: bool) {
        if nothing {
            (self.status, self.sent) = (None, 0);
        }
        self.sent = self.sent.saturating_sub(bytes);
    }

    /// Records that the response was sent whole.
    pub(crate) fn completed(&mut self) {
        if let State::Responding = self.state {
            self.state = State::Completed;
        }
    }

    /// Whether a response that was begun may end with trailers that say why it is not whole.
    pub(super) fn tells_in_trailers(&self) -> bool {
        self.is_grpc && self.answers_grpc
    }

    /// Records that the request was refused, or that its response was interrupted for this reason.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        if let Some(cause) = refusal.logged() {
            let (id, code) = (self.exchange.id.as_str(), refusal.reason().code());
            tracing::info!(id, code, cause, "refused");
        }
        self.status.get_or_insert(refusal.reason().status());
        self.state = State::Refused(refusal.clone());
    }

    /// Records that the stream is ended because the client took too little of the response.
    pub(crate) fn stalled(&mut self) {
        self.stalled = true;
    }

    /// Returns whether the client was too slow, on its stream or on the whole connection, rather than gone.
    pub(in crate::proxy) fn client_stalled(&self) -> bool {
        self.stalled || self.client.ended_stalled()
    }

    fn end(&self) -> End {
        match (&self.state, self.status) {
            (State::Refused(refusal), _) => End { index: refusal.reason().index(), code: refusal.reason().code() },
            (State::Completed, Some(status)) => {
                let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
                End { index: Reason::ALL.len() + class, code: CLASSES.get(class).copied().unwrap_or("5xx") }
            }
            _ if self.client_stalled() => End { index: Reason::ALL.len() + CLASSES.len() + 1, code: CLIENT_STALLED },
            _ => End { index: Reason::ALL.len() + CLASSES.len(), code: CLIENT_DISCONNECTED },
        }
    }

    fn record(&self, action: &'static str, duration: Duration) {
        let opens = action == WEBSOCKET_OPENED;
        // Every record has an id of its own.
        let id = if opens { RequestId::new(self.exchange.at) } else { self.exchange.id };
        let caller = self.trace.caller.as_deref();
        // The holder of a credential that is refused is recorded, too: after a leak, operators look for exactly that.
        let holder = caller.or(self.trace.holder.as_deref());
        let refusal = if let State::Refused(refusal) = &self.state { Some(refusal) } else { None };
        let reason = match &self.state {
            _ if opens => None,
            State::Completed => self.over,
            _ => Some(self.end().code),
        };
        let violations: &[Violation] = refusal.map(Refusal::violations).unwrap_or_default();
        let would_refuse = &self.trace.would_refuse;
        let violations = match would_refuse.iter().find(|refusal| !refusal.violations().is_empty()) {
            Some(refusal) if violations.is_empty() => refusal.violations(),
            _ => violations,
        };
        let good = (opens || matches!(self.state, State::Completed))
            && self.status.is_some_and(|status| status.as_u16() < 400);
        self.worker.recorder.record(&Record {
            duration,
            outcome: if good { Outcome::Success } else { Outcome::Failure },
            reason,
            id: id.as_str(),
            request_bytes: self.counter.bytes() + self.tunnelled,
            status: self.status.map(|status| status.as_u16()),
            response_bytes: self.sent,
            consumer: holder.map(|holder| &**holder.consumer()),
            user: holder.and_then(|holder| holder.user()),
            roles: caller.map(Caller::roles).unwrap_or_default(),
            api: self.route.as_ref().map(|route| &**route.api().name()),
            route: self.route.as_ref().map(|route| &**route.name()),
            stage: refusal.map(|refusal| refusal.stage().as_str()),
            cause: refusal.and_then(Refusal::logged),
            reports: self.route.as_ref().is_some_and(|route| route.reporting.any()),
            would_refuse,
            organization: holder.and_then(|holder| holder.organization()),
            plan: caller.and_then(|caller| caller.plan()).map(|plan| &**plan.name()),
            limit: self.trace.counting.refused_by.as_deref().map(|name| LimitFacts { name, used: None }),
            credential: holder.map(|holder| credential_of(holder)),
            scopes_required: self.route.as_ref().map(|route| route.required_scopes()).unwrap_or_default(),
            scopes_granted: caller.map(Caller::granted).unwrap_or_default(),
            scopes_lent: caller.map(Caller::lent).unwrap_or_default(),
            scopes_cut: caller.map(Caller::cut).unwrap_or_default(),
            violations,
            upstream: self.upstream.as_ref().map(|upstream| UpstreamFields {
                server: &upstream.server.name,
                duration: upstream.duration,
                attempts: upstream.attempts,
            }),
            ..Record::of(&self.exchange, &self.client.peer, action, self.policy.digest())
        });
    }
}

/// What is recorded of the credential of a caller.
fn credential_of(caller: &Caller) -> CredentialFacts<'_> {
    let (kind, id) = caller.credential();
    CredentialFacts { kind: kind.as_str(), id, issuer: caller.issuer() }
}

impl RecordGuard {
    /// Decides whether spans of this request are exported, once it is known who sent it, and over which scheme.
    pub(super) fn sample(&mut self, trusted_peer: bool, scheme: &'static str) {
        let Some(tracer) = self.policy.tracer() else { return };
        if !tracer.config().continues {
            self.exchange.begin_trace();
        }
        self.scheme = scheme;
        self.sampled = Some(tracer.samples(&self.exchange.trace, trusted_peer, self.exchange.begun));
    }

    /// The trace fields for the upstream. Absent: those of the caller are forwarded.
    pub(super) fn upstream_trace(&self, headers: &HeaderMap) -> Option<UpstreamTrace> {
        let (sampled, context) = (self.sampled?, &self.exchange.trace);
        // Where none is exported, the span that is in the record.
        let parent = if sampled { context.upstream_span() } else { context.span };
        let keeps_tracestate = context.parent.is_some() && is_tracestate(headers.get_all(TRACESTATE).iter());
        Some(UpstreamTrace { traceparent: context.traceparent(parent, sampled), keeps_tracestate })
    }

    /// The spans of this request.
    fn finished(&self, duration: Duration) -> FinishedRequest {
        let (error, failed) = match &self.state {
            State::Refused(refusal) => (Some(refusal.reason().code()), refusal.reason().status().is_server_error()),
            State::Completed => (None, false),
            State::Open | State::Responding => (Some(self.end().code), false),
        };
        let refused = matches!(self.state, State::Refused(_));
        let upstream = self.upstream.as_ref().map(|Upstream { server, status, after, .. }| UpstreamCall {
            server: Arc::clone(&server.name),
            path: self.mapped_path.as_deref().map(|path| bounded(path.as_bytes())),
            host: server.host.clone(),
            port: server.port,
            is_http2: server.protocol == Protocol::Http2,
            after: *after,
            status: status.map(|status| status.as_u16()),
            // A client that goes away while it is sent a response says nothing of the upstream.
            error: error.filter(|_| refused || status.is_none()),
        });
        let exchange = &self.exchange;
        FinishedRequest {
            context: exchange.trace,
            at: exchange.at,
            duration,
            method: known_method(exchange.method.as_ref()),
            version: exchange.version_text(),
            scheme: self.scheme,
            host: bounded(exchange.host.as_bytes()),
            path: bounded(exchange.path.as_bytes()),
            client: exchange.client,
            peer: self.client.peer.address,
            user_agent: exchange.user_agent.as_ref().map(|agent| bounded(agent.as_bytes())),
            route: self.route.as_ref().map(|route| Arc::clone(route.name())),
            status: self.status.map(|status| status.as_u16()),
            error,
            failed,
            upstream,
        }
    }
}

impl Drop for RecordGuard {
    fn drop(&mut self) {
        let now = Instant::now();
        if self.sampled.is_none() {
            // It was refused before anybody was known, or nobody is sampled.
            self.sample(false, self.scheme);
        }
        self.client.end(now);
        self.worker.shared.metrics.requests_in_flight.dec();
        if self.is_open {
            self.worker.shared.metrics.websockets.dec();
        }
        let duration = now.saturating_duration_since(self.exchange.begun);
        let metrics = self.policy.metrics(self.route.as_deref());
        let end = self.end();
        metrics.count(end, duration, self.upstream.as_ref().and_then(|upstream| upstream.duration));
        if let Some(Upstream { server, .. }) = &self.upstream
            && let Some(metrics) = self.policy.server_metrics(server)
        {
            metrics.count(end);
        }
        for refusal in &self.trace.would_refuse {
            metrics.would_refuse(refusal.reason().code());
        }
        let counting = &self.trace.counting;
        if let Some(limit) = &counting.refused_by {
            let plan = self.trace.caller.as_deref().and_then(|caller| caller.plan());
            self.worker.shared.metrics.limit_refusal(plan.map_or("", |plan| plan.name()), limit);
        }
        let recorder = &self.worker.recorder;
        if !recorder.is_silent() && (self.admitted || !recorder.drops()) {
            self.record(REQUEST, duration);
        }
        if let Some(change) = self.trace.change.take() {
            self.record_change(*change);
        }
        counting.alerts.iter().for_each(|alert| self.record_quota(alert));
        if let Some(unusual) = self.trace.unusual {
            self.record_unusual_use(unusual);
        }
        if matches!(&self.state, State::Refused(refusal) if refusal.reason() == Reason::InsufficientScope) {
            self.record_scope_probes();
        }
        if let (Some(tracer), Some(true)) = (self.policy.tracer(), self.sampled) {
            tracer.export(self.finished(duration));
        }
    }
}
