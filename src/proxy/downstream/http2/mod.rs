//! Serves HTTP/2 to a client (RFC 9113), by the `h2` crate. Each stream is a task of its own with its own deadline.
//!
//! - `stream`: the body of a request, and the response to it. `websocket`: a stream that becomes a WebSocket.
//! - `stream_deadline`: the deadline of a stream, and what is queued for its client. `piece`: a part of that.
//! - `window`: what the windows of a stream allow. `rewind`: the socket. `stream_counter`: the requests that the client has begun.

mod piece;
mod rewind;
mod stream;
mod stream_counter;
mod stream_deadline;
mod websocket;
mod window;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{Request, Version};
use http_body_util::Full;

use self::piece::Piece;
use self::rewind::{Rewind, Socket};
use self::stream::{Handled, RequestBody};
use self::stream_counter::StreamCounter;
use self::stream_deadline::{LastTurn, Streams};
use self::websocket::WebSockets;
use crate::body::Source;
use crate::in_box::in_box;
use crate::policy::{Limits, Timeouts};
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::deadlines::{Command, Cut, run_until_deadline};
use crate::proxy::downstream::unfinished_head::{cut_short, evicted, too_slow};
use crate::proxy::downstream::worker::Worker;
use crate::proxy::headers::strip_trailers;
use crate::proxy::request::{handle, record_unanswered};
use crate::proxy::stream::Stream;
use crate::refusal::{Reason, Refusal, Stage};

/// Maximum number of concurrent streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Bytes of the body of one request that a client may send before anybody reads them: those of one upload that are under way. Over
/// 50 ms and back, 128 KiB are 20 Mbit/s.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same of all requests of a connection. They are held outside `limits.memory`, for as long as the requests wait for something
/// else: the record, an introspection, a connection to the upstream. Several such do not hold up the others.
///
/// h2 counts parts of bodies below 256 bytes that nobody has read, each with what it lacks to 256, and ends the connection with
/// ENHANCE_YOUR_CALM when they are more than half of this: 1,028 of one byte, as streaming calls of gRPC may have them. With a smaller
/// window, it would bear fewer. It also ends it at the 101st empty part that does not end a stream, in all of its life. But each larger
/// part makes room for further small ones, also if it is of another stream (h2 0.4.20): parts of one byte take 330 bytes each, which
/// would be 170 MB in all. So they are counted here, too ([`StreamCounter::unread`]).
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// Maximum number of bytes that one HTTP/2 stream buffers for sending: what is written to the socket at once. More is not faster, and
/// each WebSocket may fill it while the client reads nothing.
const SEND_BUFFER: usize = 32 * 1024;
/// What SETTINGS_MAX_HEADER_LIST_SIZE counts for each field beside its name and value (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Serves a connection, of which `prefix` has already been read, until it ends.
pub(super) async fn serve(worker: Rc<Worker>, client: Rc<ClientConnection>, stream: Stream, prefix: Bytes) {
    let settings = Settings::of(&worker);
    let counter = StreamCounter::default();
    let streams = Streams::new(&client, settings.timeouts.stall);
    let requests = Requests {
        worker: &worker,
        client: &client,
        websockets: WebSockets::new(settings.timeouts.stall, counter.unread().clone()),
        counter: Rc::new(RefCell::new(counter)),
        streams: &streams,
        settings: &settings,
        running: Rc::default(),
        handled: Cell::new(0),
    };
    // Dropped after the connection, also where this is.
    let last_turn = LastTurn(Rc::clone(&streams));
    let (ended, begun_before) = run(&requests, stream, prefix).await;
    drop(last_turn);
    requests.record_rest(&ended, begun_before);
}

