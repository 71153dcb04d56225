//! Handles one request: opens its exchange, reads its target, finds its route, passes it through the chain, forwards
//! it, and returns the response. Whatever happens, the [`RecordGuard`] records it.

mod attempts;
pub(super) mod client_response;
mod forward;
pub(crate) mod mapped_target;
pub(crate) mod path;
pub(super) mod permission;
pub(crate) mod preflight;
pub(super) mod record_guard;
mod redirect;
pub(super) mod response_body;
mod response_check;
pub(crate) mod target;
pub(super) mod upgrade;

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use http::header::{HeaderName, LOCATION, MAX_FORWARDS, TRAILER};
use http::request::Parts;
use http::{HeaderValue, StatusCode, Version};
use hyper::body::Body as _;

use self::client_response::ClientResponse;
use self::forward::Forwarded;
use self::permission::Credentials;
use self::record_guard::RecordGuard;
use self::response_body::{Held, ResponseBody};
use self::target::RequestTarget;
use self::upgrade::{Upgraded, Wanted};
use crate::body::Source;
use crate::chain::{self, Admitted, Trace};
use crate::exchange::{Answer, Exchange, Request};
use crate::grpc;
use crate::policy::cors::{self, Preflight};
use crate::policy::{Access, Own, Route};
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::worker::Worker;
use crate::proxy::headers::{PolicyTrailers, ResponseFields};
use crate::proxy::upstream::{Head, UpstreamExchange};
use crate::refusal::{Members, Reason, Refusal, Stage, X_REQUEST_ID};
use crate::runtime::InForce;
use crate::stages::auth::cache::TokenCache;
use crate::{self_service, token_service};

/// Handles one request. Its record guard exists when this returns, so the future may be dropped without being polled.
pub(super) fn handle(
    worker: &Rc<Worker>,
    client: Rc<ClientConnection>,
    mut parts: Parts,
    source: Source,
) -> impl Future<Output = ClientResponse> + use<> {
    client.begin();
    let open = || Exchange::open(&client.peer, &parts.method, parts.version, &parts.uri, &parts.headers);
    let mut guard = RecordGuard::new(worker, &client, open);
    guard.is_grpc = grpc::is_call(&parts.method, parts.version, &parts.headers);
    // A block has its room once; the parameters of an `async fn` are moved within it first.
    async move {
        // If the record cannot keep up, requests wait here, before any work is done for them.
        if !guard.admit().await {
            let detail = "the record of this request could not be kept; try again later";
            let members = Members { retry_after: Some(1), ..Members::default() };
            let refusal = Refusal::new(Stage::Request, Reason::RecordUnavailable, detail).members(members);
            return refuse(&refusal, guard);
        }
        match process(&client, &mut guard, &mut parts, source).await {
            Ok(processed) => respond(processed, guard),
            Err(refusal) => refuse(&refusal, guard),
        }
    }
}

/// The response to a request that was not refused.
fn respond(processed: Processed, mut guard: Box<RecordGuard>) -> ClientResponse {
    match processed {
        Processed::Nothing => answer_itself(guard),
        Processed::Permitted(fields) => answer_alone(StatusCode::NO_CONTENT, fields, guard),
        Processed::Redirected(location) => {
            answer_alone(StatusCode::PERMANENT_REDIRECT, vec![(LOCATION, location)], guard)
        }
        Processed::Own(answer) => answer_own(*answer, guard),
        Processed::Forwarded(Forwarded { head, connection, pool }, prefix, credentials) => {
            let Head { status, reason, mut fields, .. } = head;
            guard.finish(&mut fields, true);
            // The upstream's fields with these names are not forwarded.
            fields.push(X_REQUEST_ID, guard.exchange.id.to_header());
            fields.extend(std::mem::take(&mut guard.trace.counting.headers).into_fields());
            let body = ResponseBody::upstream(connection, pool, prefix, credentials, guard);
            ClientResponse { status, reason, fields, body, upgraded: None }
        }
        Processed::Upgraded(head, upgraded) => answer_upgraded(head, upgraded, guard),
    }
}

/// What became of a request that was not refused.
enum Processed {
    /// It was to the proxy itself, which has nothing to say.
    Nothing,
    /// It was a preflight, which these fields answer.
    Permitted(Vec<(HeaderName, HeaderValue)>),
    /// It came to a listener that redirects, to this URL.
    Redirected(HeaderValue),
    /// A part of this process answered it.
    Own(Box<Answer>),
    /// It was sent on. Beside the response, the part of its body that was read for its check, and what is needed to decide about
    /// the request again, if the rest is still to come.
    Forwarded(Forwarded, Held, Option<Box<Credentials>>),
    /// The upstream has switched to WebSocket.
    Upgraded(Head, Box<Upgraded>),
}

