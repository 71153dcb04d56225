//! What stands behind the proxy: a small threaded HTTP/1.1 server that remembers all it was asked.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::certificates::{Authority, Certified};
use super::eventually;
use super::wire::{Body, Connection, Framing, Head};

type Handler = Arc<dyn Fn(&mut Call<'_>) -> io::Result<()> + Send + Sync>;
type Raw = Arc<dyn Fn(&mut Connection) -> io::Result<()> + Send + Sync>;

/// A request as the upstream received it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub head: Head,
    /// Complete once the request has been answered.
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    pub fn target(&self) -> &str {
        self.head.word(1)
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }
}

/// One request that is being answered.
pub struct Call<'a> {
    pub head: Head,
    pub connection: &'a mut Connection,
    body: Body,
    seen: &'a Mutex<Vec<Seen>>,
    position: usize,
    close: bool,
}

impl Call<'_> {
    /// The next bytes of the body; `None` at its end.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let piece = self.body.piece(self.connection)?;
        let mut seen = self.seen.lock().unwrap();
        match &piece {
            Some(piece) => seen[self.position].body.extend_from_slice(piece),
            None => seen[self.position].trailers = self.body.trailers.clone(),
        }
        Ok(piece)
    }

    /// All of the body.
    pub fn body(&mut self) -> io::Result<Vec<u8>> {
        while self.piece()?.is_some() {}
        Ok(self.seen.lock().unwrap()[self.position].body.clone())
    }

    /// Answers whole.
    pub fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> io::Result<()> {
        self.body()?;
        let body = body.as_ref();
        let mut text = format!("HTTP/1.1 {status} Whatever\r\nserver: secret/1.0\r\n");
        if status != 304 && status != 204 {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if self.head.word(0) != "HEAD" {
            bytes.extend_from_slice(body);
        }
        self.connection.send(bytes)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.connection.send(bytes)
    }

    /// Closes after this request.
    pub fn close(&mut self) {
        self.close = true;
    }

    /// The request as JSON: method, target, headers (all, in order), body.
    fn echo(&mut self) -> io::Result<Value> {
        let body = self.body()?;
        let headers: Vec<Value> = self.head.headers.iter().map(|(name, value)| json!([name, value])).collect();
        Ok(json!({
            "method": self.head.word(0),
            "target": self.head.word(1),
            "headers": headers,
            "body": String::from_utf8_lossy(&body),
        }))
    }
}

/// An upstream to start.
pub struct Builder {
    handler: Handler,
    raw: Option<Raw>,
    tls: Option<Arc<ServerConfig>>,
}

/// Echoes what it is asked, unless told otherwise.
pub fn upstream() -> Builder {
    let echo = |call: &mut Call<'_>| {
        let echo = call.echo()?.to_string();
        call.answer(200, &[("content-type", "application/json")], echo)
    };
    Builder { handler: Arc::new(echo), raw: None, tls: None }
}

impl Builder {
    /// Answers every request alike.
    pub fn answers(self, status: u16, body: &'static str) -> Self {
        self.does(move |call| call.answer(status, &[("content-type", "text/plain")], body))
    }

    /// Answers every request in this way.
    pub fn does(mut self, handler: impl Fn(&mut Call<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        self.handler = Arc::new(handler);
        self
    }

    /// Speaks TLS.
    pub fn tls(mut self, certified: &Certified) -> Self {
        self.tls = Some(certified.server());
        self
    }

    /// Speaks TLS, with clients that show a certificate of this authority.
    pub fn tls_for(mut self, certified: &Certified, clients: &Authority) -> Self {
        self.tls = Some(certified.server_for(clients));
        self
    }

    pub fn start(self) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared::default());
        let (this, shared_there) = (Arc::new(self), Arc::clone(&shared));
        thread::spawn(move || {
            for tcp in listener.incoming() {
                let Ok(tcp) = tcp else { continue };
                if shared_there.stopped.load(Ordering::SeqCst) {
                    return;
                }
                shared_there.opened.fetch_add(1, Ordering::SeqCst);
                shared_there.sockets.lock().unwrap().push(tcp.try_clone().unwrap());
                let (this, shared) = (Arc::clone(&this), Arc::clone(&shared_there));
                thread::spawn(move || {
                    let socket = tcp.try_clone().unwrap();
                    // An error is the proxy going away, which tests see elsewhere.
                    let _ = this.serve(&tcp, &shared);
                    // `sockets` holds a clone, so dropping ours would not close it.
                    let _ = socket.shutdown(Shutdown::Both);
                    shared.closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Upstream { address, scheme, shared }
    }

    fn serve(&self, tcp: &TcpStream, shared: &Shared) -> io::Result<()> {
        let mut connection = match &self.tls {
            None => Connection::plain(tcp),
            Some(config) => {
                let stream = StreamOwned::new(
                    ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?,
                    tcp.try_clone()?,
                );
                Connection::over(tcp, Box::new(stream))
            }
        };
        if let Some(raw) = &self.raw {
            return raw(&mut connection);
        }
        while let Some(head) = connection.head()? {
            let position = {
                let mut seen = shared.seen.lock().unwrap();
                seen.push(Seen { head: head.clone(), ..Seen::default() });
                seen.len() - 1
            };
            let body = Body::of(&head, Framing::Length(0));
            let mut call = Call { head, connection: &mut connection, body, seen: &shared.seen, position, close: false };
            (self.handler)(&mut call)?;
            if call.close {
                break;
            }
            call.body()?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    opened: AtomicUsize,
    closed: AtomicUsize,
    stopped: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

/// A running upstream; dropping it closes everything.
pub struct Upstream {
    pub address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

impl Upstream {
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// All requests whose heads have come.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The only request that came.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// Nothing came: not even a connection.
    #[track_caller]
    pub fn saw_nothing(&self) {
        assert_eq!(self.connections(), 0, "{:?}", self.seen());
    }

    /// Connections that were opened so far.
    pub fn connections(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// Waits until so many connections have ended.
    pub fn lost(&self, connections: usize) {
        eventually("the proxy closes its connections to the upstream", || {
            (self.shared.closed.load(Ordering::SeqCst) >= connections).then_some(())
        });
    }

    /// Closes all connections that are open, and goes on taking new ones.
    pub fn closes_connections(&self) {
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, so that it sees the flag.
        let _ = TcpStream::connect(self.address);
        self.closes_connections();
    }
}
