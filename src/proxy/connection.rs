//! One client connection: TLS, which HTTP it speaks, its deadlines, and an end that loses no answer.
//!
//! Deadlines are kept lazily: one timer a connection, looked at when it fires, never set anew for a request.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::arrival;
use super::framing::{Guard, HeadLimits};
use super::front::{Client, Front, Phase};
use super::gate::Slot;
use super::request::{handle, refuse_head};
use super::stream::Stream;
use super::thread::Open;
use super::worker::Worker;
use crate::exchange::{ClientCertificate, Peer};
use crate::policy::{ListenerTls, Timeouts};
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::certificate;

/// What opens HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// First read of a connection that has not told its protocol.
const FIRST_READ: usize = 8 * 1024;
/// hyper's read buffer beyond the largest head, in bytes.
const SPARE: usize = 8 * 1024;
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What one HTTP/2 stream may have waiting to be sent, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// Idle for so long, a connection of HTTP/1 gives its buffers back.
const DOZE: Duration = Duration::from_secs(2);
/// What is still read of a client that we have answered for the last time, so that the answer arrives.
const LINGER_BYTES: u64 = 1024 * 1024;
/// And for how long.
const LINGER: Duration = Duration::from_secs(2);

/// A connection on its way to a worker.
pub(crate) struct Accepted {
    /// The socket, non-blocking.
    pub(crate) stream: std::net::TcpStream,
    /// Its other end.
    pub(crate) peer: SocketAddr,
    /// The listener it came to, by its address in the policy.
    pub(crate) listener: SocketAddr,
    /// Present: TLS, as it was in force when it came.
    pub(crate) tls: Option<ListenerTls>,
    /// Its place among the connections that may be open; given back when it ends.
    pub(crate) slot: Slot,
}

/// Serves a connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, accepted: Accepted, _open: Open, drain: watch::Receiver<bool>) {
    let Accepted { stream, peer, listener, tls, slot: _slot } = accepted;
    let Ok(tcp) = TcpStream::from_std(stream) else { return };
    let patience = worker.here().live.policy.timeouts().request_headers;
    let Some((stream, secured, http2)) = Box::pin(secure(tcp, tls, listener, patience)).await else { return };
    let (tls_version, certificate) = secured.unzip();
    let mut peer = Peer::new(peer, tls_version);
    peer.certificate = certificate.flatten();
    let client = Client::new(peer, Instant::now());
    match http2 {
        // Boxed, being larger than all else and rarer.
        Some(true) => Box::pin(serve_http2(&worker, &client, stream, Bytes::new(), drain)).await,
        Some(false) => serve_http1(&worker, &client, stream, Bytes::new(), drain).await,
        None => {
            let mut stream = stream;
            let Some((prefix, http2)) = tell_protocol(&worker, &client, &mut stream, &drain).await else { return };
            if http2 {
                Box::pin(serve_http2(&worker, &client, stream, prefix, drain)).await;
            } else {
                serve_http1(&worker, &client, stream, prefix, drain).await;
            }
        }
    }
}

/// TLS version, and the client's certificate.
type Secured = (&'static str, Option<Box<ClientCertificate>>);

/// Finishes TLS. Returns the stream, what the handshake told, and whether it is HTTP/2 where ALPN told.
async fn secure(
    tcp: TcpStream,
    tls: Option<ListenerTls>,
    listener: SocketAddr,
    patience: Duration,
) -> Option<(Stream, Option<Secured>, Option<bool>)> {
    let Some(ListenerTls { config, trust }) = tls else { return Some((Stream::Plain(tcp), None, None)) };
    let handshake = tokio::time::timeout(patience, TlsAcceptor::from(config).accept(tcp)).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    };
    let http2 = session.alpn_protocol() == Some(b"h2");
    let shown = session.peer_certificates().zip(trust.as_ref());
    let certificate = shown.and_then(|(chain, trust)| certificate::read(chain, listener, trust)).map(Box::new);
    Some((Stream::tls(stream.into()), Some((version, certificate)), Some(http2)))
}

