//! The admin listener, for operators; it takes no part in proxying requests. It listens at an address, on a Unix
//! socket, or both ([`listeners`]).
//!
//! | endpoint | needs | answers |
//! |---|---|---|
//! | `GET /` | - | a page for browsers, which shows what the operator's token may see ([`page`]) |
//! | `GET /healthz` | - | the process is alive |
//! | `GET /readyz` | - | 200 when it can serve most of what the policy opens, otherwise 503; and what is degraded |
//! | `GET /metrics` | - | metrics, as Prometheus text or, if the client accepts it, OpenMetrics |
//! | `GET /v1/operator` | read | the name and the rights of the token that was sent |
//! | `GET /v1/policy` | read | the policy in force: digest, APIs, routes |
//! | `GET /v1/audit` | read | records as they are written: server-sent events, filtered by the query |
//! | `POST /v1/policy/reload` | operate | as SIGHUP does; 422 with every problem when the policy has errors |
//! | `GET /v1/openapi.json` | read | this API as an OpenAPI document |
//! | `GET /v1/issuers` | read | the issuers and introspection endpoints, and the state of their keys |
//! | `/v1/consumers…`, `/v1/keys…`, `/v1/clients…`, `/v1/grants`, `/v1/suspensions`, `/v1/revocations…`, `/v1/signing-keys…`, `/v1/upstreams…` | read, operate | see [`operations`] |
//! | `GET /v1/secrets` | read | the secrets and certificates of the policy in force: where from, how old, what is wrong |
//! | `GET /v1/sinks` | read | where records go, how many wait, and what is wrong |
//! | `GET /v1/launch-check` | read | the launch checklist of the policy file, with evidence ([`launch_check`]) |
//!
//! HEAD is answered wherever GET is. Without a token in the policy, the endpoints that need one are closed. Every request
//! below `/v1/` leaves an audit record, allowed or refused; an address that sends unknown tokens has to wait.

mod connections;
pub(crate) mod endpoints;
pub(crate) mod expiring_certificates;
pub(crate) mod expiring_clients;
pub(crate) mod expiring_keys;
mod gauges;
mod input;
pub(crate) mod launch_check;
pub(crate) mod listener;
pub(crate) mod listeners;
mod live_records;
mod metrics_format;
mod operations;
mod operator_record;
mod page;
mod process;
mod readiness;
mod schedule_record;
mod secrets;
pub(crate) mod store_content;
mod view;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use self::connections::Connection;
use self::endpoints::Page;
use self::launch_check::LaunchCheck;
use self::live_records::AnswerBody;
use self::metrics_format::MetricsFormat;
use self::operations::Operation;
use self::operator_record::{Answered, HERE, OperatorRequest};
pub(crate) use self::schedule_record::{
    record_delivered_key, record_ended_key, record_failed_rotation, record_signing_key,
};
use crate::audit::{AuditConfig, Change, ChangeRecord, Recorder, SinkConfig, Trail};
use crate::exchange::{Exchange, Peer};
use crate::policy::Rights;
use crate::policy::diagnostic::{Problem, Problems};
use crate::proxy::downstream::worker::Shared;
use crate::refusal::{Members, Reason, Refusal, Stage, Violation};
use crate::runtime::InForce;
use crate::stages::auth::failed_attempts::Failures;
use crate::state::ledger::Ledger;

/// The admin API, as an OpenAPI 3.1 document.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");
/// Maximum size of a request body, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// How long a request body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How many refused requests of one socket wait for the record at once, and for how long each.
const STRANGERS: usize = 16;
const STRANGER_WAIT: Duration = Duration::from_secs(10);
/// How many commands wait for the daemon before operators do.
const WAITING_COMMANDS: usize = 4;
/// The paths of operators; the others are open to everybody.
const OPERATORS: &str = "/v1/";
/// `event.action` of a reload.
const RELOAD: &str = "policy_reload";

/// A command to the daemon.
pub(crate) enum Command {
    /// Reload the policy, and reply with the outcome.
    Reload(oneshot::Sender<Reloaded>),
}

