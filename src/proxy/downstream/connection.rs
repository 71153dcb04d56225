//! One client connection: TLS, which HTTP it speaks, its deadlines, and an end that loses no answer.
//!
//! Deadlines are kept lazily: one timer a connection, looked at when it fires, never set anew for a request.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio_rustls::TlsAcceptor;

use super::client::{Client, Phase};
use super::connection_limit::Permit;
use super::rewind::Rewind;
use super::worker::Worker;
use super::worker_thread::Open;
use crate::body::Source;
use crate::exchange::{ClientCertificate, Peer};
use crate::policy::{ListenerTls, Timeouts};
use crate::proxy::headers::strip_trailers;
use crate::proxy::http1::reader::HeadLimits;
use crate::proxy::http1::{self, End, Wire};
use crate::proxy::request::target;
use crate::proxy::request::{handle, refuse_head};
use crate::proxy::stream::Stream;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::certificate;

/// What opens HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// First read of a connection that has not told its protocol.
const FIRST_READ: usize = 8 * 1024;
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What one HTTP/2 stream may have waiting to be sent, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
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
    pub(crate) permit: Permit,
}

/// Serves a connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, accepted: Accepted, _open: Open, drain: watch::Receiver<bool>) {
    let Accepted { stream, peer, listener, tls, permit: _slot } = accepted;
    let Ok(tcp) = TcpStream::from_std(stream) else { return };
    let patience = worker.view().in_force.policy.timeouts().request_headers;
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
    let timeouts = worker.view().in_force.policy.timeouts();
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
                write_final_response(worker, client, stream, &too_slow()).await;
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
    stream: Stream,
    prefix: Bytes,
    drain: watch::Receiver<bool>,
) {
    let policy = &worker.view().in_force.policy;
    let limits = policy.limits();
    let limits = HeadLimits { size: limits.header_size, headers: limits.headers };
    let wire = Rc::new(RefCell::new(Wire::new(stream, Rc::clone(client), prefix, limits)));
    let ended = {
        let finish = Cell::new(false);
        let mut serving = pin!(http1::serve(worker, client, &wire, &finish));
        watched(client, policy.timeouts(), drain, |cx, ask| {
            finish.set(finish.get() || ask == Ask::Finish);
            serving.as_mut().poll(cx)
        })
        .await
    };
    // What was served is gone, and its hold on the wire with it.
    let Some(wire) = Rc::into_inner(wire) else { return };
    let Some(mut stream) = wire.into_inner().into_stream() else { return };
    match ended {
        Ok(End::Closed) | Err(Late::Idle) => close(&mut stream).await,
        Ok(End::CutShort) => {
            drop(refuse_head(worker, client, &cut_short()));
            close(&mut stream).await;
        }
        Ok(End::Flawed(flaw)) => write_final_response(worker, client, &mut stream, &target::flawed(flaw)).await,
        Err(Late::Head) => write_final_response(worker, client, &mut stream, &too_slow()).await,
    }
}

async fn serve_http2(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    stream: Stream,
    prefix: Bytes,
    drain: watch::Receiver<bool>,
) {
    let policy = &worker.view().in_force.policy;
    let (limits, timeouts) = (policy.limits(), policy.timeouts());
    let front = Rewind::new(stream, Rc::clone(client), prefix);
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let source = Source::client(body.map_err(Into::into), strip_trailers);
        let answered = handle(Rc::clone(worker), Rc::clone(client), parts, source);
        async { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(front), service));
    let _ = watched(client, timeouts, drain, |cx, ask| {
        if ask == Ask::Finish {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
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

/// Which deadline ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    /// It was idle too long.
    Idle,
    /// A head did not come in time.
    Head,
}

/// What is asked of a connection while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Nothing,
    /// Answer what is in flight, then close.
    Finish,
}

/// Runs a connection under its deadlines until it ends, and asks it to finish when the process drains.
async fn watched<T>(
    client: &Client,
    timeouts: Timeouts,
    mut drain: watch::Receiver<bool>,
    mut run: impl FnMut(&mut Context<'_>, Ask) -> Poll<T>,
) -> Result<T, Late> {
    let deadline = |now: Instant| match client.phase() {
        Phase::Idle(since) => since + timeouts.idle,
        Phase::Head(since) => since + timeouts.request_headers,
        // A client that takes nothing of its answer is doing nothing, too.
        Phase::Busy(_) => client.stalled().map_or(now + timeouts.idle, |since| since + timeouts.idle),
    };
    // A head may begin just after the timer was set for an idle connection, so it never sleeps past a head's deadline.
    let shortest = timeouts.idle.min(timeouts.request_headers);
    let mut timer = pin!(tokio::time::sleep(shortest));
    let news = drain.clone();
    let mut draining = pin!(drain.wait_for(|draining| *draining));
    let (mut drained, mut waits) = (false, false);
    std::future::poll_fn(|cx| {
        // Both wake this task once they have been asked, whatever is left of its budget. After that they are asked again
        // when they have something to say: this is polled several times a request, always by one task.
        let told = !waits || news.has_changed().unwrap_or(true);
        let ask = if told && !drained && pin!(unconstrained(draining.as_mut())).poll(cx).is_ready() {
            drained = true;
            Ask::Finish
        } else {
            Ask::Nothing
        };
        if let Poll::Ready(end) = run(cx, ask) {
            return Poll::Ready(Ok(end));
        }
        if waits && !timer.is_elapsed() {
            return Poll::Pending;
        }
        waits = true;
        while pin!(unconstrained(timer.as_mut())).poll(cx).is_ready() {
            let now = Instant::now();
            let end = deadline(now);
            if end <= now {
                return Poll::Ready(Err(match client.phase() {
                    Phase::Head(_) => Late::Head,
                    _ => Late::Idle,
                }));
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

/// Writes a last answer, to what is no request, and closes.
async fn write_final_response(worker: &Rc<Worker>, client: &Rc<Client>, stream: &mut Stream, refusal: &Refusal) {
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