/// Reads until it is clear whether this is HTTP/2 by preface; what was read comes back.
async fn tell_protocol(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    stream: &mut Stream,
    drain: &watch::Receiver<bool>,
) -> Option<(Bytes, bool)> {
    let timeouts = worker.here().live.policy.timeouts();
    let mut drain = drain.clone();
    let mut prefix = BytesMut::with_capacity(FIRST_READ);
    loop {
        // Before the first byte the connection is idle; after it, a head is on its way.
        let patience = if prefix.is_empty() { timeouts.idle } else { timeouts.request_headers };
        let read = tokio::select! {
            read = tokio::time::timeout(patience, stream.read_buf(&mut prefix)) => read,
            _ = drain.wait_for(|draining| *draining), if prefix.is_empty() => return None,
        };
        let ended = !matches!(read, Ok(Ok(1..)));
        let same = prefix.iter().zip(PREFACE).all(|(byte, expected)| byte == expected);
        if prefix.len() >= PREFACE.len() || !same {
            return Some((prefix.freeze(), same));
        }
        if ended {
            if !prefix.is_empty() && read.is_err() {
                say_last(worker, client, stream, &too_slow()).await;
            } else if !prefix.is_empty() {
                drop(refuse_head(worker, client, &cut_short()));
            }
            return None;
        }
    }
}

async fn serve_http1(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    mut stream: Stream,
    mut prefix: Bytes,
    drain: watch::Receiver<bool>,
) {
    loop {
        let (returned, ended) = speak_http1(worker, client, stream, prefix, drain.clone()).await;
        let Some(open) = returned else { return };
        stream = open;
        let awake = ended == Ended::Dozing && wakes(worker, client, &stream, drain.clone()).await;
        if !awake {
            return end_http1(worker, client, &mut stream, ended).await;
        }
        prefix = Bytes::new();
    }
}

/// Lets hyper serve a connection; returns it with how that ended.
async fn speak_http1(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    stream: Stream,
    prefix: Bytes,
    drain: watch::Receiver<bool>,
) -> (Option<Stream>, Ended) {
    let policy = &worker.here().live.policy;
    let (limits, timeouts) = (policy.limits(), policy.timeouts());
    let guard = Guard::new(HeadLimits { size: limits.header_size, headers: limits.headers });
    let stream = Rc::new(RefCell::new(stream));
    let front = Front::new(Rc::clone(&stream), Rc::clone(client), prefix, Some(guard));
    let service = service_fn(|request: Request<Incoming>| handle(Rc::clone(worker), Rc::clone(client), request));
    let mut builder = http1::Builder::new();
    builder.max_buf_size((limits.header_size + SPARE).max(8192)).writev(true);
    if limits.headers > 100 {
        // hyper keeps up to 100 headers on its stack, and the guard has counted them already.
        builder.max_headers(limits.headers);
    }
    let ended = {
        let mut connection = pin!(builder.serve_connection(TokioIo::new(front), service));
        watched(client, timeouts, drain, |cx, ask| {
            if ask == Ask::Finish {
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx).map(|result| result.is_ok())
        })
        .await
    };
    (Rc::into_inner(stream).map(RefCell::into_inner), ended)
}

/// Waits for the next request of an idle connection, while hyper and its buffers are gone: they are most of what such a
/// connection costs. False when it is to be closed.
async fn wakes(worker: &Worker, client: &Client, stream: &Stream, mut drain: watch::Receiver<bool>) -> bool {
    tracing::debug!(peer = %client.peer.address, "an idle connection dozes");
    let Phase::Idle(since) = client.phase() else { return true };
    let patience = worker.here().live.policy.timeouts().idle.saturating_sub(since.elapsed());
    tokio::select! {
        readable = tokio::time::timeout(patience, stream.readable()) => matches!(readable, Ok(Ok(()))),
        _ = drain.wait_for(|draining| *draining) => false,
    }
}

/// Says what is left to be said, and closes.
async fn end_http1(worker: &Rc<Worker>, client: &Rc<Client>, stream: &mut Stream, ended: Ended) {
    match (client.unanswered(), ended) {
        (_, Ended::TooSlow) => say_last(worker, client, stream, &too_slow()).await,
        (Some(flaw), _) => {
            let refusal =
                flaw.map_or_else(|| arrival::malformed("the request line or a header is malformed"), arrival::flawed);
            say_last(worker, client, stream, &refusal).await;
        }
        (None, _) => {
            if let Phase::Head(_) = client.phase() {
                drop(refuse_head(worker, client, &cut_short()));
            }
            close(stream).await;
        }
    }
}

