//! Sends an admitted request to the upstream and reads the head of its response.
//!
//! It takes [`Admitted`] by value, so a request that did not pass the chain cannot be sent. Failures are distinguished:
//! the client's body, no connection, no response in time, an invalid response.

use std::borrow::Cow;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use hyper::body::Body as _;

use super::attempts::Attempts;
use super::record_guard::RecordGuard;
use super::target::RequestTarget;
use crate::body::{Body, Progress};
use crate::chain::Admitted;
use crate::error_text;
use crate::exchange::{Exchange, Tick};
use crate::grpc;
use crate::policy::upstream::{ForwardedHost, RetryCause};
use crate::policy::{Api, Route, Server, Upstream};
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::headers::{Origin, UpstreamHeaders};
use crate::proxy::upstream::{
    Choice, Chosen, ConnectError, Head, Pool, Pools, RequestHead, ResponseError, UpstreamExchange, choose, outlier,
};
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::runtime::InForce;
use crate::state::endpoint::ApiPermit;

/// How many connections to an address may turn out not to take a request, before a new one is opened for it.
const MOST_UNSENT: u32 = 3;

/// A response whose body is still to be read, from this exchange.
pub(crate) struct Forwarded {
    pub(crate) head: Head,
    pub(crate) connection: UpstreamExchange,
    /// The pool that the connection returns to.
    pub(crate) pool: Rc<Pool>,
}

/// Sends an admitted request; if that fails, once more as often as the policy allows. `switches`: it asks for a WebSocket.
pub(crate) async fn forward(
    admitted: Admitted,
    target: &RequestTarget<'_>,
    headers: &HeaderMap,
    client: &ClientConnection,
    route: &Route,
    switches: bool,
    guard: &mut RecordGuard,
) -> Result<Forwarded, Refusal> {
    let (caller, mut body) = admitted.into_parts();
    let (api, view) = (route.api(), guard.view());
    let (upstream, in_force, pools) = (api.upstream(), &view.in_force, view.pools());
    let load = in_force.load(api).ok_or_else(|| unreachable().cause("the API has no servers"))?;
    let permit = load.begin(upstream.requests).ok_or_else(too_many)?;
    let limit = response_limit(upstream, headers, &mut body, guard);

    let Exchange { id, version, method, .. } = &guard.exchange;
    let (id, version, method) = (*id, version.unwrap_or_default(), method.clone().unwrap_or_default());
    let upstream_headers = UpstreamHeaders {
        trusted_peer: target.trusted_peer,
        peer: &client.peer.text,
        scheme: client.peer.scheme(),
        host: target.host.as_ref(),
        version,
        request_id: id.as_str(),
        credentials: Some(api.credentials()).filter(|_| !upstream.forward_credentials),
        caller: caller.as_deref(),
        rules: in_force.policy.headers(),
        keep: api.kept_headers(),
        changes: api.request_headers(),
        contract: route.response.as_ref(),
        is_safe: method.is_safe(),
        trace: guard.upstream_trace(headers),
        announces_trailers: body.size_hint().exact().is_none(),
        switches,
    };
    client.gather(version).await;
    let begin = |connection: &mut UpstreamExchange, server: &Server, body, now| {
        let head = RequestHead {
            method: &method,
            target: &target_there(server, &target.target),
            is_https: server.tls.is_some(),
            authority: sent_host(upstream, server, target.host.as_ref()),
            rules: &upstream_headers,
            received: headers,
        };
        connection.begin(&head, body, now);
    };
    let now = Instant::now();
    let attempts = Attempts::new(upstream.retries.as_ref(), &method, load, now, limit.time);
    let sending = Sending { in_force, api, pools: &pools, begin, attempts, limit, now };
    let mut forwarded = sending.send(body, permit, guard).await?;
    guard.answers_grpc = guard.is_grpc && grpc::is_response(forwarded.head.fields.iter());
    let server = &*forwarded.pool.server;
    let host = sent_host(upstream, server, target.host.as_ref()).as_bytes();
    let scheme = matches!(upstream.host, ForwardedHost::Preserved).then_some(target.scheme);
    Origin { policy: &in_force.policy, api, server, host, scheme }.map_back(&mut forwarded.head.fields);
    Ok(forwarded)
}

