//! One client connection: TLS handshake, protocol detection, and what follows the last request.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::accepted::{Accepted, Open};
use super::activity::{Activity, Ending};
use super::client::{ClientConnection, Phase};
use super::closing::Closing;
use super::connection_limit::Permit;
use super::deadlines::{Command, Cut, FINISH, run_until_deadline};
use super::http2;
use super::proxy_protocol::{self, Source};
use super::unfinished_head::{cut_short, evicted, too_slow};
use super::worker::Worker;
use crate::exchange::{ClientCertificate, Peer};
use crate::policy::{ListenerTls, Timeouts};
use crate::proxy::http1::fields::HeadLimits;
use crate::proxy::http1::wire::SharedWire;
use crate::proxy::http1::{self, End, Served, Wire};
use crate::proxy::request::record_unanswered;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::request::target;
use crate::proxy::request::upgrade::{Upgraded, tunnel};
use crate::proxy::stream::{Stream, tls_version};
use crate::stages::auth::certificate;

/// The client connection preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long the client of a WebSocket that has ended may take to close.
const CLOSE: Duration = Duration::from_secs(2);
/// Size of the first read, before the protocol is known, in bytes.
const FIRST_READ: usize = 8 * 1024;

/// Serves a connection until it ends, or has become a WebSocket, which is served by a smaller task.
///
/// Very many connections wait for a request at any time, so their task has room for little more than that wait: what comes before
/// it and after it is boxed, and so is the request.
pub(crate) fn serve(
    worker: Rc<Worker>,
    accepted: Accepted,
    open: Open,
) -> impl Future<Output = Option<Box<WebSocket>>> {
    let beginning = Box::pin(begin(worker, accepted));
    async move {
        let (connection, permit, http2) = beginning.await?;
        let Connection { worker, client, stream, prefix } = connection;
        if http2 {
            Box::pin(http2::serve(worker, client, stream, prefix)).await;
            return None;
        }
        let (limits, timeouts) = settings(&worker);
        let wire = Rc::new(RefCell::new(Wire::new(stream, Rc::clone(&client), prefix, limits)));
        let ended = serve_http1(&worker, &client, &wire, &timeouts).await;
        let (wire, upgraded, body) = Box::pin(end_http1(&worker, &client, wire, ended)).await?;
        Some(Box::new(WebSocket { client, wire, upgraded, body, _permit: permit, _open: open }))
    }
}

/// What a connection of HTTP/1 keeps of the policy that is in force when it begins.
fn settings(worker: &Worker) -> (HeadLimits, Timeouts) {
    let policy = &worker.view().in_force.policy;
    let limits = policy.limits();
    (HeadLimits { size: limits.header_size, headers: limits.headers }, policy.timeouts())
}

/// Begins a connection: finds out who is at its other end, and whether they speak HTTP/2. `None` if it has ended before.
async fn begin(worker: Rc<Worker>, accepted: Accepted) -> Option<(Connection, Permit, bool)> {
    let Accepted { stream, peer, listener, tls, proxy_protocol, mut permit } = accepted;
    let mut tcp = TcpStream::from_std(stream).ok()?;
    let timeout = worker.view().in_force.policy.timeouts().request_headers;
    let activity = Arc::clone(&permit.activity);
    let accepting = Box::pin(async {
        let client =
            if proxy_protocol { proxied(&worker, &mut tcp, peer, &mut permit, timeout).await? } else { Some(peer) };
        Some((client, accept_tls(tcp, tls, listener, timeout).await?))
    });
    let accepted = tokio::select! {
        accepted = accepting => accepted,
        () = gives_up(&activity) => return None,
    };
    let (named, (stream, session, http2)) = accepted?;
    let (tls_version, certificate) = session.unzip();
    let mut peer = Peer::new(named.unwrap_or(peer), tls_version);
    peer.hides_client = named.is_none();
    peer.certificate = certificate.flatten();
    let client = ClientConnection::new(peer, Arc::clone(&permit.activity), Instant::now());
    let mut connection = Connection { worker, client, stream, prefix: Bytes::new() };
    let http2 = match http2 {
        Some(http2) => http2,
        None => connection.detect_protocol().await?,
    };
    Some((connection, permit, http2))
}