/// What the admin listeners ask of the daemon.
#[derive(Clone)]
pub(crate) struct DaemonHandle {
    commands: mpsc::Sender<Command>,
    launch_check: Arc<LaunchCheck>,
    /// One page of metrics is made at a time.
    metrics_turn: Arc<Semaphore>,
}

impl DaemonHandle {
    /// A handle, and the commands that come through it.
    pub(crate) fn new(launch_check: LaunchCheck) -> (Self, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(WAITING_COMMANDS);
        let (launch_check, metrics_turn) = (Arc::new(launch_check), Arc::new(Semaphore::new(1)));
        (Self { commands, launch_check, metrics_turn }, received)
    }
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
    daemon: DaemonHandle,
    recorder: Rc<Recorder>,
    /// Unknown admin tokens by address. They are counted apart from the credentials of callers.
    failures: Failures,
    ledger: Ledger,
    /// Requests in progress.
    underway: RefCell<JoinSet<()>>,
    /// Bounds the refused requests that wait for the record.
    strangers: Semaphore,
}

/// The owner of an admin token. By default nobody, where no token is needed.
struct Operator {
    name: Box<str>,
    rights: Rights,
}

impl Default for Operator {
    fn default() -> Self {
        Self { name: Box::default(), rights: Rights::Read }
    }
}

type Answer = Response<AnswerBody>;

impl Admin {
    async fn answer(&self, peer: &Peer, connection: &Rc<Connection>, request: Request<Incoming>) -> Answer {
        let exchange = Exchange::open(peer, request.method(), request.version(), request.uri(), request.headers());
        let is_operators = request.uri().path().starts_with(OPERATORS);
        let mut reported = OperatorRequest::default();
        let (answer, refusal) = match self.answered(peer, connection, &exchange, request, &mut reported).await {
            Ok(answer) => (answer, None),
            Err(refusal) => (refused(&exchange, &refusal), Some(refusal)),
        };
        if !reported.by.is_empty() {
            connection.knows_operator();
        }
        if is_operators {
            let refused = refusal.as_ref().filter(|refusal| refusal.stage() == Stage::Auth);
            if let Some(refusal) = refused {
                self.shared.metrics.admin_refusal(refusal.reason().code());
                // While the sinks cannot keep up, strangers wait, so that memory is bounded: a few of them, for a while,
                // because they hold connections that operators need. Operators do not wait: they may be about to mend it.
                if let Ok(_waits) = self.strangers.try_acquire() {
                    let _ = tokio::time::timeout(STRANGER_WAIT, self.recorder.ready()).await;
                }
                if self.recorder.drops() {
                    return answer;
                }
            }
            let in_force = self.shared.in_force.current();
            self.recorder.switch(Arc::clone(&in_force.trail));
            let bytes = answer.body().size_hint().exact().unwrap_or_default();
            let answered = Answered { status: answer.status(), bytes, refusal: refusal.as_ref() };
            reported.record(&self.recorder, peer, &exchange, in_force.policy.digest(), &answered);
        }
        answer
    }

