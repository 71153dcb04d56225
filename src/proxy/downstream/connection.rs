//! One client connection: TLS handshake, protocol detection, deadlines, and a close that loses no response.
//!
//! Deadlines are lazy: each connection has one timer. It is checked when it fires and not reset for every request.

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

use super::accepted::{Accepted, Open};
use super::client::{ClientConnection, Phase};
use super::rewind::Rewind;
use super::worker::Worker;
use crate::body::Source;
use crate::exchange::{ClientCertificate, Peer};
use crate::policy::{ListenerTls, Timeouts};
use crate::proxy::headers::strip_trailers;
use crate::proxy::http1::fields::{HeadLimits, write_line};
use crate::proxy::http1::{self, End, Wire};
use crate::proxy::request::target;
use crate::proxy::request::{handle, refuse_head};
use crate::proxy::stream::Stream;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::certificate;

/// The client connection preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Size of the first read, before the protocol is known, in bytes.
const FIRST_READ: usize = 8 * 1024;
/// Maximum number of concurrent streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Maximum number of bytes that one HTTP/2 stream buffers for sending.
const SEND_BUFFER: usize = 64 * 1024;
/// How many bytes are still read from a client after its last response, so that the response arrives.
const LINGER_BYTES: u64 = 1024 * 1024;
/// How long the connection is read after the last response.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, accepted: Accepted, _open: Open, drain: watch::Receiver<bool>) {
    let Accepted { stream, peer, listener, tls, permit: _permit } = accepted;
    let Ok(tcp) = TcpStream::from_std(stream) else { return };
    let timeout = worker.view().in_force.policy.timeouts().request_headers;
    let Some((stream, session, http2)) = Box::pin(accept_tls(tcp, tls, listener, timeout)).await else { return };
    let (tls_version, certificate) = session.unzip();
    let mut peer = Peer::new(peer, tls_version);
    peer.certificate = certificate.flatten();
    let client = ClientConnection::new(peer, Instant::now());
    let mut connection = Connection { worker, client, stream, prefix: Bytes::new(), drain };
    let http2 = match http2 {
        Some(http2) => http2,
        None => match connection.detect_protocol().await {
            Some(http2) => http2,
            None => return,
        },
    };
    if http2 {
        // Boxed, because it is the largest future here and the rarer protocol.
        Box::pin(connection.serve_http2()).await;
    } else {
        connection.serve_http1().await;
    }
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
    let Some(ListenerTls { config, trust }) = tls else { return Some((Stream::Plain(tcp), None, None)) };
    let handshake = tokio::time::timeout(timeout, TlsAcceptor::from(config).accept(tcp)).await;
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
    /// Turns true when the process drains.
    drain: watch::Receiver<bool>,
}

impl Connection {
    /// Reads until the preface shows whether this is HTTP/2. Returns `None` if the connection has ended before.
    async fn detect_protocol(&mut self) -> Option<bool> {
        let timeouts = self.worker.view().in_force.policy.timeouts();
        let mut prefix = BytesMut::with_capacity(FIRST_READ);
        loop {
            // The connection is idle until its first byte; from then on it is receiving a head.
            let timeout = if prefix.is_empty() { timeouts.idle } else { timeouts.request_headers };
            let read = tokio::select! {
                read = tokio::time::timeout(timeout, self.stream.read_buf(&mut prefix)) => read,
                _ = self.drain.wait_for(|draining| *draining), if prefix.is_empty() => return None,
            };
            let ended = !matches!(read, Ok(Ok(1..)));
            let matches_preface = prefix.iter().zip(PREFACE).all(|(byte, expected)| byte == expected);
            if prefix.len() >= PREFACE.len() || !matches_preface {
                self.prefix = prefix.freeze();
                return Some(matches_preface);
            }
            if ended {
                if !prefix.is_empty() && read.is_err() {
                    write_final_response(&self.worker, &self.client, &mut self.stream, &too_slow()).await;
                } else if !prefix.is_empty() {
                    drop(refuse_head(&self.worker, &self.client, &cut_short()));
                }
                return None;
            }
        }
    }

    async fn serve_http1(self) {
        let Self { worker, client, stream, prefix, drain } = self;
        let policy = &worker.view().in_force.policy;
        let limits = policy.limits();
        let limits = HeadLimits { size: limits.header_size, headers: limits.headers };
        let wire = Rc::new(RefCell::new(Wire::new(stream, Rc::clone(&client), prefix, limits)));
        let ended = {
            let finish = Cell::new(false);
            let mut serving = pin!(http1::serve(&worker, &client, &wire, &finish));
            run_until_deadline(&client, policy.timeouts(), drain, |cx, command| {
                finish.set(finish.get() || command == Command::Finish);
                serving.as_mut().poll(cx)
            })
            .await
        };
        // The serving future was dropped, so this is the only reference left.
        let Some(wire) = Rc::into_inner(wire) else { return };
        let Some(mut stream) = wire.into_inner().into_stream() else { return };
        let refusal = match ended {
            Ok(End::Closed) | Err(Timeout::Idle) => return close(&mut stream).await,
            Ok(End::CutShort) => {
                drop(refuse_head(&worker, &client, &cut_short()));
                return close(&mut stream).await;
            }
            Ok(End::Malformed(error)) => target::malformed_framing(error),
            Err(Timeout::Head) => too_slow(),
        };
        write_final_response(&worker, &client, &mut stream, &refusal).await;
    }

