//! Sends an admitted request to the upstream and brings back its answer.
//!
//! It takes [`Admitted`] by value: what did not pass the chain cannot be sent. What failed is told apart: the client's own
//! body, no connection, no answer in time, an answer that is not acceptable.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

use super::pool::{ConnectError, Link, Pool, SendError};
use super::witness::Witness;
use crate::chain::Admitted;
use crate::policy::Route;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::Caller;
use crate::stages::schema::body::{Body, Counter, Progress};

const X_CONSUMER_ID: HeaderName = HeaderName::from_static("x-consumer-id");
const X_CONSUMER_SCOPES: HeaderName = HeaderName::from_static("x-consumer-scopes");
const X_CONSUMER_PLAN: HeaderName = HeaderName::from_static("x-consumer-plan");
const X_CREDENTIAL_ID: HeaderName = HeaderName::from_static("x-credential-id");

/// An answer whose body is still to be read, with the connection it comes from.
pub(crate) struct Forwarded {
    /// Head and body.
    pub(crate) response: Response<Incoming>,
    /// The connection.
    pub(crate) link: Link,
    /// Where it goes back to.
    pub(crate) pool: Rc<Pool>,
}

/// Sends an admitted request. `parts` is its head, already fit to be sent; what of it goes upstream is taken out.
pub(crate) async fn forward(
    admitted: Admitted,
    parts: &mut Parts,
    route: &Route,
    witness: &mut Witness,
) -> Result<Forwarded, Refusal> {
    let (caller, body) = admitted.into_parts();
    let upstream = route.api().upstream();
    let here = Rc::clone(&witness.here);
    let server = upstream.choose();
    let Some((server, pool)) = server.and_then(|server| Some((server, here.pools.of(server)?))) else {
        return Err(unreachable().cause("the API has no server"));
    };
    witness.asked(server);

    parts.headers.insert(HOST, server.authority.clone());
    introduce(&mut parts.headers, caller.as_deref());
    let mut request = Request::new(body);
    *request.method_mut() = std::mem::take(&mut parts.method);
    *request.uri_mut() = std::mem::take(&mut parts.uri);
    *request.headers_mut() = std::mem::take(&mut parts.headers);

    let asked = Instant::now();
    let sending = pin!(send(pool, request));
    let answer = in_time(upstream.response_timeout, &witness.counter, sending).await;
    // When the client's own body broke, that is told to the client, and is not the upstream's fault.
    let (link, response) = answer.map_err(|refusal| witness.counter.failure().unwrap_or(refusal))?;
    acceptable(&response)?;
    witness.answers(response.status(), asked.elapsed());
    Ok(Forwarded { response, link, pool: Rc::clone(pool) })
}

/// Waits for an answer for so long, once the client has sent its whole body: an upload takes its own time.
async fn in_time<T>(
    limit: Duration,
    counter: &Counter,
    mut answer: Pin<&mut impl Future<Output = Result<T, Refusal>>>,
) -> Result<T, Refusal> {
    let mut left = limit;
    loop {
        if let Ok(answered) = tokio::time::timeout(left, answer.as_mut()).await {
            return answered;
        }
        left = match counter.progress() {
            Progress::Whole => Duration::ZERO,
            Progress::Streaming => limit,
            Progress::Finished(at) => limit.saturating_sub(at.elapsed()),
        };
        if left.is_zero() {
            let detail = "the service behind did not answer in time; try again later";
            return Err(Refusal::new(Stage::Forward, Reason::UpstreamTimeout, detail));
        }
    }
}

/// What hyper takes of an upstream, and a client must not get: an upgrade nobody asked for, a transfer coding that hyper
/// does not undo.
fn acceptable(response: &Response<Incoming>) -> Result<(), Refusal> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(invalid().cause("the upstream switched protocols unasked"));
    }
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            if response.headers().contains_key(CONTENT_LENGTH) {
                return Err(invalid().cause("the upstream sent both Content-Length and Transfer-Encoding"));
            }
            Ok(())
        }
        _ => Err(invalid().cause("the upstream's transfer coding is not plain chunked")),
    }
}

/// Sends over an idle connection, or a new one. A request of which nothing was sent is sent again.
async fn send(pool: &Rc<Pool>, mut request: Request<Body>) -> Result<(Link, Response<Incoming>), Refusal> {
    loop {
        let mut link = match pool.take() {
            Some(link) => link,
            None => pool.connect().await.map_err(|error| match &error {
                ConnectError::Timeout => {
                    Refusal::new(Stage::Forward, Reason::UpstreamTimeout, "the service behind takes no connection")
                        .cause(error.to_string())
                }
                ConnectError::Connect(_) | ConnectError::Tls(_) => unreachable().cause(error.to_string()),
            })?,
        };
        match link.send(request).await {
            Ok(response) => return Ok((link, response)),
            Err(SendError::Unsent(unsent)) => request = *unsent,
            Err(SendError::Broken(error)) if error.is_parse() => return Err(invalid().cause(error.to_string())),
            Err(SendError::Broken(error)) => return Err(unreachable().cause(error.to_string())),
        }
    }
}

/// Makes a head fit to be sent: what may not cross is removed, what the upstream is told is set.
pub(crate) fn prepare(parts: &mut Parts, target: Uri, route: &Route, key_header: &HeaderName) {
    let trailers_wanted = parts.headers.get(TE).is_some();
    if !route.api().upstream().forward_credentials {
        parts.headers.remove(AUTHORIZATION);
        parts.headers.remove(key_header);
    }
    if trailers_wanted {
        // RFC 9110 §10.1.4: TE is for the next hop alone, and says so.
        parts.headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    parts.uri = target;
}

/// Tells the upstream who is calling.
fn introduce(headers: &mut HeaderMap, caller: Option<&Caller>) {
    let Some(told) = caller.map(Caller::told) else { return };
    headers.insert(X_CONSUMER_ID, told.consumer.clone());
    headers.insert(X_CONSUMER_SCOPES, told.scopes.clone());
    if let Some(plan) = &told.plan {
        headers.insert(X_CONSUMER_PLAN, plan.clone());
    }
    if let Some(credential) = &told.credential {
        headers.insert(X_CREDENTIAL_ID, credential.clone());
    }
}

fn unreachable() -> Refusal {
    Refusal::new(Stage::Forward, Reason::UpstreamUnreachable, "the service behind is not reachable; try again later")
}

fn invalid() -> Refusal {
    Refusal::new(Stage::Forward, Reason::InvalidUpstreamResponse, "the service behind gave no valid answer")
}