    async fn answered(
        &self,
        peer: &Peer,
        connection: &Rc<Connection>,
        exchange: &Exchange,
        request: Request<Incoming>,
        reported: &mut OperatorRequest,
    ) -> Result<Answer, Refusal> {
        let (parts, body) = request.into_parts();
        // RFC 9110 §9.3.2: HEAD is a GET whose answer is sent without its body, which hyper sees to.
        let (method, path) =
            (if parts.method == Method::HEAD { &Method::GET } else { &parts.method }, parts.uri.path());
        let may = |rights| self.authorize(peer, exchange, &parts.headers, rights);
        if let Some((endpoint, page)) = endpoints::find_page(path) {
            if *method != endpoint.method {
                return Err(other_method(endpoint.method));
            }
            let operator = endpoint.rights.map(may).transpose()?.unwrap_or_default();
            reported.by = operator.name.clone();
            return match page {
                Page::GetDocument => Ok(page::answer().map(AnswerBody::from)),
                Page::GetOperator => Ok(json_answer(StatusCode::OK, &view::operator(&operator.name, operator.rights))),
                Page::GetHealth => Ok(json_answer(StatusCode::OK, &json!({"status": "ok"}))),
                Page::GetReadiness => self.ready(parts.uri.query()),
                Page::GetMetrics => self.metrics(&parts.headers).await,
                Page::GetOpenApi => Ok(json_text(StatusCode::OK, OPENAPI)),
                Page::GetPolicy => Ok(self.policy()),
                Page::ReloadPolicy => self.reload(reported).await,
                Page::ListIssuers => Ok(self.issuers()),
                Page::ListSecrets => Ok(self.secrets()),
                Page::ListSinks => Ok(self.sinks()),
                Page::GetLaunchCheck => self.launch_check().await,
                Page::FollowAudit => live_records::follow(&self.shared, parts.uri.query(), connection),
            };
        }
        if !path.starts_with(OPERATORS) {
            return Err(Refusal::new(Stage::Request, Reason::NoRoute, "the admin listener has no such endpoint"));
        }
        // Authorize before the path is looked up: only operators may learn what exists.
        reported.by = may(endpoints::registry_rights(method))?.name;
        let body = whole(body).await?;
        reported.request_bytes = body.len() as u64;
        let in_force = self.shared.in_force.current();
        let (query, by, now) = (parts.uri.query(), &*reported.by.clone(), Timestamp::now());
        let unconfirmed = Cell::default();
        let operation = Operation { in_force: &in_force, method, path, query, body: &body, by, now, unconfirmed };
        let (status, body) = reported.run(operation).await?;
        Ok(json_answer(status, &body))
    }

    /// Returns whose admin token was sent, and what it may do, if it grants these rights. Digests are compared, so that the
    /// time taken reveals neither length nor content. An address that has sent too many unknown ones learns nothing about
    /// the next.
    fn authorize(
        &self,
        peer: &Peer,
        exchange: &Exchange,
        headers: &HeaderMap,
        rights: Rights,
    ) -> Result<Operator, Refusal> {
        let refuse = |reason, detail: &'static str| Err(Refusal::new(Stage::Auth, reason, detail));
        let (address, tick) = (peer.address.ip(), self.ledger.tick(exchange.begun));
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
        self.failures.permit(&self.ledger, address, tick)?;
        let sent = digest(&SHA256, sent.trim().as_bytes());
        let mut found = None;
        for token in tokens {
            // Compares all of them, even after a match, so that the time does not depend on which one it is.
            if digest(&SHA256, token.token.expose_secret().as_bytes()).as_ref().ct_eq(sent.as_ref()).into() {
                found = Some(token);
            }
        }
        match found {
            None => {
                self.failures.note(&self.ledger, address, tick);
                refuse(Reason::InvalidToken, "the admin token is unknown")
            }
            Some(token) if in_force.stale.has_admin_token(token.written_at) => refuse(
                Reason::IdentityUnavailable,
                "this admin token is stale: the vault has not given it for longer than `secrets.vault.stale_for`",
            ),
            Some(token) if token.rights < rights => refuse(Reason::InsufficientRight, "this admin token is read-only"),
            Some(token) => Ok(Operator { name: token.name.clone(), rights: token.rights }),
        }
    }

    fn ready(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let (status, body) = readiness::page(&self.shared.in_force.current(), query, Timestamp::now())?;
        Ok(json_answer(status, &body))
    }

    fn issuers(&self) -> Answer {
        json_answer(
            StatusCode::OK,
            &json!({"items": view::issuers(&self.shared.in_force.current().auth, Timestamp::now())}),
        )
    }

    fn secrets(&self) -> Answer {
        let items = secrets::listed(&self.shared.in_force.current());
        json_answer(StatusCode::OK, &json!({"items": secrets::view(&items, Timestamp::now())}))
    }

    fn sinks(&self) -> Answer {
        json_answer(StatusCode::OK, &view::sinks(&self.shared.in_force.current().trail))
    }

    async fn launch_check(&self) -> Result<Answer, Refusal> {
        let in_force = self.shared.in_force.current();
        self.daemon.launch_check.answer(&in_force).await.map(|checklist| json_answer(StatusCode::OK, &checklist))
    }