/// How long the head of a response may take.
#[derive(Clone, Copy)]
struct Limit {
    time: Duration,
    /// The client wants it sooner than the policy: if it does not come then, that is no fault of the server's.
    is_clients: bool,
}

/// The limit of a response. Over HTTP/2, a client of gRPC may want it sooner; its messages come when it has some.
fn response_limit(upstream: &Upstream, headers: &HeaderMap, body: &mut Body, guard: &RecordGuard) -> Limit {
    let own = Limit { time: upstream.response_timeout, is_clients: false };
    if !guard.is_grpc || !upstream.speaks_http2() {
        return own;
    }
    body.allow_pauses();
    let wanted = grpc::timeout(headers).filter(|wanted| *wanted < own.time);
    wanted.map_or(own, |time| Limit { time, is_clients: true })
}

/// Path and query of a request to a server.
fn target_there<'a>(server: &Server, target: &'a str) -> Cow<'a, str> {
    match &*server.base {
        "" => Cow::Borrowed(target),
        base => Cow::Owned(format!("{base}{target}")),
    }
}

/// `Host` of a request to a server.
fn sent_host<'a>(upstream: &'a Upstream, server: &'a Server, received: Option<&'a HeaderValue>) -> &'a HeaderValue {
    match &upstream.host {
        ForwardedHost::Server => &server.authority,
        ForwardedHost::Preserved => received.unwrap_or(&server.authority),
        ForwardedHost::Literal(host) => host,
    }
}

/// A request that is being sent.
struct Sending<'a, B> {
    in_force: &'a InForce,
    api: &'a Api,
    pools: &'a Pools,
    /// Begins it on a connection to this server, now.
    begin: B,
    attempts: Attempts<'a>,
    /// How long the head of the response may take.
    limit: Limit,
    /// The time when something was last waited for: to read the clock again costs more than what is done with it.
    now: Instant,
}

