//! Opens TCP connections, directly or through a tunnel of the proxy.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::no_proxy::NoProxy;
use super::settings::{Egress, Proxy};
use crate::telemetry::chain;

/// A connection; TLS in it is that with the proxy.
pub(crate) type Connection = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Opens connections to the host and port of a URL.
#[derive(Clone)]
pub(crate) struct Dialer {
    direct: HttpConnector,
    tunnel: Option<(Arc<NoProxy>, ProxyTunnel)>,
    timeout: Duration,
}

/// A tunnel over TCP, or over TLS with the proxy.
#[derive(Clone)]
enum ProxyTunnel {
    Http(Tunnel<HttpConnector>),
    Https(Tunnel<HttpsConnector<HttpConnector>>),
}

impl Dialer {
    /// A dialer with these settings.
    pub(crate) fn new(egress: &Egress) -> Self {
        Self::buffering(egress, None)
    }

    /// A dialer whose connections have at most twice as many bytes on their way (socket(7), `SO_SNDBUF`).
    pub(crate) fn buffering(egress: &Egress, bytes: Option<usize>) -> Self {
        let mut direct = HttpConnector::new();
        direct.set_send_buffer_size(bytes);
        direct.enforce_http(false);
        direct.set_nodelay(true);
        direct.set_keepalive(Some(Duration::from_secs(60)));
        direct.set_connect_timeout(Some(egress.connect_timeout));
        let tunnel = egress.proxy.as_ref().map(|proxy| (Arc::new(proxy.except.clone()), tunnel(proxy, direct.clone())));
        Self { direct, tunnel, timeout: egress.connect_timeout }
    }

    /// Whether connections to the host of a URL go there, and not through the proxy.
    pub(crate) fn is_direct(&self, to: &Uri) -> bool {
        self.tunnel.as_ref().is_none_or(|(except, _)| except.has(to.host().unwrap_or_default()))
    }

    /// Connects to the host and port of a URL; 443 or 80 if it has no port.
    ///
    /// # Errors
    /// No connection within the timeout, or why there is none.
    pub(crate) async fn connect(mut self, to: Uri) -> io::Result<Connection> {
        let tunnel = if self.is_direct(&to) { None } else { self.tunnel.take() };
        let (timeout, place) = (self.timeout, to.authority().map(ToString::to_string).unwrap_or_default());
        let connecting = async {
            match tunnel {
                None => match self.direct.call(to).await {
                    Ok(stream) => Ok(MaybeHttpsStream::Http(stream)),
                    Err(error) => Err(io::Error::other(chain(&error))),
                },
                Some((_, tunnel)) => through(tunnel, with_port(&to)?)
                    .await
                    .map_err(|why| io::Error::other(format!("the proxy opened no tunnel: {why}"))),
            }
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection to {place} within {timeout:?}"));
        tokio::time::timeout(timeout, connecting).await.map_err(late)?
    }
}

fn tunnel(proxy: &Proxy, direct: HttpConnector) -> ProxyTunnel {
    let to = proxy.url.uri().clone();
    let authorization = proxy.authorization.clone();
    match &proxy.trust {
        None => {
            let tunnel = Tunnel::new(to, direct);
            ProxyTunnel::Http(match authorization {
                Some(value) => tunnel.with_auth(value),
                None => tunnel,
            })
        }
        Some(trust) => {
            let tunnel = Tunnel::new(to, HttpsConnector::from((direct, Arc::clone(&trust.config))));
            ProxyTunnel::Https(match authorization {
                Some(value) => tunnel.with_auth(value),
                None => tunnel,
            })
        }
    }
}

async fn through(tunnel: ProxyTunnel, to: Uri) -> Result<Connection, String> {
    match tunnel {
        ProxyTunnel::Http(mut tunnel) => {
            tunnel.call(to).await.map(MaybeHttpsStream::Http).map_err(|error| chain(&error))
        }
        ProxyTunnel::Https(mut tunnel) => tunnel.call(to).await.map_err(|error| chain(&error)),
    }
}

/// The URL with its port: a tunnel takes 443 for one that is not written, in http as well.
fn with_port(to: &Uri) -> io::Result<Uri> {
    if to.port().is_some() {
        return Ok(to.clone());
    }
    let (host, https) = (to.host().unwrap_or_default(), to.scheme_str() == Some("https"));
    let (scheme, port) = if https { ("https", 443) } else { ("http", 80) };
    format!("{scheme}://{host}:{port}/").parse().map_err(io::Error::other)
}

impl Service<Uri> for Dialer {
    type Response = Connection;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().connect(to))
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::egress::Trust;
    use crate::url::{Form, HttpUrl};

    /// A TLS server for `localhost`, and what its clients trust.
    fn tls() -> (TlsAcceptor, Trust) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let server = server.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        (TlsAcceptor::from(Arc::new(server)), Trust { config: Arc::new(client), identity: "test".into() })
    }

    fn egress(url: &str, trust: Option<Trust>) -> Egress {
        let url = HttpUrl::parse(url, Form::SERVER).unwrap();
        Egress {
            proxy: Some(Proxy { url, authorization: None, trust, except: NoProxy::default() }),
            ..Egress::default()
        }
    }

    #[tokio::test]
    async fn a_tunnel_goes_through_tls_with_the_proxy_and_names_the_port() {
        let (acceptor, trust) = tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let egress = egress(&format!("https://localhost:{}", listener.local_addr().unwrap().port()), Some(trust));
        for (url, place) in [("http://a.example/x", "a.example:80"), ("https://[2001:db8::1]", "[2001:db8::1]:443")] {
            let serve = async {
                let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
                String::from_utf8(head).unwrap()
            };
            let dialer = Dialer::new(&egress);
            let (head, connection) = tokio::join!(serve, dialer.connect(url.parse().unwrap()));
            assert!(head.starts_with(&format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n")), "{head}");
            drop(connection.unwrap());
        }
    }

    #[tokio::test]
    async fn a_proxy_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let egress = egress(&format!("http://{}", listener.local_addr().unwrap()), None);
        let dialing = tokio::spawn(Dialer::new(&egress).connect("https://a.example:9200".parse().unwrap()));
        let _silent = listener.accept().await.unwrap();
        // From here on, only the clock moves.
        tokio::time::pause();
        let error = dialing.await.unwrap().err().unwrap();
        assert_eq!(error.to_string(), "no connection to a.example:9200 within 5s");
    }
}