/// Admits and forwards a request, unless it is refused.
async fn process(
    client: &ClientConnection,
    guard: &mut RecordGuard,
    parts: &mut Parts,
    source: Source,
) -> Result<Processed, Refusal> {
    let view = guard.view();
    let in_force = &*view.in_force;
    let policy = &in_force.policy;

    if in_force.stale.has_any() {
        key_is_fresh(in_force, client)?;
    }
    if parts.version == Version::HTTP_2 {
        target::check_size(parts, policy.limits())?;
    }
    let mut target = target::read(&mut guard.exchange, &parts.uri, &parts.headers, &client.peer, policy)?;
    guard.sample(target.trusted_peer, target.scheme);
    if let Some(answered) = answer_here(client, guard, parts, &mut target).await? {
        return Ok(answered);
    }
    if let Some(forwards) = target.forwards {
        parts.headers.insert(MAX_FORWARDS, forwards.into());
    }
    let has_body = !source.is_end_stream();
    let source = PolicyTrailers::wrap(source, policy.headers());

    let route = policy.route(&guard.exchange.host, &parts.method, &guard.exchange.path, parts.uri.query())?;
    let route = Arc::clone(guard.route.insert(Arc::clone(route)));
    let wanted = websocket(parts, has_body, &route, &target, guard)?;
    if let Some((name, value)) = wanted.as_ref().and_then(Wanted::field) {
        parts.headers.insert(name, value);
    }
    target.take_key(route.api(), parts.uri.query());
    guard.mapped_path = mapped_target::map(&route, &mut target.target)?;
    let counter = guard.counter.clone();
    let RecordGuard { exchange, trace, .. } = &mut *guard;
    let tick = in_force.ledger.tick(exchange.decided());
    let request = target.request(exchange, &client.peer, &parts.uri, &parts.headers, tick);
    let admitted = chain::admit(in_force, &route, &view.tokens, &request, source, &counter, trace).await?;
    if let Some(own) = route.own {
        // Boxed: rare; it would be part of every request's future.
        let answered = Box::pin(answered_by(own, in_force, &request, admitted, &view.tokens, trace)).await;
        // If the client's body ended early, the refusal says so.
        return answered.map(Processed::Own).map_err(|refusal| counter.failure().unwrap_or(refusal));
    }

    let switches = wanted.is_some();
    let forwarded = forward::forward(admitted, &target, &parts.headers, client, &route, switches, guard).await?;
    if let Some(wanted) = switched(wanted, forwarded.head.status)? {
        return upgraded(wanted, forwarded, parts, target, &route);
    }
    let (forwarded, held) = checked(forwarded, &route, guard).await?;
    let is_limited = matches!(route.access, Access::Scoped(_)) || route.networks.is_some();
    let lasts = is_limited && !forwarded.connection.has_arrived();
    let credentials = lasts.then(|| Box::new(Credentials::of(parts, &route, target.certificate)));
    Ok(Processed::Forwarded(forwarded, held, credentials))
}

/// The WebSocket that a request asks for, if it may.
fn websocket(
    parts: &Parts,
    has_body: bool,
    route: &Route,
    target: &RequestTarget<'_>,
    guard: &RecordGuard,
) -> Result<Option<Wanted>, Refusal> {
    let wanted = upgrade::wanted(parts, has_body, route.websocket.as_ref())?;
    if wanted.is_some() {
        let own = (target.scheme, target.authority());
        upgrade::check_origin(route.api().cors(), guard.origin.as_ref(), own)?;
    }
    Ok(wanted)
}

/// The WebSocket that a request has asked for, if this status of the upstream's response opens it.
fn switched(wanted: Option<Wanted>, status: StatusCode) -> Result<Option<Wanted>, Refusal> {
    match wanted {
        Some(wanted) if status == StatusCode::SWITCHING_PROTOCOLS => Ok(Some(wanted)),
        Some(wanted) if wanted.is_opened_by(status) => Err(not_switched("it has not switched to WebSocket")),
        _ => Ok(None),
    }
}

/// Lets a part of this process answer a request.
async fn answered_by(
    own: Own,
    in_force: &InForce,
    request: &Request<'_>,
    admitted: Admitted,
    tokens: &TokenCache,
    trace: &mut Trace,
) -> Result<Box<Answer>, Refusal> {
    match own {
        Own::TokenService(endpoint) => {
            token_service::answer(endpoint, in_force, request, admitted, tokens, trace).await
        }
        Own::SelfService(endpoint) => self_service::answer(endpoint, in_force, request, admitted, trace).await,
    }
}