    /// The page of metrics. It looks at every key in the registry, so it is not made on the thread that accepts connections.
    async fn metrics(&self, headers: &HeaderMap) -> Result<Answer, Refusal> {
        let turn = Arc::clone(&self.daemon.metrics_turn).acquire_owned().await;
        let (shared, format) = (Arc::clone(&self.shared), MetricsFormat::accepted(headers));
        let page = tokio::task::spawn_blocking(move || {
            let _ends_with_the_page = turn;
            let in_force = shared.in_force.current();
            let gauges = gauges::gauges(&in_force, Timestamp::now());
            format.write(shared.metrics.page(in_force.all_metrics(), in_force.all_server_metrics(), gauges))
        });
        let page = page.await.map_err(|error| {
            let detail = "the metrics could not be collected; the log says why";
            Refusal::new(Stage::Request, Reason::Overloaded, detail).cause(error.to_string())
        })?;
        let mut answer = Response::new(Full::new(Bytes::from(page)).into());
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(answer)
    }

    fn policy(&self) -> Answer {
        json_answer(StatusCode::OK, &view::policy(&self.shared.in_force.current().policy))
    }

    async fn reload(&self, reported: &mut OperatorRequest) -> Result<Answer, Refusal> {
        let (reply, replied) = oneshot::channel();
        let stopping = |_| Refusal::new(Stage::Request, Reason::NoRoute, "the process is stopping");
        self.daemon.commands.send(Command::Reload(reply)).await.map_err(|_| stopping(()))?;
        let reloaded = replied.await.map_err(|_| stopping(()))?;
        reported.change = Some(reload_record(&reloaded));
        let in_force = self.shared.in_force.current();
        let outcome = match reloaded {
            Reloaded::Loaded => "loaded",
            Reloaded::Unchanged => "unchanged",
            Reloaded::Failed(report) => {
                return Err(Refusal::new(
                    Stage::Schema,
                    Reason::SchemaViolation,
                    "the policy has errors; the previous one stays in force",
                )
                .members(Members { errors: violations(&report), ..Members::default() }));
            }
        };
        Ok(json_answer(StatusCode::OK, &json!({"outcome": outcome, "policy": &**in_force.policy.digest()})))
    }
}

/// What the record of a reload says was changed.
fn reload_record(reloaded: &Reloaded) -> ChangeRecord {
    let target = match reloaded {
        Reloaded::Loaded => "another policy is in force",
        Reloaded::Unchanged => "the policy has not changed",
        Reloaded::Failed(_) => "the previous policy stays in force",
    };
    ChangeRecord { action: RELOAD, target: target.to_owned(), details: Change::default() }
}

fn violations(report: &Problems) -> Vec<Violation> {
    let place = |problem: &Problem| problem.place.as_ref().map(ToString::to_string).unwrap_or_default();
    report.iter().map(|problem| Violation::new(place(problem), problem.message.clone())).collect()
}

/// Writes the audit record of a reload that no operator asked for: `by` says who did.
pub(crate) fn record_reload(recorder: &Recorder, in_force: &InForce, reloaded: &Reloaded, by: &'static str) {
    let peer = Peer::new(HERE, None);
    let reported = OperatorRequest { by: by.into(), change: Some(reload_record(reloaded)), ..Default::default() };
    let refusal = match reloaded {
        Reloaded::Failed(report) => Some(
            Refusal::new(Stage::Schema, Reason::SchemaViolation, "the policy has errors")
                .members(Members { errors: violations(report), ..Members::default() }),
        ),
        Reloaded::Loaded | Reloaded::Unchanged => None,
    };
    let status = refusal.as_ref().map_or(StatusCode::OK, |refusal| refusal.reason().status());
    let answered = Answered { status, bytes: 0, refusal: refusal.as_ref() };
    recorder.switch(Arc::clone(&in_force.trail));
    reported.record(recorder, &peer, &Exchange::unparsed(&peer), in_force.policy.digest(), &answered);
}

/// Reads the body of an operator's request, within its limits of size and time.
async fn whole<B>(body: B) -> Result<Bytes, Refusal>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let refused = |reason, detail: String| Refusal::new(Stage::Request, reason, detail);
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(refused(Reason::BodyTooLarge, format!("a body has at most {MAX_BODY} bytes")))
        }
        Ok(Err(_)) => Err(refused(Reason::MalformedRequest, "the body is not complete".to_owned())),
        Err(_) => Err(refused(Reason::RequestTimeout, format!("the body was not received within {BODY_TIMEOUT:?}"))),
    }
}