impl<B: Fn(&mut UpstreamExchange, &Server, Body, Instant)> Sending<'_, B> {
    /// Sends it to one server after the other, until there is a response, or no reason to go on.
    async fn send(mut self, mut body: Body, permit: ApiPermit, guard: &mut RecordGuard) -> Result<Forwarded, Refusal> {
        let candidates = self.pools.of(self.api);
        // The position of the address at which it waits for a connection, because those to the others are in use, too.
        let mut full = None;
        loop {
            let chosen = full.or_else(|| self.choose(candidates));
            let Some((position, pool)) = chosen.and_then(|position| Some((position, candidates.get(position)?))) else {
                return Err(none_left(candidates.is_empty()));
            };
            guard.sent_to(&pool.server, self.attempts.number());
            let in_flight = pool.endpoint.begin();
            let failure = match self.attempt(pool, body, full.is_some(), guard).await {
                Ok((mut connection, head, after)) => {
                    self.note(candidates, pool, !outlier::is_failure(head.status));
                    let cause = RetryCause::Status(head.status);
                    match connection.take_request().filter(|_| self.attempts.may_repeat(cause, Instant::now)) {
                        Some(again) => {
                            if connection.discard_body() {
                                pool.put(connection);
                            }
                            Failure::Unwanted(again)
                        }
                        None => {
                            guard.responding(head.status, after);
                            connection.count((in_flight, permit));
                            return Ok(Forwarded { head, connection, pool: Rc::clone(pool) });
                        }
                    }
                }
                Err(failure) => failure,
            };
            drop(in_flight);
            // If the client's body ended early, the refusal says so: it is not the upstream's fault, nor to its credit.
            if let Failure::Impatient(_) | Failure::Refused(_) = &failure
                && let Some(own) = guard.counter.failure()
            {
                return Err(own);
            }
            if failure.is_of_the_server() {
                self.note(candidates, pool, false);
            }
            if let Failure::NotConnected(..) = failure {
                pool.endpoint.unreachable(self.tick());
            }
            let waited = full.take().is_some();
            let again = self.again(failure, candidates, position, waited);
            let again = again.map_err(|refusal| guard.counter.failure().unwrap_or(refusal))?;
            match again.when {
                When::Free => full = Some(position),
                When::Now => pool.retried(),
                When::Later => {
                    pool.retried();
                    self.attempts.pause(position).await;
                }
            }
            (body, self.now) = (again.body, Instant::now());
        }
    }

    fn tick(&self) -> Tick {
        self.in_force.ledger.tick(Instant::now())
    }

    /// Notes whether the server of an address has failed.
    fn note(&self, candidates: &[Rc<Pool>], pool: &Pool, is_good: bool) {
        match is_good {
            true => pool.endpoint.succeeded(),
            false => outlier::failed(self.api.upstream(), self.attempts.load(), candidates, pool, self.tick()),
        }
    }

    fn choose(&self, candidates: &[Rc<Pool>]) -> Option<usize> {
        let upstream = self.api.upstream();
        let choice = Choice {
            balance: upstream.balance,
            turn: self.in_force.turn(self.api),
            now: self.in_force.ledger.tick(self.now),
            tried: self.attempts.tried(),
            refuses_if_none_left: upstream.refuses_if_none_left,
        };
        let Chosen { position, is_last_resort } = choose(candidates, |pool| &pool.endpoint, choice)?;
        if is_last_resort {
            candidates.get(position)?.last_resort();
        }
        Some(position)
    }

    /// What is sent once more after a failure, at this address or another one; otherwise the refusal. `waited`: for a connection
    /// to this one.
    fn again(
        &mut self,
        failure: Failure,
        candidates: &[Rc<Pool>],
        position: usize,
        waited: bool,
    ) -> Result<Again, Refusal> {
        let now = self.tick();
        let own = candidates.get(position).map(|pool| pool.server.index);
        let is_available = |pool: &Rc<Pool>| pool.endpoint.is_available(now);
        let mut has_another = |is_of_any_server: bool| {
            let is_own = |pool: &Rc<Pool>| is_of_any_server || Some(pool.server.index) == own;
            let is_worth_trying = |pool: &Rc<Pool>| is_available(pool) && is_own(pool);
            self.attempts.has_another_address(position, candidates.iter().map(is_worth_trying), Instant::now)
        };
        let (cause, refusal, body) = match failure {
            Failure::Unwanted(body) => return Ok(Again { body, when: When::Later }),
            // In HTTP/2, a server says that it does not take it.
            Failure::Unsent(body) if has_another(true) => return Ok(Again { body, when: When::Now }),
            Failure::Full { body, is_of_address: true, .. } if !waited => {
                let is_elsewhere = self.attempts.has_another_free(position, candidates.iter().map(is_available));
                return Ok(Again { body, when: if is_elsewhere { When::Now } else { When::Free } });
            }
            Failure::Full { refusal, .. } | Failure::Refused(refusal) | Failure::Impatient(refusal) => {
                return Err(refusal);
            }
            Failure::NotConnected(_, body) if has_another(false) => return Ok(Again { body, when: When::Now }),
            Failure::NotConnected(refusal, body) => (RetryCause::NotConnected, refusal, Some(body)),
            Failure::Unsent(body) => (RetryCause::NotConnected, unreachable(), Some(body)),
            Failure::Unanswered { refusal, body, .. } => (RetryCause::Unanswered, refusal, body),
        };
        let body = body.filter(|_| self.attempts.may_repeat(cause, Instant::now)).ok_or(refusal)?;
        Ok(Again { body, when: When::Later })
    }

    /// Sends it to one address, and waits for the head of the response. A connection that had been used before may have been
    /// closed meanwhile: then another is taken if nothing was sent, and a new one is opened, once, if it is idempotent. `waits`: for
    /// its turn to have a connection.
    async fn attempt(
        &self,
        pool: &Rc<Pool>,
        mut body: Body,
        waits: bool,
        guard: &RecordGuard,
    ) -> Result<(UpstreamExchange, Head, Duration), Failure> {
        let (mut only_new, mut unsent_before, mut now) = (false, 0, self.now);
        loop {
            let mut connection = match if only_new || waits { None } else { pool.take(now) } {
                Some(connection) => connection,
                None => {
                    let connection = match waits {
                        true => self.pools.wait(pool, only_new, self.attempts.left(now)).await,
                        false => self.pools.connect(pool).await,
                    };
                    now = Instant::now();
                    match connection {
                        Ok(connection) => connection,
                        Err(error) => return Err(not_connected(&error, body)),
                    }
                }
            };
            let mut limit = Limit { time: self.attempts.limit(self.limit.time, || now), ..self.limit };
            if waits && limit.is_clients {
                limit.time = limit.time.min(self.attempts.left(now));
            }
            (self.begin)(&mut connection, &pool.server, body, now);
            match response_head(&mut connection, limit, guard).await {
                Ok((head, after)) => return Ok((connection, head, after)),
                // In HTTP/2, the server of a new connection may refuse it as well.
                Err(Failure::Unsent(unsent)) if !only_new => {
                    (body, unsent_before) = (unsent, unsent_before + 1);
                    only_new = unsent_before == MOST_UNSENT;
                }
                Err(Failure::Unanswered { reused: true, body: Some(again), .. })
                    if self.attempts.is_idempotent && !only_new =>
                {
                    (only_new, body) = (true, again);
                }
                Err(failure) => return Err(failure),
            }
            now = Instant::now();
        }
    }
}