/// Runs a connection until it ends, or is cut. Returns how many requests the client had begun when it was told to send no more of
/// them.
async fn run(requests: &Requests<'_>, stream: Stream, prefix: Bytes) -> (Result<Result<(), h2::Error>, Cut>, u64) {
    let Requests { client, counter, streams, settings, running, websockets, .. } = requests;
    let socket = Socket::new(stream, Rc::clone(client));
    let stream = Rewind::new(&socket, prefix, Rc::clone(counter));
    let finish = Cell::new(false);
    let mut serving = pin!(async {
        let mut connection = protocol(settings).handshake(stream).await?;
        poll_fn(|cx| {
            if finish.get() {
                connection.graceful_shutdown();
            }
            while let Some(accepted) = ready!(connection.poll_accept(cx)) {
                let (request, respond) = accepted?;
                requests.accept(request, respond);
            }
            Poll::Ready(Ok(()))
        })
        .await
    });
    let unread = counter.borrow().unread().clone();
    let mut begun_before = u64::MAX;
    let end_overdue = |now| streams.end_overdue(now);
    let ended = run_until_deadline(client, &settings.timeouts, end_overdue, |cx, command| {
        if command == Command::Finish || (unread.are_many() && begun_before == u64::MAX) {
            begun_before = counter.borrow().begun();
            finish.set(true);
            websockets.end();
        }
        counter.borrow_mut().next_turn();
        let polled = serving.as_mut().poll(cx);
        socket.borrow_mut().end_turn(cx);
        streams.end_turn();
        // With no stream running and no write pending, HTTP/2 has decided about every request received so far.
        if polled.is_pending() && Rc::strong_count(running) == 1 && client.stalled().is_none() {
            let received = counter.borrow().received();
            requests.record_unhandled(received.min(begun_before), || violates_http2(None));
            socket.borrow_mut().release_buffer();
            unread.forget();
        }
        polled
    })
    .await;
    (ended, begun_before)
}

/// What a connection keeps of the policy that is in force when it begins. The policy itself may go while it goes on.
struct Settings {
    limits: Limits,
    timeouts: Timeouts,
    has_websockets: bool,
}

impl Settings {
    fn of(worker: &Worker) -> Self {
        let policy = &worker.view().in_force.policy;
        Self { limits: policy.limits(), timeouts: policy.timeouts(), has_websockets: policy.has_websockets() }
    }
}

fn protocol(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    if settings.has_websockets {
        // Otherwise clients that could use it would be refused here, where HTTP/1.1 would not help them either.
        builder.enable_connect_protocol();
    }
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(header_list_size(settings.limits))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Returns a limit above which a list of headers exceeds `limits`, by the measure of HTTP/2, unless it has very many short
/// cookies. The limits themselves are checked when the request is handled, by the measure of HTTP/1, so that they are the
/// same for both.
fn header_list_size(limits: Limits) -> u32 {
    let size = limits.header_size.saturating_add(limits.headers.saturating_mul(FIELD_OVERHEAD));
    u32::try_from(size.saturating_mul(2)).unwrap_or(u32::MAX)
}

/// The requests of one connection.
struct Requests<'a> {
    worker: &'a Rc<Worker>,
    client: &'a Rc<ClientConnection>,
    streams: &'a Rc<Streams>,
    settings: &'a Settings,
    websockets: Rc<WebSockets>,
    counter: Rc<RefCell<StreamCounter>>,
    /// Cloned for every stream that runs.
    running: Rc<()>,
    /// Those that were handed over, or recorded here.
    handled: Cell<u64>,
}

