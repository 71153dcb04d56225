//! The admin listener, for operators; never on the way of a request.
//!
//! | endpoint | token | answers |
//! |---|---|---|
//! | `GET /healthz` | no | the process is alive |
//! | `GET /readyz` | no | 200 when it can serve; 503 and which part cannot otherwise |
//! | `GET /metrics` | no | Prometheus' numbers (OpenMetrics text) |
//! | `GET /v1/policy` | yes | the policy in force: digest, APIs, routes |
//! | `POST /v1/policy/reload` | yes | as SIGHUP does; 422 with every problem when the policy has errors |
//!
//! Without `admin.token` in the policy, what needs a token is closed. Every change made here is an audit record.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::audit::{Outcome, Record, Recorder};
use crate::exchange::{Exchange, Peer};
use crate::policy::diagnostic::{Problem, Problems};
use crate::policy::{Access, Policy};
use crate::proxy::worker::{Live, Shared};
use crate::refusal::{Members, Reason, Refusal, Stage, Violation};
use crate::telemetry::AuditNumbers;

/// Operators' requests are small and soon there.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the daemon is asked to do.
pub(crate) enum Command {
    /// Reload the policy, and say how it went.
    Reload(oneshot::Sender<Reloaded>),
}

/// How a reload went.
pub(crate) enum Reloaded {
    /// The new policy is in force.
    Loaded,
    /// Nothing that was read has changed.
    Unchanged,
    /// The old policy stays in force.
    Failed(Problems),
}

struct Admin {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    recorder: Rc<Recorder>,
}

type Answer = Response<Full<Bytes>>;

/// Serves the admin listener until it is dropped. Must run on a local runtime.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, commands: mpsc::Sender<Command>) {
    let recorder = Recorder::new(Arc::clone(&shared.live.current().trail));
    let admin = Rc::new(Admin { shared, commands, recorder });
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let admin = Rc::clone(&admin);
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let admin = Rc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.answer(peer, &request).await) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(16 * 1024);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "an admin connection ended early");
            }
        });
    }
}

impl Admin {
    async fn answer(&self, peer: SocketAddr, request: &Request<Incoming>) -> Answer {
        let peer = Peer::new(peer, None);
        let (method, path) = (request.method(), request.uri().path());
        let exchange = Exchange::open(&peer, method, request.version(), path, request.headers());
        let answered = match (method, path) {
            (&Method::GET, "/healthz") => Ok(json_answer(StatusCode::OK, &json!({"status": "ok"}))),
            (&Method::GET, "/readyz") => Ok(self.ready()),
            (&Method::GET, "/metrics") => Ok(self.metrics()),
            (&Method::GET, "/v1/policy") => self.authorize(request.headers()).map(|()| self.policy()),
            (&Method::POST, "/v1/policy/reload") => match self.authorize(request.headers()) {
                Ok(()) => self.reload(&peer, &exchange).await,
                Err(refusal) => Err(refusal),
            },
            (_, "/healthz" | "/readyz" | "/metrics" | "/v1/policy") => Err(other_method("GET")),
            (_, "/v1/policy/reload") => Err(other_method("POST")),
            _ => Err(Refusal::new(Stage::Request, Reason::NoRoute, "the admin listener has no such endpoint")),
        };
        answered.unwrap_or_else(|refusal| {
            let (status, headers, body) = refusal.answer(&exchange.id);
            let mut answer = Response::new(Full::new(body));
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            answer
        })
    }

