//! The admin listener, for operators; it takes no part in proxying requests. It listens at an address, on a Unix
//! socket, or both ([`listeners`]).
//!
//! | endpoint | needs | answers |
//! |---|---|---|
//! | `GET /healthz` | - | the process is alive |
//! | `GET /readyz` | - | 200 when it can serve; otherwise 503, and which part is not ready |
//! | `GET /metrics` | - | metrics for Prometheus (OpenMetrics text) |
//! | `GET /v1/policy` | read | the policy in force: digest, APIs, routes |
//! | `POST /v1/policy/reload` | operate | as SIGHUP does; 422 with every problem when the policy has errors |
//! | `GET /v1/openapi.json` | read | this API as an OpenAPI document |
//! | `GET /v1/issuers` | read | the issuers and introspection endpoints, and the state of their keys |
//! | `/v1/consumers…`, `/v1/keys…`, `/v1/grants`, `/v1/suspensions`, `/v1/revocations…` | read, operate | see [`operations`] |
//!
//! Without a token in the policy, the endpoints that need one are closed. Every change made here is an audit record.

pub(crate) mod dangling;
pub(crate) mod endpoints;
pub(crate) mod expiring_keys;
mod gauges;
mod input;
pub(crate) mod listener;
pub(crate) mod listeners;
mod operations;
mod view;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::endpoints::Page;
use self::operations::{Completed, Operation};
use crate::audit::{Outcome, Record, Recorder, SinkConfig, Trail};
use crate::exchange::{Exchange, Peer};
use crate::policy::Rights;
use crate::policy::diagnostic::{Problem, Problems};
use crate::proxy::downstream::worker::Shared;
use crate::refusal::{Members, Reason, Refusal, Stage, Violation};
use crate::runtime::InForce;
use crate::stages::auth::remote_key_set::Freshness;
use crate::state::registry::Health;

/// The admin API, as an OpenAPI 3.1 document.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");
/// Maximum size of a request body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// A command to the daemon.
pub(crate) enum Command {
    /// Reload the policy, and reply with the outcome.
    Reload(oneshot::Sender<Reloaded>),
}

/// The outcome of a reload.
pub(crate) enum Reloaded {
    /// The new policy is in force.
    Loaded,
    /// No file that the policy names has changed.
    Unchanged,
    /// The old policy stays in force.
    Failed(Problems),
}

struct Admin {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    recorder: Rc<Recorder>,
    /// Requests in progress.
    underway: RefCell<JoinSet<()>>,
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Answer {
        let peer = Peer::new(peer, None);
        let exchange = Exchange::open(&peer, request.method(), request.version(), request.uri(), request.headers());
        self.answered(&peer, &exchange, request).await.unwrap_or_else(|refusal| {
            if let Some(cause) = refusal.logged() {
                tracing::warn!(id = exchange.id.as_str(), cause, "an operator's request failed");
            }
            let (status, headers, body) = refusal.answer(&exchange.id);
            let mut answer = Response::new(Full::new(body));
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            answer
        })
    }