/// Waits until a connection is to end of which no request has come. Where all finish, one may be on its way: it was accepted, and its
/// client cannot know better.
async fn gives_up(activity: &Activity) {
    if activity.ending_after(Ending::No).await == Ending::Finish {
        let _ = tokio::time::timeout(FINISH, activity.ending_after(Ending::Finish)).await;
    }
}

/// Reads for which client a proxy opened the connection, and counts it for that client. Returns the client's address, if the proxy
/// says it; `None` if the connection is to be closed.
async fn proxied(
    worker: &Worker,
    tcp: &mut TcpStream,
    proxy: SocketAddr,
    permit: &mut Permit,
    timeout: Duration,
) -> Option<Option<SocketAddr>> {
    let read = tokio::time::timeout(timeout, proxy_protocol::read(tcp)).await;
    let client = match read.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
        Ok(Source::Client(client)) => client,
        Ok(Source::Proxy) => return Some(None),
        Err(error) => {
            tracing::debug!(%proxy, %error, "a PROXY protocol header was not received whole, or is malformed");
            worker.shared.metrics.connections_refused.inc();
            return None;
        }
    };
    let per_client = worker.view().in_force.policy.limits().per_client;
    if !permit.count_for(client.ip(), per_client) {
        worker.shared.metrics.connections_refused.inc();
        return None;
    }
    Some(Some(client))
}