/// Returns the answer for a refusal.
fn refused(exchange: &Exchange, refusal: &Refusal) -> Answer {
    if let Some(cause) = refusal.logged() {
        tracing::warn!(id = exchange.id.as_str(), cause, "an operator's request failed");
    }
    let (status, headers, body) = refusal.answer(&exchange.id);
    let mut answer = Response::new(Full::new(body).into());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Runs an operation on the store of a policy, which no daemon may have open, and writes its audit record.
/// Records go only to files, or the spool, never to standard output, where the response is printed.
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
    let audit = in_force.policy.audit();
    // A spool keeps the record for all sinks, until a daemon delivers it.
    let is_written = |sink: &&SinkConfig| audit.spool.is_none() && matches!(sink, SinkConfig::File { .. });
    let sinks = audit.sinks.iter().filter(is_written).cloned().collect();
    let trail = Trail::open(&AuditConfig { sinks, ..audit.clone() }, None).map_err(|error| error.to_string())?;
    trail.expect(audit.sinks.iter());
    let trail = Arc::new(trail);
    in_force.registry().open().await.map_err(|error| error.to_string())?;
    let recorder = Recorder::new(Arc::clone(&trail));
    let peer = Peer::new(HERE, None);
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut exchange = Exchange::unparsed(&peer);
    (exchange.method, exchange.path) = (Some(method.clone()), path.into());
    let by = "command line";
    let (now, unconfirmed) = (exchange.at, Cell::default());
    let operation = Operation { in_force, method, path, query, body, by, now, unconfirmed };
    let mut reported = OperatorRequest { by: by.into(), request_bytes: body.len() as u64, ..Default::default() };
    let (done, refusal) = match reported.run(operation).await {
        Ok((status, body)) => ((status, Bytes::from(body.to_string())), None),
        Err(refusal) => {
            let (status, _, body) = refusal.answer(&exchange.id);
            ((status, body), Some(refusal))
        }
    };
    let answered = Answered { status: done.0, bytes: done.1.len() as u64, refusal: refusal.as_ref() };
    reported.record(&recorder, &peer, &exchange, in_force.policy.digest(), &answered);
    recorder.close().await;
    match trail.close(PATIENCE).await {
        0 => Ok(done),
        left => Err(format!("{left} audit records could not be written; the change was made")),
    }
}

/// Takes an operator's request on the registry of a rehearsed policy, which has no store: what is valid is 409. Returns the
/// status.
pub(crate) async fn without_store(in_force: &InForce, method: &Method, target: &str, body: &[u8]) -> StatusCode {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let (by, now, unconfirmed) = ("rehearsal", Timestamp::now(), Cell::default());
    let operation = Operation { in_force, method, path, query, body, by, now, unconfirmed };
    operation.run().await.map_or_else(|refusal| refusal.reason().status(), |done| done.status)
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    json_text(status, body.to_string())
}

fn json_text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()).into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn other_method(allowed: &str) -> Refusal {
    let mut methods: Vec<Box<str>> = vec![allowed.into()];
    methods.extend((allowed == Method::GET).then(|| Method::HEAD.as_str().into()));
    Refusal::new(Stage::Request, Reason::MethodNotAllowed, "use a method in `allowed_methods`")
        .members(Members { allowed_methods: Some(methods), ..Members::default() })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    /// A body that never arrives.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    /// S22: the body of an operator's request is not waited for for ever, nor taken in any size.
    #[tokio::test(start_paused = true)]
    async fn bodies_have_a_deadline_and_a_size() {
        let reason = |read: Result<Bytes, Refusal>| read.map_err(|refusal| refusal.reason());
        assert_eq!(reason(whole(Silent).await), Err(Reason::RequestTimeout));
        assert_eq!(reason(whole(Full::new(Bytes::from(vec![0; MAX_BODY + 1]))).await), Err(Reason::BodyTooLarge));
        assert_eq!(reason(whole(Full::new(Bytes::from_static(b"{}"))).await), Ok(Bytes::from_static(b"{}")));
    }
}