    async fn answered(&self, peer: &Peer, exchange: &Exchange, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let (parts, body) = request.into_parts();
        let (method, path) = (&parts.method, parts.uri.path());
        let may = |rights| self.authorize(&parts.headers, rights);
        if let Some((endpoint, page)) = endpoints::find_page(path) {
            if *method != endpoint.method {
                return Err(other_method(endpoint.method));
            }
            let operator = endpoint.rights.map(may).transpose()?;
            return match page {
                Page::GetHealth => Ok(json_answer(StatusCode::OK, &json!({"status": "ok"}))),
                Page::GetReadiness => Ok(self.ready()),
                Page::GetMetrics => Ok(self.metrics()),
                Page::GetOpenApi => Ok(json_text(StatusCode::OK, OPENAPI)),
                Page::GetPolicy => Ok(self.policy()),
                Page::ReloadPolicy => self.reload(peer, exchange, &operator.unwrap_or_default()).await,
                Page::ListIssuers => Ok(self.issuers()),
            };
        }
        if !path.starts_with("/v1/") {
            return Err(Refusal::new(Stage::Request, Reason::NoRoute, "the admin listener has no such endpoint"));
        }
        // Authorize before the path is looked up: only operators may learn what exists.
        let operator = may(endpoints::registry_rights(method))?;
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| {
            Refusal::new(Stage::Request, Reason::BodyTooLarge, format!("a body has at most {MAX_BODY} bytes"))
        })?;
        let (body, query) = (body.to_bytes(), parts.uri.query());
        let (now, by) = (Timestamp::now(), &*operator);
        let in_force = self.shared.in_force.current();
        let operation = Operation { in_force: &in_force, method, path, query, body: &body, by, now };
        let done = operation.run().await;
        if let Ok(Completed { change: Some(change), .. }) = &done {
            let action =
                OperatorAction { action: change.action, target: Some(&change.target), status: StatusCode::OK, by };
            self.record(&action, peer, exchange, &in_force);
        } else if *method != Method::GET
            && let Err(refusal) = &done
        {
            let status = refusal.reason().status();
            let action = OperatorAction { action: "change_refused", target: None, status, by };
            self.record(&action, peer, exchange, &in_force);
        }
        done.map(|done| json_answer(done.status, &done.body))
    }

    /// Returns the name of the admin token that was sent, if it grants these rights. Digests are compared, so that the
    /// time taken reveals neither length nor content.
    fn authorize(&self, headers: &HeaderMap, rights: Rights) -> Result<Box<str>, Refusal> {
        let refuse = |reason, detail: &'static str| Err(Refusal::new(Stage::Auth, reason, detail));
        let in_force = self.shared.in_force.current();
        let tokens = in_force.policy.admin().map(|admin| &*admin.tokens).unwrap_or_default();
        if tokens.is_empty() {
            return refuse(Reason::MissingCredentials, "the policy has no `admin.token`, so this endpoint is closed");
        }
        let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent =
            sent.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, sent)) = sent else {
            return refuse(Reason::MissingCredentials, "send the admin token: `Authorization: Bearer …`");
        };
        let sent = digest(&SHA256, sent.trim().as_bytes());
        let mut found = None;
        for token in tokens {
            // Compares all of them, even after a match, so that the time does not depend on which one it is.
            if digest(&SHA256, token.token.expose_secret().as_bytes()).as_ref().ct_eq(sent.as_ref()).into() {
                found = Some(token);
            }
        }
        match found {
            None => refuse(Reason::InvalidToken, "the admin token is unknown"),
            Some(token) if token.rights < rights => refuse(Reason::InsufficientRight, "this admin token is read-only"),
            Some(token) => Ok(token.name.clone()),
        }
    }

    fn ready(&self) -> Answer {
        let in_force = self.shared.in_force.current();
        let now = Timestamp::now();
        let key_sets: Vec<_> = in_force.auth.key_sets().iter().map(|set| (set, set.freshness(now))).collect();
        let failing = in_force.trail.failing();
        let health = in_force.registry().health();
        let available = key_sets.iter().all(|(_, freshness)| *freshness != Freshness::Unavailable);
        let ready = failing.is_none() && available && health != Health::Loading;
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let key_sets: Vec<_> = key_sets
            .into_iter()
            .map(|(set, freshness)| json!({"location": set.source().location.to_string(), "state": freshness.as_str()}))
            .collect();
        let body = json!({
            "ready": ready,
            "policy": &**in_force.policy.digest(),
            "key_sets": key_sets,
            "store": {"state": view::health(health)},
            "audit": {"failing": failing},
        });
        json_answer(status, &body)
    }

    fn issuers(&self) -> Answer {
        json_answer(
            StatusCode::OK,
            &json!({"items": view::issuers(&self.shared.in_force.current().auth, Timestamp::now())}),
        )
    }

    fn metrics(&self) -> Answer {
        let in_force = self.shared.in_force.current();
        let gauges = gauges::gauges(&in_force, Timestamp::now());
        let page = self.shared.metrics.page(in_force.all_metrics(), gauges);
        let mut answer = Response::new(Full::new(Bytes::from(page)));
        let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, openmetrics);
        answer
    }

    fn policy(&self) -> Answer {
        json_answer(StatusCode::OK, &view::policy(&self.shared.in_force.current().policy))
    }

    async fn reload(&self, peer: &Peer, exchange: &Exchange, operator: &str) -> Result<Answer, Refusal> {
        let (reply, replied) = oneshot::channel();
        let stopping = |_| Refusal::new(Stage::Request, Reason::NoRoute, "the process is stopping");
        self.commands.send(Command::Reload(reply)).await.map_err(|_| stopping(()))?;
        let reloaded = replied.await.map_err(|_| stopping(()))?;
        let in_force = self.shared.in_force.current();
        let outcome = match reloaded {
            Reloaded::Loaded => Ok("loaded"),
            Reloaded::Unchanged => Ok("unchanged"),
            Reloaded::Failed(report) => Err(report),
        };
        let status = if outcome.is_ok() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
        let action = OperatorAction { action: "policy_reload", target: None, status, by: operator };
        self.record(&action, peer, exchange, &in_force);
        match outcome {
            Ok(outcome) => {
                Ok(json_answer(StatusCode::OK, &json!({"outcome": outcome, "policy": &**in_force.policy.digest()})))
            }
            Err(report) => {
                let place = |problem: &Problem| problem.place.as_ref().map(ToString::to_string).unwrap_or_default();
                let errors =
                    report.iter().map(|problem| Violation::new(place(problem), problem.message.clone())).collect();
                Err(Refusal::new(
                    Stage::Schema,
                    Reason::SchemaViolation,
                    "the policy has errors; the previous one stays in force",
                )
                .members(Members { errors, ..Members::default() }))
            }
        }
    }
    /// Writes an audit record of what an operator did.
    fn record(&self, action: &OperatorAction<'_>, peer: &Peer, exchange: &Exchange, in_force: &InForce) {
        self.recorder.switch(Arc::clone(&in_force.trail));
        action.record(&self.recorder, peer, exchange, in_force.policy.digest());
    }
}

