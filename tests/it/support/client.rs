//! Who calls: an HTTP/1.1 client that keeps its connection, and bytes as they are for hostile requests.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

use super::proxy::Proxy;
use super::wire::{Body, Connection, Framing, Head};

/// Every header name that an answer may carry to a caller: the proxy's own, and those that the upstreams of these tests
/// set on purpose. A name that is not here has leaked.
const ALLOWED: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-security-policy",
    "content-type",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "date",
    "dpop-nonce",
    "etag",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "referrer-policy",
    "repr-digest",
    "retry-after",
    "sec-websocket-accept",
    "set-cookie",
    "strict-transport-security",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
    "x-content-type-options",
    "x-request-id",
    "x-upstream",
];

/// Header names of an answer are on the list.
#[track_caller]
pub fn check_names<'a>(names: impl Iterator<Item = &'a str>) {
    for name in names {
        assert!(ALLOWED.contains(&name.to_ascii_lowercase().as_str()), "the header {name:?} leaked");
    }
}

/// A client with at most one connection, opened when it is needed.
pub struct Client {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    tls: Option<Arc<ClientConfig>>,
    server_name: String,
    first: Vec<u8>,
    connection: Option<Connection>,
}

/// A client of the proxy's first listener.
pub fn client(proxy: &Proxy) -> Client {
    Client::new(proxy.address(), Arc::clone(&proxy.requests))
}

/// A client of the admin listener, whose requests are owed no records.
pub fn operator(proxy: &Proxy) -> Client {
    Client::new(proxy.admin(), Arc::default())
}

impl Client {
    pub fn new(address: SocketAddr, requests: Arc<AtomicUsize>) -> Self {
        Self { address, requests, tls: None, server_name: "localhost".to_owned(), first: Vec::new(), connection: None }
    }

    /// Over TLS.
    pub fn tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Over TLS, for the server of this name (SNI).
    pub fn asking_for(mut self, name: &str) -> Self {
        name.clone_into(&mut self.server_name);
        self
    }

    /// Sends this before all else on each connection, TLS included.
    pub fn beginning(mut self, first: impl AsRef<[u8]>) -> Self {
        self.first = first.as_ref().to_vec();
        self
    }

    pub fn get(&mut self, target: &str) -> Request<'_> {
        self.request("GET", target)
    }

    pub fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Request<'_> {
        self.request("POST", target).header("content-type", "application/json").body(body)
    }

    pub fn request(&mut self, method: &str, target: &str) -> Request<'_> {
        let host = self.address.to_string();
        Request { client: self, line: format!("{method} {target} HTTP/1.1"), host, headers: Vec::new(), body: None }
    }

    /// The connection, opened if there is none.
    #[track_caller]
    pub fn connection(&mut self) -> &mut Connection {
        let (address, tls, name, first) = (self.address, &self.tls, &self.server_name, &self.first);
        self.connection.get_or_insert_with(|| {
            let mut tcp = TcpStream::connect(address).expect("the proxy takes connections");
            tcp.write_all(first).unwrap();
            match tls {
                None => Connection::plain(&tcp),
                Some(config) => {
                    let name = ServerName::try_from(name.clone()).unwrap();
                    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
                    let stream = StreamOwned::new(session, tcp.try_clone().unwrap());
                    Connection::over(&tcp, Box::new(stream))
                }
            }
        })
    }

    /// Sends bytes as they are; they are so many requests.
    #[track_caller]
    pub fn raw(&mut self, bytes: impl AsRef<[u8]>, requests: usize) -> &mut Self {
        self.requests.fetch_add(requests, Ordering::SeqCst);
        self.connection().send(bytes).unwrap();
        self
    }

    /// Sends more bytes of the same request.
    #[track_caller]
    pub fn more(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.raw(bytes, 0)
    }

    /// The head of the next answer.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        let head = self.connection().head().unwrap().expect("an answer, and not the end of the connection");
        check_names(head.headers.iter().map(|(name, _)| name.as_str()));
        head
    }

    /// The next answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// The next answer, to a request with this method.
    #[track_caller]
    pub fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.head();
        let status: u16 = head.word(1).parse().unwrap();
        let mut body = if method == "HEAD" || matches!(status, 204 | 304) {
            Body::framed(Framing::Length(0))
        } else {
            Body::of(&head, Framing::UntilClose)
        };
        let bytes = body.rest(self.connection()).expect("a whole body");
        if head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.connection().closes();
            self.connection = None;
        }
        Answer { status, head, body: bytes, trailers: body.trailers }
    }

    /// Waits for the proxy to close, which it must do without another byte.
    #[track_caller]
    pub fn closes(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.closes();
        }
    }

    /// Goes away.
    pub fn leaves(&mut self) {
        self.connection = None;
    }
}

/// A request in the making.
pub struct Request<'a> {
    client: &'a mut Client,
    line: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(set, _)| !(set == "content-type" && name == "content-type"));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    pub fn bearer(self, token: impl Into<String>) -> Self {
        let token: String = token.into();
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// A token with a proof (RFC 9449 §7.1).
    pub fn dpop(self, token: &str, proof: impl Into<String>) -> Self {
        self.header("authorization", &format!("DPoP {token}")).header("dpop", &proof.into())
    }

    pub fn key(self, key: &str) -> Self {
        self.header("x-api-key", key)
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// Sends it and reads the answer.
    #[track_caller]
    pub fn send(self) -> Answer {
        let mut text = format!("{}\r\nhost: {}\r\n", self.line, self.host);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend(self.body.unwrap_or_default());
        let method = self.line.split(' ').next().unwrap();
        self.client.raw(bytes, 1).answer_to(method)
    }
}

/// An answer, read whole. Its header names have been checked.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// What an echoing upstream received under this name.
    #[track_caller]
    pub fn echoed(&self, name: &str) -> Vec<String> {
        let json = self.json();
        let pairs = json["headers"].as_array().expect("an echo").iter();
        let named = pairs.filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name));
        named.map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
    }

    /// It has this status, and an id.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:#?}\n{}", self.head, self.text());
        self.id();
        self
    }

    /// The id of the request.
    #[track_caller]
    pub fn id(&self) -> String {
        let id = self.header("x-request-id").expect("an x-request-id");
        assert_eq!(id.len(), 36, "{id}");
        id.to_owned()
    }

    /// It is a refusal of this status and code, worded as RFC 9457 says.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.is(status);
        let problem = answer.json();
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["code"], code, "{problem:#}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:bartizan:problem:{code}"));
        assert_eq!(problem["instance"], format!("urn:uuid:{}", answer.id()));
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem:#}");
        }
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401 || code == "insufficient_scope");
        answer
    }
}