    /// The bearer token of the policy; digests are compared, so that neither length nor content shows in the time taken.
    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let live = self.shared.live.current();
        let expected = live.policy.admin().and_then(|admin| admin.token.as_ref());
        let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent =
            sent.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match (expected, sent) {
            (Some(expected), Some((_, token))) => {
                let expected = digest(&SHA256, expected.expose_secret().as_bytes());
                let sent = digest(&SHA256, token.trim().as_bytes());
                if expected.as_ref().ct_eq(sent.as_ref()).into() {
                    Ok(())
                } else {
                    Err(Refusal::new(Stage::Auth, Reason::InvalidToken, "this is not the admin token"))
                }
            }
            (None, _) => Err(Refusal::new(
                Stage::Auth,
                Reason::MissingCredentials,
                "the policy has no `admin.token`, so this endpoint is closed",
            )),
            (Some(_), None) => Err(Refusal::new(
                Stage::Auth,
                Reason::MissingCredentials,
                "send the admin token: `Authorization: Bearer …`",
            )),
        }
    }

    fn ready(&self) -> Answer {
        let live = self.shared.live.current();
        let key_sets: Vec<Value> = live
            .policy
            .key_sets()
            .iter()
            .map(|key_set| json!({"url": key_set.url().to_string(), "had": key_set.is_had()}))
            .collect();
        let failing = live.trail.failing();
        let ready = failing.is_none() && live.policy.key_sets().iter().all(|key_set| key_set.is_had());
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = json!({
            "ready": ready,
            "policy": &**live.policy.digest(),
            "key_sets": key_sets,
            "audit": {"failing": failing},
        });
        json_answer(status, &body)
    }

    fn metrics(&self) -> Answer {
        let trail = &self.shared.live.current().trail;
        let stats = trail.stats();
        let numbers = AuditNumbers {
            records: stats.iter().map(|sink| sink.records_written).sum(),
            bytes: stats.iter().map(|sink| sink.bytes_written).sum(),
            failing: trail.failing().is_some(),
        };
        let mut answer = Response::new(Full::new(Bytes::from(self.shared.metrics.page(numbers))));
        let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, openmetrics);
        answer
    }

    fn policy(&self) -> Answer {
        json_answer(StatusCode::OK, &describe(&self.shared.live.current().policy))
    }

    async fn reload(&self, peer: &Peer, exchange: &Exchange) -> Result<Answer, Refusal> {
        let (reply, replied) = oneshot::channel();
        let gone = |_| Refusal::new(Stage::Request, Reason::NoRoute, "the process is stopping");
        self.commands.send(Command::Reload(reply)).await.map_err(|_| gone(()))?;
        let reloaded = replied.await.map_err(|_| gone(()))?;
        let live = self.shared.live.current();
        let outcome = match reloaded {
            Reloaded::Loaded => Ok("loaded"),
            Reloaded::Unchanged => Ok("unchanged"),
            Reloaded::Failed(report) => Err(report),
        };
        self.record("policy_reload", peer, exchange, &live, outcome.is_ok());
        match outcome {
            Ok(outcome) => {
                Ok(json_answer(StatusCode::OK, &json!({"outcome": outcome, "policy": &**live.policy.digest()})))
            }
            Err(report) => {
                let place = |problem: &Problem| problem.place.as_ref().map(ToString::to_string).unwrap_or_default();
                let errors = report
                    .iter()
                    .map(|problem| Violation { pointer: place(problem), detail: problem.message.clone() })
                    .collect();
                Err(Refusal::new(
                    Stage::Schema,
                    Reason::SchemaViolation,
                    "the policy has errors; the one before it stays in force",
                )
                .members(Members { errors, ..Members::default() }))
            }
        }
    }

    fn record(&self, action: &str, peer: &Peer, exchange: &Exchange, live: &Live, good: bool) {
        self.recorder.switch(Arc::clone(&live.trail));
        let address = peer.address.ip().to_canonical();
        self.recorder.record(&Record {
            at: exchange.at,
            action,
            id: exchange.id.as_str(),
            duration: exchange.begun.elapsed(),
            outcome: if good { Outcome::Success } else { Outcome::Failure },
            reason: None,
            client: address,
            client_port: Some(peer.address.port()),
            source: address,
            user_agent: exchange.user_agent.as_ref().map(HeaderValue::as_bytes),
            http_version: exchange.version_text(),
            method: exchange.method.as_ref().map(Method::as_str),
            request_bytes: 0,
            status: Some(if good { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }.as_u16()),
            response_bytes: 0,
            path: Some(exchange.path.as_bytes()),
            domain: None,
            consumer: Some("admin"),
            roles: &[],
            tls_version: None,
            trace_id: exchange.trace_id(),
            api: None,
            route: None,
            stage: None,
            plan: None,
            credential: None,
            scopes_required: &[],
            scopes_granted: &[],
            violations: &[],
            upstream: None,
            policy: live.policy.digest(),
        });
    }
}

/// What of a policy may be told: never a secret.
fn describe(policy: &Policy) -> Value {
    let apis: Vec<Value> = policy
        .apis()
        .iter()
        .map(|api| {
            let routes: Vec<Value> = policy
                .routes()
                .iter()
                .filter(|route| Arc::ptr_eq(route.api(), api))
                .map(|route| match &route.access {
                    Access::Public => json!({"route": &**route.name(), "public": true}),
                    Access::Scoped(requirement) => json!({
                        "route": &**route.name(),
                        "scopes": requirement.scopes(),
                        "only": requirement.only().map(|names| names.iter().map(|name| &**name).collect::<Vec<_>>()),
                    }),
                })
                .collect();
            let servers: Vec<_> = api.upstream().servers().iter().map(|server| &*server.name).collect();
            json!({"api": &**api.name(), "hosts": api.hosts(), "servers": servers, "routes": routes})
        })
        .collect();
    json!({"digest": &**policy.digest(), "apis": apis})
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn other_method(allowed: &str) -> Refusal {
    Refusal::new(Stage::Request, Reason::MethodNotAllowed, "use the method in `allowed_methods`")
        .members(Members { allowed_methods: Some(vec![allowed.into()]), ..Members::default() })
}