/// What an operator did, for the audit record.
struct OperatorAction<'a> {
    action: &'static str,
    target: Option<&'a str>,
    status: StatusCode,
    by: &'a str,
}

impl OperatorAction<'_> {
    fn record(&self, recorder: &Recorder, peer: &Peer, exchange: &Exchange, policy: &str) {
        recorder.record(&Record {
            duration: exchange.begun.elapsed(),
            outcome: if self.status.is_success() { Outcome::Success } else { Outcome::Failure },
            client_port: Some(peer.address.port()).filter(|port| *port > 0),
            status: Some(self.status.as_u16()),
            consumer: Some(self.by),
            target: self.target,
            ..Record::of(exchange, peer, self.action, policy)
        });
    }
}

/// Runs an operation on the store of a policy, which no daemon may have open, and writes its audit record.
/// Records go only to files, never to standard output, where the response is printed.
///
/// Fails if the store or the audit trail cannot be opened, or the record was not written. Must run on a local runtime.
pub(crate) async fn without_daemon(
    in_force: &InForce,
    method: &Method,
    target: &str,
    body: &[u8],
) -> Result<(StatusCode, Bytes), String> {
    /// How long to wait for the record to be written.
    const PATIENCE: Duration = Duration::from_secs(10);
    let files: Vec<_> =
        in_force.policy.sinks().iter().filter(|sink| matches!(sink, SinkConfig::File { .. })).cloned().collect();
    let trail = Arc::new(Trail::open(&files, None).map_err(|error| error.to_string())?);
    in_force.registry().open().await.map_err(|error| error.to_string())?;
    let recorder = Recorder::new(Arc::clone(&trail));
    let peer = Peer::new(([127, 0, 0, 1], 0).into(), None);
    let exchange = Exchange::unparsed(&peer);
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let by = "command line";
    let operation = Operation { in_force, method, path, query, body, by, now: exchange.at };
    let done = match operation.run().await {
        Ok(done) => {
            if let Some(change) = &done.change {
                let action =
                    OperatorAction { action: change.action, target: Some(&change.target), status: StatusCode::OK, by };
                action.record(&recorder, &peer, &exchange, in_force.policy.digest());
            }
            (done.status, Bytes::from(done.body.to_string()))
        }
        Err(refusal) => {
            let (status, _, body) = refusal.answer(&exchange.id);
            (status, body)
        }
    };
    recorder.close().await;
    match trail.close(PATIENCE).await {
        0 => Ok(done),
        left => Err(format!("{left} audit records could not be written; the change was made")),
    }
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    json_text(status, body.to_string())
}

fn json_text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn other_method(allowed: &str) -> Refusal {
    Refusal::new(Stage::Request, Reason::MethodNotAllowed, "use the method in `allowed_methods`")
        .members(Members { allowed_methods: Some(vec![allowed.into()]), ..Members::default() })
}