/// What is sent once more.
struct Again {
    body: Body,
    when: When,
}

/// When a request is sent once more.
enum When {
    Now,
    /// After a pause.
    Later,
    /// At this address, when it is its turn to have a connection.
    Free,
}

/// Why there is no head of a response.
enum Failure {
    /// There is one, but the request is sent elsewhere.
    Unwanted(Body),
    /// There is no connection.
    NotConnected(Refusal, Body),
    /// There are as many connections as there may be: to the address, or of the process.
    Full {
        refusal: Refusal,
        is_of_address: bool,
        body: Body,
    },
    /// No byte was sent: the request may be sent on another connection.
    Unsent(Body),
    /// No byte of a response came, but the request may have been handled. The body, unless it was streaming.
    Unanswered {
        refusal: Refusal,
        reused: bool,
        body: Option<Body>,
    },
    /// The client did not want to wait any longer.
    Impatient(Refusal),
    Refused(Refusal),
}

impl Failure {
    /// Whether it counts against the server.
    fn is_of_the_server(&self) -> bool {
        match self {
            // Its status has been noted, or nothing was asked of it.
            Self::Unwanted(_) | Self::Full { .. } | Self::Impatient(_) => false,
            Self::NotConnected(..) | Self::Unsent(_) | Self::Unanswered { .. } | Self::Refused(_) => true,
        }
    }
}