/// Passes a response through the check of its route, if it has one.
async fn checked(
    forwarded: Forwarded,
    route: &Arc<Route>,
    guard: &mut RecordGuard,
) -> Result<(Forwarded, Held), Refusal> {
    match &route.response {
        None => Ok((forwarded, Held::default())),
        Some(requirement) => {
            let headers = forwarded.head.fields.to_map();
            let checked = response_check::check(forwarded, route, requirement, &headers, guard);
            let (mut forwarded, held) = Box::pin(checked).await?;
            if !held.pieces.is_empty() {
                // Its trailers were not part of what was checked, and are gone.
                forwarded.head.fields.remove(&TRAILER);
            }
            Ok((forwarded, held))
        }
    }
}

/// Goes on with an upstream that has switched protocols.
#[cold]
fn upgraded(
    wanted: Wanted,
    forwarded: Forwarded,
    parts: &Parts,
    target: RequestTarget<'_>,
    route: &Route,
) -> Result<Processed, Refusal> {
    let Forwarded { head, connection, .. } = forwarded;
    // Routes for WebSockets have no servers of HTTP/2.
    let UpstreamExchange::Http1(connection) = connection else {
        return Err(not_switched("it is a response of HTTP/2"));
    };
    if !wanted.is_answered_by(&head.fields) {
        return Err(not_switched("its `Sec-WebSocket-Accept` is not the answer to the request's key"));
    }
    let credentials = Credentials::of(parts, route, target.certificate);
    Ok(Processed::Upgraded(head, wanted.go_on(connection, credentials)))
}

fn not_switched(cause: &'static str) -> Refusal {
    let detail = "the upstream sent an invalid response";
    Refusal::new(Stage::Forward, Reason::InvalidUpstreamResponse, detail).cause(cause)
}

/// Returns the response after which the connection is a WebSocket.
fn answer_upgraded(head: Head, upgraded: Box<Upgraded>, mut guard: Box<RecordGuard>) -> ClientResponse {
    let Head { status, reason, mut fields, .. } = head;
    fields.push(X_REQUEST_ID, guard.exchange.id.to_header());
    fields.extend(std::mem::take(&mut guard.trace.counting.headers).into_fields());
    guard.finish(&mut fields, true);
    let body = ResponseBody::local(Bytes::new(), guard);
    ClientResponse { status, reason, fields, body, upgraded: Some(upgraded) }
}

/// Answers what no route is asked about: requests to a listener that redirects, requests to the proxy itself, and preflights.
async fn answer_here(
    client: &ClientConnection,
    guard: &mut RecordGuard,
    parts: &Parts,
    target: &mut RequestTarget<'_>,
) -> Result<Option<Processed>, Refusal> {
    let view = guard.view();
    let (policy, ledger) = (&view.in_force.policy, &view.in_force.ledger);
    if let Some(listener) = policy.listener(client.activity.listener) {
        if let Some(port) = listener.redirect {
            let location = redirect::location(policy, &guard.exchange, target, port)?;
            return Ok(Some(Processed::Redirected(location)));
        }
        target.take_certificate(listener, &parts.headers, &guard.exchange, &view)?;
    }
    if target.ends_here {
        return Ok(Some(Processed::Nothing));
    }
    if !policy.has_cors() {
        return Ok(None);
    }
    guard.origin = cors::origin(&parts.headers).cloned();
    if let Some(preflight) = Preflight::of(&parts.method, &parts.headers)
        && let Some(route) = preflight::route(policy, &preflight, &guard.exchange, parts.uri.query())
    {
        let route = Arc::clone(guard.route.insert(route));
        if let Some(cors) = route.api().cors() {
            let about = (&guard.exchange, &**ledger);
            let permitted = preflight::permit(cors, &preflight, &parts.headers, about, &mut guard.trace.counting);
            // Boxed: rare; it would be part of every request's future.
            return Box::pin(permitted).await.map(|fields| Some(Processed::Permitted(fields)));
        }
    }
    Ok(None)
}

/// Decides whether the key of the listener is fresh enough, if it comes from the vault.
#[cold]
fn key_is_fresh(in_force: &InForce, client: &ClientConnection) -> Result<(), Refusal> {
    let mut listeners = in_force.policy.listeners().iter();
    let position = listeners.position(|listener| listener.address == client.activity.listener);
    if position.is_some_and(|position| in_force.stale.has_listener(position)) {
        let detail = "this listener cannot vouch for its certificate now; try again shortly";
        let cause = "the key of the listener is stale, and `secrets.vault.on_failure` is `refuse`";
        return Err(Refusal::new(Stage::Auth, Reason::IdentityUnavailable, detail).cause(cause));
    }
    Ok(())
}

