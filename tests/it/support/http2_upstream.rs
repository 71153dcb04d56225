//! What stands behind the proxy over HTTP/2: a server that answers each request as a test says, by the `h2` crate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, Response};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;

use super::certificates::Certified;

/// One request that is being answered.
pub struct Http2Call {
    pub parts: Parts,
    pub body: RecvStream,
    /// Its connection, from 0.
    pub connection: usize,
    response: SendResponse<Bytes>,
    leaving: mpsc::UnboundedSender<Leave>,
}

impl Http2Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The next piece of the body; `None` at its end.
    pub async fn piece(&mut self) -> Option<Bytes> {
        let piece = self.body.data().await?.unwrap();
        self.body.flow_control().release_capacity(piece.len()).unwrap();
        Some(piece)
    }

    /// The whole body, and its trailers.
    pub async fn all(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await {
            all.extend_from_slice(&piece);
        }
        (all, self.body.trailers().await.unwrap())
    }

    /// Begins the response.
    pub fn head(&mut self, status: u16, headers: &[(&str, &str)]) -> SendStream<Bytes> {
        self.response.send_response(response(status, headers), false).unwrap()
    }

    /// Answers without a body.
    pub fn alone(&mut self, status: u16, headers: &[(&str, &str)]) {
        self.response.send_response(response(status, headers), true).unwrap();
    }

    /// Answers whole.
    pub fn answer(&mut self, status: u16, body: impl Into<Bytes>) {
        self.head(status, &[("content-type", "text/plain")]).send_data(body.into(), true).unwrap();
    }

    pub fn interim(&mut self, status: u16, headers: &[(&str, &str)]) {
        self.response.send_informational(response(status, headers)).unwrap();
    }

    /// Ends the stream without a response.
    pub fn reset(&mut self, reason: Reason) {
        self.response.send_reset(reason);
    }

    /// Ends the connection gracefully: those that have begun are answered.
    pub fn leave(&self) {
        let _ = self.leaving.send(Leave::Gracefully);
    }

    /// Ends the connection at once.
    pub fn breaks(&self) {
        let _ = self.leaving.send(Leave::AtOnce);
    }
}

enum Leave {
    Gracefully,
    AtOnce,
}

fn response(status: u16, headers: &[(&str, &str)]) -> Response<()> {
    headers
        .iter()
        .fold(Response::builder().status(status), |all, (name, value)| all.header(*name, *value))
        .body(())
        .unwrap()
}

/// A server to start.
#[derive(Default)]
pub struct Http2Builder {
    tls: Option<Arc<ServerConfig>>,
    streams: Option<u32>,
    goes_away: bool,
}

pub fn http2_upstream() -> Http2Builder {
    Http2Builder::default()
}

impl Http2Builder {
    /// Speaks TLS, and names HTTP/2 in the handshake.
    pub fn tls(mut self, certified: &Certified) -> Self {
        let mut config = ServerConfig::clone(&certified.server());
        config.alpn_protocols = vec![b"h2".to_vec()];
        self.tls = Some(Arc::new(config));
        self
    }

    /// Takes so many requests at once on a connection.
    pub fn streams(mut self, most: u32) -> Self {
        self.streams = Some(most);
        self
    }

    /// Its first connection goes away with the first request, which it says it has not handled.
    pub fn goes_away(mut self) -> Self {
        self.goes_away = true;
        self
    }

    /// Starts it; `handler` answers every request.
    pub fn start(self, handler: impl AsyncFn(Http2Call) + Clone + Send + 'static) -> Http2Upstream {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = Arc::new(Shared::default());
        let there = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = self.accept(TcpListener::from_std(listener).unwrap(), handler, there) => {}
                    _ = stopped => {}
                }
            });
        });
        Http2Upstream { address, scheme, shared, stop: Some((stop, thread)) }
    }

    async fn accept(
        self,
        listener: TcpListener,
        handler: impl AsyncFn(Http2Call) + Clone + 'static,
        shared: Arc<Shared>,
    ) {
        loop {
            let Ok((tcp, _)) = listener.accept().await else { continue };
            let number = shared.opened.fetch_add(1, Ordering::SeqCst);
            tcp.set_nodelay(true).unwrap();
            let (handler, shared, streams) = (handler.clone(), Arc::clone(&shared), self.streams);
            let (goes_away, tls) = (self.goes_away && number == 0, self.tls.clone());
            tokio::task::spawn_local(async move {
                match tls {
                    _ if goes_away => go_away(tcp).await,
                    None => serve(tcp, number, streams, handler, &shared).await,
                    Some(tls) => {
                        if let Ok(tls) = TlsAcceptor::from(tls).accept(tcp).await {
                            serve(tls, number, streams, handler, &shared).await;
                        }
                    }
                }
                shared.closed.fetch_add(1, Ordering::SeqCst);
            });
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    number: usize,
    streams: Option<u32>,
    handler: impl AsyncFn(Http2Call) + Clone + 'static,
    shared: &Shared,
) {
    let mut builder = Builder::new();
    if let Some(streams) = streams {
        builder.max_concurrent_streams(streams);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let (leaving, mut leaves) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, response))) = accepted else { return };
                let (parts, body) = request.into_parts();
                shared.seen.lock().unwrap().push(parts.clone());
                let call = Http2Call { parts, body, connection: number, response, leaving: leaving.clone() };
                let handler = handler.clone();
                tokio::task::spawn_local(async move { handler(call).await });
            }
            Some(leave) = leaves.recv() => match leave {
                Leave::Gracefully => connection.graceful_shutdown(),
                Leave::AtOnce => return,
            },
        }
    }
}

/// Waits for HEADERS, and says that no stream was handled (RFC 9113 §6.8).
async fn go_away(mut tcp: TcpStream) {
    const HEADERS: u8 = 1;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    tcp.write_all(&settings).await.unwrap();
    let mut preface = [0; 24];
    tcp.read_exact(&mut preface).await.unwrap();
    loop {
        let mut head = [0; 9];
        if tcp.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        tcp.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == HEADERS {
            let frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            tcp.write_all(&frame).await.unwrap();
        }
    }
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Parts>>,
    opened: AtomicUsize,
    closed: AtomicUsize,
}

/// A running server; dropping it closes everything.
pub struct Http2Upstream {
    pub address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    stop: Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

impl Http2Upstream {
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// All requests whose heads have come.
    pub fn seen(&self) -> Vec<Parts> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Connections that were opened so far.
    pub fn connections(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// Connections that have ended.
    pub fn lost(&self) -> usize {
        self.shared.closed.load(Ordering::SeqCst)
    }
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.stop.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}