/// Sends the request that was begun and waits for the head of the response. `limit` counts from when the client has
/// sent its whole body, because an upload takes its own time. Also returns how long the upstream took. Interim responses go to
/// the client as they come.
async fn response_head(
    connection: &mut UpstreamExchange,
    Limit { time: limit, is_clients }: Limit,
    guard: &RecordGuard,
) -> Result<(Head, Duration), Failure> {
    let counter = &guard.counter;
    let begun = connection.begun();
    connection.deadline().not_after(begun + limit);
    let response = poll_fn(|cx| {
        let polled = connection.poll_head(cx);
        guard.interim(connection.interims());
        if let Poll::Ready(response) = polled {
            return Poll::Ready(Some(response));
        }
        let stalled = connection.stalled();
        ready!(connection.deadline().poll(cx, |now| waited_since(counter.progress(), begun, stalled, now) + limit));
        if !is_clients {
            connection.gave_up();
        }
        Poll::Ready(None)
    });
    match response.await {
        Some(Ok(head)) => Ok((head, begun.elapsed())),
        Some(Err(ResponseError::Unsent(body))) => Err(Failure::Unsent(body)),
        Some(Err(ResponseError::Unanswered { error, reused, body })) => {
            let refusal = unreachable().cause(format!("the connection failed: {}", error_text::connection(&error)));
            Err(Failure::Unanswered { refusal, reused, body })
        }
        // The server knows the limit of the client, and may cancel the call itself.
        Some(Err(error @ ResponseError::Reset(h2::Reason::CANCEL))) if is_clients => {
            Err(Failure::Impatient(out_of_time().cause(error.to_string())))
        }
        Some(Err(error)) => Err(Failure::Refused(match &error {
            ResponseError::Invalid(_) | ResponseError::Reset(_) => invalid().cause(error.to_string()),
            _ => unreachable().cause(error.to_string()),
        })),
        None if is_clients => Err(Failure::Impatient(out_of_time())),
        None => Err(Failure::Refused(timeout("the upstream did not respond in time; try again later"))),
    }
}

/// Since when it is the upstream's turn, for a request that `begun` then.
fn waited_since(sent: Progress, begun: Instant, stalled: Option<Instant>, now: Instant) -> Instant {
    match sent {
        Progress::Whole => begun,
        // An upstream that accepts nothing of the body gets no more time for it.
        Progress::Streaming => stalled.unwrap_or(now),
        Progress::Finished(at) => at.into_std(),
    }
}

fn out_of_time() -> Refusal {
    timeout("the upstream did not respond within `grpc-timeout`; allow more time")
}

fn not_connected(error: &ConnectError, body: Body) -> Failure {
    let is_of_address = matches!(error, ConnectError::TooManyHere);
    let refusal = match error {
        ConnectError::TooMany | ConnectError::TooManyHere => {
            return Failure::Full { refusal: too_many().cause(error.to_string()), is_of_address, body };
        }
        ConnectError::Timeout => timeout("the upstream did not accept a connection in time; try again later"),
        ConnectError::Connect(_) | ConnectError::Tls(_) | ConnectError::NotHttp2 | ConnectError::Http2(_) => {
            unreachable()
        }
    };
    Failure::NotConnected(refusal.cause(error.to_string()), body)
}

fn too_many() -> Refusal {
    overloaded("too many requests wait for the upstream; try again later")
}

/// No address may be used: none is known, or all are drained or unhealthy.
#[cold]
fn none_left(unknown: bool) -> Refusal {
    if unknown {
        return unreachable().cause("no address of the API's servers is known");
    }
    overloaded("no server of this API is available; try again later")
        .cause("all servers are drained, unhealthy or ejected")
}

fn overloaded(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Forward, Reason::Overloaded, detail)
        .members(Members { retry_after: Some(1), ..Members::default() })
}

fn timeout(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Forward, Reason::UpstreamTimeout, detail)
}

fn unreachable() -> Refusal {
    Refusal::new(Stage::Forward, Reason::UpstreamUnreachable, "the upstream is not reachable; try again later")
}

fn invalid() -> Refusal {
    Refusal::new(Stage::Forward, Reason::InvalidUpstreamResponse, "the upstream sent an invalid response")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2: a client that sends slowly takes nothing of the upstream's time, and an upstream that takes nothing gains none.
    #[test]
    fn an_upload_takes_its_own_time() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        for (sent, stalled, now, since) in [
            (Progress::Whole, None, 9, 0),
            (Progress::Whole, Some(3), 9, 0),
            (Progress::Streaming, None, 9, 9),
            (Progress::Streaming, Some(3), 9, 3),
            (Progress::Finished(at(5).into()), None, 9, 5),
            (Progress::Finished(at(5).into()), Some(3), 9, 5),
        ] {
            assert_eq!(waited_since(sent, begun, stalled.map(at), at(now)), at(since), "{sent:?} {stalled:?}");
        }
    }
}