async fn serve_http2(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    stream: Stream,
    prefix: Bytes,
    drain: watch::Receiver<bool>,
) {
    let policy = &worker.here().live.policy;
    let (limits, timeouts) = (policy.limits(), policy.timeouts());
    let front = Front::new(Rc::new(RefCell::new(stream)), Rc::clone(client), prefix, None);
    let service = service_fn(|request: Request<Incoming>| handle(Rc::clone(worker), Rc::clone(client), request));
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(front), service));
    watched(client, timeouts, drain, |cx, ask| {
        if ask == Ask::Finish {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx).map(|result| result.is_ok())
    })
    .await;
}

/// Runs streams of HTTP/2 on this worker.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(async move {
            stream.await;
        });
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// By itself: closed, or an error of either side.
    Itself,
    /// It was idle too long.
    Idle,
    /// It has been idle for a while, and may stay so.
    Dozing,
    /// A head did not come in time.
    TooSlow,
}

/// What is asked of a connection while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Nothing,
    /// Answer what is in flight, then close.
    Finish,
}

/// Runs a connection under its deadlines until it ends, and asks it to finish when the process drains.
async fn watched(
    client: &Client,
    timeouts: Timeouts,
    mut drain: watch::Receiver<bool>,
    mut run: impl FnMut(&mut std::task::Context<'_>, Ask) -> Poll<bool>,
) -> Ended {
    let deadline = |now: Instant| match client.phase() {
        Phase::Idle(since) => since + timeouts.idle,
        Phase::Head(since) => since + timeouts.request_headers,
        // A client that takes nothing of its answer is doing nothing, too.
        Phase::Busy(_) => client.stalled().map_or(now + timeouts.idle, |since| since + timeouts.idle),
    };
    // A head may begin just after the timer was set for an idle connection, so it never sleeps past a head's deadline.
    let shortest = timeouts.idle.min(timeouts.request_headers).min(DOZE);
    let mut timer = pin!(tokio::time::sleep(shortest));
    let mut draining = pin!(drain.wait_for(|draining| *draining));
    let mut drained = false;
    std::future::poll_fn(|cx| {
        let ask = if !drained && draining.as_mut().poll(cx).is_ready() {
            drained = true;
            Ask::Finish
        } else {
            Ask::Nothing
        };
        if run(cx, ask).is_ready() {
            return Poll::Ready(Ended::Itself);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let end = deadline(now);
            if end <= now {
                return Poll::Ready(match client.phase() {
                    Phase::Head(_) => Ended::TooSlow,
                    _ => Ended::Idle,
                });
            }
            if let Phase::Idle(since) = client.phase()
                && now >= since + DOZE
                && client.is_settled()
            {
                return Poll::Ready(Ended::Dozing);
            }
            timer.as_mut().reset(end.min(now + shortest).into());
        }
        Poll::Pending
    })
    .await
}

fn too_slow() -> Refusal {
    Refusal::new(Stage::Request, Reason::RequestTimeout, "send the request's headers sooner")
}

fn cut_short() -> Refusal {
    Refusal::new(Stage::Request, Reason::MalformedRequest, "the request ended within its headers")
}

/// Writes a last answer by hand, hyper having given up on the connection, and closes.
async fn say_last(worker: &Rc<Worker>, client: &Rc<Client>, stream: &mut Stream, refusal: &Refusal) {
    let (status, headers, body) = refuse_head(worker, client, refusal);
    let mut text = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    for (name, value) in &headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&body);
    let _ = tokio::time::timeout(LINGER, stream.write_all(&text)).await;
    close(stream).await;
}

/// Closes so that the last answer arrives: a socket that is closed with unread input is reset, and a reset may overtake
/// what was written (RFC 9112 §9.6).
async fn close(stream: &mut Stream) {
    let lingering = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER, lingering).await;
}