impl Requests<'_> {
    /// Handles a request in a task of its own.
    fn accept(&self, request: Request<RecvStream>, respond: SendResponse<Piece>) {
        let Self { worker, client, streams, settings, websockets, counter, running, handled } = self;
        handled.set(handled.get() + 1);
        let stream = streams.open();
        let (mut parts, receiving) = request.into_parts();
        let (receiving, source) = match websocket::is_asked_for(&mut parts) {
            true => (Some(receiving), Source::Given(Full::default())),
            false => {
                let (unread, client) = (counter.borrow().unread().clone(), Rc::clone(client));
                let body = RequestBody::new(receiving, &parts.headers, settings.limits.headers, unread, client);
                (None, Source::client(body, strip_trailers))
            }
        };
        let response = Box::into_pin(in_box(|| handle(worker, Rc::clone(client), parts, source)));
        let (websockets, running) = (Rc::clone(websockets), Rc::clone(running));
        let client = Rc::clone(client);
        let handled = Handled { client, respond, stream: Rc::clone(&stream), receiving, websockets, running };
        stream.runs(tokio::task::spawn_local(handled.answer(response)));
    }

    /// Records the requests that are left when the connection has ended, of the first `begun_before`, and what has ended it if no
    /// request has.
    fn record_rest(&self, ended: &Result<Result<(), h2::Error>, Cut>, begun_before: u64) {
        let violation = match ended {
            Ok(Err(error)) if error.is_library() => Some(error.to_string()),
            _ => None,
        };
        let violated = || violates_http2(violation.as_deref());
        let unfinished = || match ended {
            Err(Cut::Head) => too_slow(),
            Err(Cut::Evicted) => evicted(),
            _ if violation.is_some() => violated(),
            _ => cut_short(),
        };
        let (received, begun) = (self.counter.borrow().received(), self.counter.borrow().begun());
        let some = self.record_unhandled(received.min(begun_before), violated);
        if !self.record_unhandled(begun.min(begun_before), unfinished) && !some && violation.is_some() {
            self.record(&violated());
        }
    }

    /// Records the requests that HTTP/2 refused itself, of the first `begun`. Those that were sent after a GOAWAY have no
    /// record: the client may repeat them elsewhere (RFC 9113 §6.8). Returns whether there were any.
    fn record_unhandled(&self, begun: u64, why: impl Fn() -> Refusal) -> bool {
        let some = self.handled.get() < begun;
        while self.handled.get() < begun {
            self.handled.set(self.handled.get() + 1);
            self.record(&why());
        }
        some
    }

    fn record(&self, refusal: &Refusal) {
        record_unanswered(self.worker, self.client, Some(Version::HTTP_2), refusal);
    }
}