/// Returns the answer to a request to the proxy itself: OPTIONS for `*`, or with no hop left (RFC 9110 §9.3.7, §7.6.2). It
/// says nothing of routes, because nobody was authenticated.
fn answer_itself(mut guard: Box<RecordGuard>) -> ClientResponse {
    let status = StatusCode::NO_CONTENT;
    guard.answering(status);
    let mut fields = ResponseFields::default();
    fields.push(X_REQUEST_ID, guard.exchange.id.to_header());
    ClientResponse { status, reason: None, fields, body: ResponseBody::local(Bytes::new(), guard), upgraded: None }
}

/// Returns an answer without a body that says all it has to in these fields.
fn answer_alone(
    status: StatusCode,
    with: Vec<(HeaderName, HeaderValue)>,
    mut guard: Box<RecordGuard>,
) -> ClientResponse {
    guard.answering(status);
    let mut fields = ResponseFields::default();
    fields.push(X_REQUEST_ID, guard.exchange.id.to_header());
    fields.extend(with);
    ClientResponse { status, reason: None, fields, body: ResponseBody::local(Bytes::new(), guard), upgraded: None }
}

/// Returns the answer of a part of this process.
fn answer_own(answer: Answer, mut guard: Box<RecordGuard>) -> ClientResponse {
    let Answer { status, headers, body } = answer;
    guard.answering(status);
    let mut fields = ResponseFields::from(&headers);
    fields.push(X_REQUEST_ID, guard.exchange.id.to_header());
    fields.extend(std::mem::take(&mut guard.trace.counting.headers).into_fields());
    ClientResponse { status, reason: None, fields, body: ResponseBody::local(body, guard), upgraded: None }
}

/// Returns the response for a refusal.
fn refuse(refusal: &Refusal, mut guard: Box<RecordGuard>) -> ClientResponse {
    let (status, fields, body) = render(refusal, &mut guard);
    guard.answering(status);
    guard.refused(refusal);
    ClientResponse { status, reason: None, fields, body: ResponseBody::local(body, guard), upgraded: None }
}

/// Replaces a response by a refusal if it breaks at its beginning. HTTP/2 sends its head next.
pub(super) fn begin(response: &mut ClientResponse, cx: &mut Context<'_>) {
    response.body.poll_beginning(cx);
    replace_interrupted(response);
}

/// Replaces a response that was interrupted before any of it was sent. Otherwise the client would get no response at all,
/// and many clients then repeat the request (RFC 9110 §9.2.2). Returns false if it was not interrupted.
pub(super) fn replace_interrupted(response: &mut ClientResponse) -> bool {
    let ClientResponse { status, reason, fields, body, .. } = response;
    let Some(refusal) = body.take_interruption() else { return false };
    body.replace(|guard| {
        let content;
        (*status, *fields, content) = render(&refusal, guard);
        *reason = None;
        guard.discarded();
        guard.answering(*status);
        guard.refused(&refusal);
        content
    });
    true
}

/// Records a request that is not answered: its head was not received whole, or HTTP/2 itself refused it.
pub(super) fn record_unanswered(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    version: Option<Version>,
    refusal: &Refusal,
) {
    client.begin();
    let mut exchange = Exchange::unparsed(&client.peer);
    exchange.version = version;
    let mut guard = RecordGuard::new(worker, client, || exchange);
    guard.refused(refusal);
    guard.unsent(0, true);
}

/// Refuses a head that cannot be read, and records it. Returns the response to write.
pub(super) fn refuse_head(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    refusal: &Refusal,
) -> (StatusCode, ResponseFields, Bytes) {
    client.begin();
    let mut guard = RecordGuard::new(worker, client, || Exchange::unparsed(&client.peer));
    guard.refused(refusal);
    let mut response = render(refusal, &mut guard);
    guard.sent(response.2.len());
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&guard.exchange.at);
    if let Some(date) = date.ok().and_then(|date| HeaderValue::try_from(date).ok()) {
        response.1.push(http::header::DATE, date);
    }
    response
}

fn render(refusal: &Refusal, guard: &mut RecordGuard) -> (StatusCode, ResponseFields, Bytes) {
    let of_oauth = guard.route.as_ref().and_then(|route| route.own).is_some_and(Own::is_of_oauth);
    let id = &guard.exchange.id;
    let (mut status, mut headers, mut body) = if of_oauth { refusal.oauth_answer(id) } else { refusal.answer(id) };
    if guard.is_grpc {
        grpc::make_trailers_only(&mut headers, refusal);
        (status, body) = (StatusCode::OK, Bytes::new());
    }
    let mut fields = ResponseFields::from(&headers);
    fields.extend(std::mem::take(&mut guard.trace.counting.headers).into_fields());
    guard.finish(&mut fields, false);
    (status, fields, body)
}