/// The TLS version and the client's certificate.
type TlsSession = (&'static str, Option<Box<ClientCertificate>>);

/// Performs the TLS handshake, if any. Returns the stream, its TLS session, and whether ALPN selected HTTP/2 (`None`
/// without TLS).
async fn accept_tls(
    tcp: TcpStream,
    tls: Option<ListenerTls>,
    listener: SocketAddr,
    timeout: Duration,
) -> Option<(Stream, Option<TlsSession>, Option<bool>)> {
    let Some(ListenerTls { config, trust }) = tls else { return Some((Stream::Plain(tcp.into()), None, None)) };
    let handshake = tokio::time::timeout(timeout, TlsAcceptor::from(config).accept(tcp.into())).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    let (_, session) = stream.get_ref();
    let version = tls_version(session);
    let http2 = session.alpn_protocol() == Some(b"h2");
    let presented = session.peer_certificates().zip(trust.as_ref());
    let certificate = presented.and_then(|(chain, trust)| certificate::read(chain, listener, trust)).map(Box::new);
    Some((Stream::tls(stream.into()), Some((version, certificate)), Some(http2)))
}

/// A connection after its TLS handshake.
struct Connection {
    worker: Rc<Worker>,
    client: Rc<ClientConnection>,
    stream: Stream,
    /// Bytes that were read to detect the protocol.
    prefix: Bytes,
}

impl Connection {
    /// Reads until the preface shows whether this is HTTP/2. Returns `None` if the connection has ended before.
    async fn detect_protocol(&mut self) -> Option<bool> {
        let timeouts = self.worker.view().in_force.policy.timeouts();
        let mut prefix = BytesMut::with_capacity(FIRST_READ);
        loop {
            // One deadline for the first byte, and one for the preface from then on, however it is split.
            let deadline = self.client.deadline(&timeouts, Instant::now());
            let read = tokio::select! {
                read = tokio::time::timeout_at(deadline.into(), self.stream.read_buf(&mut prefix)) => read,
                () = gives_up(&self.client.activity), if prefix.is_empty() => return None,
            };
            let ended = !matches!(read, Ok(Ok(1..)));
            let matches_preface = prefix.iter().zip(PREFACE).all(|(byte, expected)| byte == expected);
            if prefix.len() >= PREFACE.len() || !matches_preface {
                self.prefix = prefix.freeze();
                return Some(matches_preface);
            }
            if ended {
                let Self { worker, client, stream, .. } = self;
                if !prefix.is_empty() && read.is_err() {
                    let closing = Closing { worker, client };
                    closing.write_final_response(stream, &too_slow()).await;
                } else if !prefix.is_empty() {
                    record_unanswered(worker, client, None, &cut_short());
                }
                return None;
            }
            self.client.head_begins();
        }
    }
}

/// Serves HTTP/1 until the connection ends, or is one of HTTP no more.
async fn serve_http1(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    wire: &Rc<RefCell<Wire>>,
    timeouts: &Timeouts,
) -> Result<Served, Cut> {
    let finish = Cell::new(false);
    let mut serving = pin!(http1::serve(worker, client, wire, &finish));
    run_until_deadline(
        client,
        timeouts,
        |_| None,
        |cx, command| {
            finish.set(finish.get() || command == Command::Finish);
            serving.as_mut().poll(cx)
        },
    )
    .await
}

/// Ends a connection of HTTP/1, unless it goes on as a WebSocket: then it returns that.
async fn end_http1(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    wire: Rc<RefCell<Wire>>,
    ended: Result<Served, Cut>,
) -> Option<(Wire, Box<Upgraded>, ResponseBody)> {
    // The serving future was dropped, so this is the only reference left.
    let mut wire = Rc::into_inner(wire).map(RefCell::into_inner)?;
    if let Err(Cut::Stalled) = ended {
        // The kernel still holds what the client does not take, and would for minutes.
        wire.abort();
    }
    let ended = match ended {
        Ok(Served::Upgraded(upgraded, body)) => return Some((wire, upgraded, body)),
        Ok(Served::Ended(end)) => Ok(end),
        Err(cut) => Err(cut),
    };
    let mut stream = wire.into_stream()?;
    let closing = Closing { worker, client };
    let refusal = match ended {
        Ok(End::Closed) | Err(Cut::Idle | Cut::Stalled) => {
            closing.close(&mut stream).await;
            return None;
        }
        Err(Cut::Evicted) => {
            if let Phase::Head(_) = client.phase() {
                record_unanswered(worker, client, None, &evicted());
            }
            return None;
        }
        Ok(End::CutShort) => {
            record_unanswered(worker, client, None, &cut_short());
            closing.close(&mut stream).await;
            return None;
        }
        Ok(End::Malformed(error)) => target::malformed_framing(error),
        Err(Cut::Head) => too_slow(),
    };
    closing.write_final_response(&mut stream, &refusal).await;
    None
}

/// A connection that has become a WebSocket. Its task is small, because there may be very many.
pub(super) struct WebSocket {
    client: Rc<ClientConnection>,
    wire: Wire,
    upgraded: Box<Upgraded>,
    body: ResponseBody,
    _permit: Permit,
    _open: Open,
}

impl WebSocket {
    /// Serves it until it ends.
    pub(super) async fn serve(self: Box<Self>) {
        let Self { client, wire, upgraded, mut body, _permit, _open } = *self;
        let timeouts = body.guard().view().in_force.policy.timeouts();
        let (wire, finish) = (RefCell::new(wire), Cell::new(false));
        let ended = {
            let early = wire.borrow_mut().take_input();
            let mut running = pin!(tunnel::run(SharedWire(&wire), early, upgraded, &mut body, &finish));
            run_until_deadline(
                &client,
                &timeouts,
                |_| None,
                |cx, command| {
                    finish.set(finish.get() || command == Command::Finish);
                    running.as_mut().poll(cx)
                },
            )
            .await
        };
        drop(body);
        let mut wire = wire.into_inner();
        match ended {
            Ok(()) => {
                let Some(mut stream) = wire.into_stream() else { return };
                // What was sent arrives; what the client still sends is of no use to anybody.
                let _ = tokio::time::timeout(CLOSE, stream.shutdown()).await;
                let mut discarded = [0; 512];
                let reading = async { while let Ok(1..) = stream.read(&mut discarded).await {} };
                let _ = tokio::time::timeout(CLOSE, reading).await;
            }
            Err(_) => wire.abort(),
        }
    }
}