/// Why a request is refused by HTTP/2 itself; `cause`: what it says.
fn violates_http2(cause: Option<&str>) -> Refusal {
    let refusal = Refusal::new(Stage::Request, Reason::MalformedRequest, "the request violates HTTP/2");
    refusal.cause(cause.unwrap_or("HTTP/2 refused the stream").to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Instant;

    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    use super::*;
    use crate::audit::Trail;
    use crate::exchange::Peer;
    use crate::policy::compile;
    use crate::proxy::downstream::activity::Activity;
    use crate::proxy::downstream::worker::Shared;
    use crate::proxy::upstream::UpstreamLimit;
    use crate::runtime::{InForce, Runtime};
    use crate::stages::replaced_secrets::ReplacedSecrets;
    use crate::stages::scope_probes::ScopeProbes;
    use crate::state::published::Published;

    /// A policy in force, with an upstream at this port.
    fn in_force(runtime: &Runtime, port: u16) -> Arc<InForce> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        let text = format!(
            "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\napis: {{ a: {{ upstream: \"http://127.0.0.1:{port}\", \
             routes: {{ GET /x: {{ public: true }}, GET /: {{ public: true, upgrade: {{ websocket: {{}} }} }} }} }} }}\n"
        );
        std::fs::write(&path, text).unwrap();
        let (policy, problems) = compile::compile(&path);
        let policy = policy.unwrap_or_else(|| panic!("{}", problems.text(false)));
        Arc::new(InForce::attach(policy, Arc::new(Trail::silent()), runtime, None))
    }

    /// Reads until a part of a body has come.
    async fn part(peer: &mut TcpStream) {
        let mut kind = 1;
        while kind != 0 {
            let mut header = [0; 9];
            peer.read_exact(&mut header).await.unwrap();
            let [a, b, c, other, ..] = header;
            peer.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize]).await.unwrap();
            assert_ne!(other, 3, "it is reset");
            kind = other;
        }
    }

    /// Reads until this many responses have ended.
    async fn answers(peer: &mut TcpStream, mut left: usize) {
        while left > 0 {
            let mut header = [0; 9];
            peer.read_exact(&mut header).await.unwrap();
            let [a, b, c, kind, flags, ..] = header;
            peer.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize]).await.unwrap();
            left -= usize::from(matches!(kind, 0 | 1) && flags & 1 != 0);
        }
    }

    /// A worker, and a connection to it over which the preface and the settings were sent.
    async fn connected(runtime: &Runtime, published: &Arc<Published<InForce>>) -> (Rc<Worker>, TcpStream) {
        let shared = Shared {
            in_force: Arc::clone(published),
            epoch: runtime.epoch.clone(),
            metrics: runtime.metrics.clone(),
            upstreams: UpstreamLimit::new(8),
            scope_probes: ScopeProbes::default(),
            replaced_secrets: ReplacedSecrets::default(),
        };
        let worker = Rc::new(Worker::new(Arc::new(shared)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = Stream::Plain(listener.accept().await.unwrap().0.into());
        let (address, now) = (SocketAddr::from(([127, 0, 0, 1], 9)), Instant::now());
        let client = ClientConnection::new(Peer::new(address, None), Arc::new(Activity::new(address, now)), now);
        tokio::task::spawn_local(serve(Rc::clone(&worker), client, stream, Bytes::new()));
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0].as_slice();
        peer.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings].concat()).await.unwrap();
        (worker, peer)
    }

    /// A frame with all headers of a request.
    fn headers(flags: u8, stream: u8, headers: &[u8]) -> Vec<u8> {
        [&[0, 0, u8::try_from(headers.len()).unwrap(), 1, flags, 0, 0, 0, stream], headers].concat()
    }

    /// A policy with many consumers is large, and connections stay open for days.
    #[tokio::test]
    async fn a_connection_does_not_keep_a_policy_that_was_replaced() {
        let runtime = Runtime::new(Instant::now());
        let published = Arc::new(Published::new(in_force(&runtime, 1)));
        let story = async {
            let (_worker, mut peer) = connected(&runtime, &published).await;
            // GET http://a/ (RFC 7541, Appendix A).
            let get = |stream| headers(5, stream, b"\x82\x86\x84\x41\x01a");
            peer.write_all(&get(1)).await.unwrap();
            answers(&mut peer, 1).await;
            let former = Arc::downgrade(&published.current());
            published.replace(in_force(&runtime, 1));
            peer.write_all(&get(3)).await.unwrap();
            answers(&mut peer, 1).await;
            assert!(former.upgrade().is_none(), "the connection keeps it");
        };
        LocalSet::new().run_until(story).await;
    }

    /// The upstream's answer to a request: one that opens a WebSocket, if it asks for that, otherwise the beginning of a body.
    fn begun_answer(request: &str) -> String {
        let Some((_, key)) = request.split_once("sec-websocket-key: ") else {
            return "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n".to_owned();
        };
        let key = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", &key[..24]);
        let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes()));
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\na"
        )
    }

    /// So do streams and WebSockets on them: what is decided about them again is decided by the policy in force.
    #[tokio::test]
    async fn what_goes_on_for_long_does_not_keep_a_policy_that_was_replaced() {
        // GET http://a/x, and CONNECT for a WebSocket at http://a/ (RFC 8441 §4).
        let get = headers(5, 1, b"\x82\x86\x04\x02/x\x41\x01a");
        let websocket =
            b"\x02\x07CONNECT\x86\x84\x41\x01a\x00\x09:protocol\x09websocket\x00\x15sec-websocket-version\x0213";
        let connect = headers(4, 1, websocket);
        for (request, more) in [(get, b"1\r\nb\r\n".as_slice()), (connect, b"b")] {
            let runtime = Runtime::new(Instant::now());
            let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = upstream.local_addr().unwrap().port();
            let published = Arc::new(Published::new(in_force(&runtime, port)));
            let story = async {
                let (worker, mut peer) = connected(&runtime, &published).await;
                peer.write_all(&request).await.unwrap();
                let (mut server, _) = upstream.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(server.read_u8().await.unwrap());
                }
                let answer = begun_answer(&String::from_utf8(head).unwrap());
                server.write_all(answer.as_bytes()).await.unwrap();
                part(&mut peer).await;
                let former = Arc::downgrade(&published.current());
                published.replace(in_force(&runtime, port));
                drop(worker.view());
                server.write_all(more).await.unwrap();
                part(&mut peer).await;
                assert!(former.upgrade().is_none(), "it keeps it: {request:?}");
            };
            LocalSet::new().run_until(story).await;
        }
    }
}