    async fn serve_http2(self) {
        let Self { worker, client, stream, prefix, drain } = self;
        let policy = &worker.view().in_force.policy;
        let (limits, timeouts) = (policy.limits(), policy.timeouts());
        let stream = Rewind::new(stream, Rc::clone(&client), prefix);
        let service = service_fn(|request: Request<Incoming>| {
            let (parts, body) = request.into_parts();
            let source = Source::client(body.map_err(Into::into), strip_trailers);
            let response = handle(&worker, Rc::clone(&client), parts, source);
            async { Ok::<_, Infallible>(response.await) }
        });
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let _ = run_until_deadline(&client, timeouts, drain, |cx, command| {
            if command == Command::Finish {
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        })
        .await;
    }
}

/// Spawns the tasks of HTTP/2 streams on this worker's thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(async move {
            stream.await;
        });
    }
}

/// The timeout that ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timeout {
    /// It was idle for too long.
    Idle,
    /// A request's head was not received in time.
    Head,
}

/// What a running connection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Continue,
    /// Finish the requests in flight, then close.
    Finish,
}

/// Runs a connection until it ends or misses a deadline. Commands it to finish when the process drains.
async fn run_until_deadline<T>(
    client: &ClientConnection,
    timeouts: Timeouts,
    mut drain: watch::Receiver<bool>,
    mut run: impl FnMut(&mut Context<'_>, Command) -> Poll<T>,
) -> Result<T, Timeout> {
    let deadline = |now: Instant| match client.phase() {
        Phase::Idle(since) => since + timeouts.idle,
        Phase::Head(since) => since + timeouts.request_headers,
        // A client that does not read its response counts as idle, too.
        Phase::Busy(_) => client.stalled().map_or(now + timeouts.idle, |since| since + timeouts.idle),
    };
    // A head may begin just after the timer was set for an idle connection, so the timer never sleeps past the deadline
    // of a head.
    let shortest = timeouts.idle.min(timeouts.request_headers);
    let mut timer = pin!(tokio::time::sleep(shortest));
    let drain_changes = drain.clone();
    let mut draining = pin!(drain.wait_for(|draining| *draining));
    let (mut drained, mut armed) = (false, false);
    std::future::poll_fn(|cx| {
        // Both wake this task once they have been polled, whatever is left of its budget. After that they are polled
        // again only when they have news: this function runs several times a request, always in the same task.
        let drain_changed = !armed || drain_changes.has_changed().unwrap_or(true);
        let command = if drain_changed && !drained && pin!(unconstrained(draining.as_mut())).poll(cx).is_ready() {
            drained = true;
            Command::Finish
        } else {
            Command::Continue
        };
        if let Poll::Ready(output) = run(cx, command) {
            return Poll::Ready(Ok(output));
        }
        if armed && !timer.is_elapsed() {
            return Poll::Pending;
        }
        armed = true;
        while pin!(unconstrained(timer.as_mut())).poll(cx).is_ready() {
            let now = Instant::now();
            let due = deadline(now);
            if due <= now {
                return Poll::Ready(Err(match client.phase() {
                    Phase::Head(_) => Timeout::Head,
                    _ => Timeout::Idle,
                }));
            }
            timer.as_mut().reset(due.min(now + shortest).into());
        }
        Poll::Pending
    })
    .await
}

fn too_slow() -> Refusal {
    Refusal::new(
        Stage::Request,
        Reason::RequestTimeout,
        "the request's headers were not received in time; send them sooner",
    )
}

fn cut_short() -> Refusal {
    Refusal::new(Stage::Request, Reason::MalformedRequest, "the connection was closed within the request's headers")
}

/// Writes a final response to input that is not a valid request, and closes the connection.
async fn write_final_response(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    stream: &mut Stream,
    refusal: &Refusal,
) {
    let (status, headers, body) = refuse_head(worker, client, refusal);
    let mut text = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    for (name, value) in &headers {
        write_line(&mut text, name.as_str(), value.as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&body);
    let _ = tokio::time::timeout(LINGER, stream.write_all(&text)).await;
    close(stream).await;
}

/// Closes the connection so that the last response arrives. Closing a socket with unread input resets it, and the reset
/// may overtake what was written (RFC 9112 §9.6).
async fn close(stream: &mut Stream) {
    let lingering = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER, lingering).await;
}
