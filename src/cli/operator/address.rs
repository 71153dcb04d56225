//! Where an admin listener is, and how to connect to it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use http::uri::Authority;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::policy::AdminPlace;

/// What an address must look like.
pub(super) const FORM: &str = "http://HOST:PORT, https://HOST:PORT or unix:PATH";

/// Address of an admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AdminAddress {
    /// `HOST:PORT`, in the clear.
    Tcp(String),
    /// `HOST:PORT` and the name that its certificate must have, over TLS.
    Tls(String, ServerName<'static>),
    /// The file of a Unix socket.
    Socket(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Tls(address, _) => f.write_str(address),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A connection to a daemon.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl AdminAddress {
    /// Reads an address of this [`FORM`].
    pub(super) fn of(url: &str) -> Option<Self> {
        if let Some(path) = url.strip_prefix("unix:") {
            return Some(Self::Socket(path.into())).filter(|_| !path.is_empty());
        }
        let (scheme, rest) = url.split_once("://")?;
        let authority: Authority = rest.trim_end_matches('/').parse().ok()?;
        let https = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return None;
        }
        let address = format!("{host}:{}", authority.port_u16().unwrap_or(if https { 443 } else { 80 }));
        if !https {
            return Some(Self::Tcp(address));
        }
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self::Tls(address, ServerName::try_from(name).ok()?))
    }

    /// The address of a policy, which may have TLS.
    pub(super) fn of_policy(place: &AdminPlace, tls: bool) -> Self {
        match place {
            AdminPlace::Socket(socket) => Self::Socket(socket.path.clone()),
            AdminPlace::Address(address) if tls => Self::Tls(address.to_string(), address.ip().into()),
            AdminPlace::Address(address) => Self::Tcp(address.to_string()),
        }
    }

    /// Value of `Host` (RFC 9112 §3.2); a socket has no name.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Tcp(address) | Self::Tls(address, _) => address,
            Self::Socket(_) => "localhost",
        }
    }

    /// Connects, without TLS.
    async fn reach(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(address) | Self::Tls(address, _) => {
                TcpStream::connect(address).await.map(|stream| Box::new(stream) as _)
            }
            Self::Socket(path) => UnixStream::connect(path).await.map(|stream| Box::new(stream) as _),
        }
    }

    /// Finds out whether somebody listens there.
    pub(super) async fn probe(&self) -> io::Result<()> {
        self.reach().await.map(drop)
    }

    /// Connects, with TLS where the address has it.
    pub(super) async fn connect(&self, tls: Option<&Arc<ClientConfig>>) -> io::Result<Box<dyn Stream>> {
        let stream = self.reach().await?;
        match (self, tls) {
            (Self::Tls(..), None) => Err(io::Error::other("there is no TLS configuration")),
            (Self::Tls(_, name), Some(tls)) => {
                let stream = TlsConnector::from(Arc::clone(tls)).connect(name.clone(), stream).await?;
                Ok(Box::new(stream))
            }
            (Self::Tcp(_) | Self::Socket(_), _) => Ok(stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// U17: operators reach an admin listener in the clear, over TLS and on this machine.
    #[test]
    fn addresses_are_urls_without_a_path() {
        let name = |text: &str| ServerName::try_from(text.to_owned()).unwrap();
        let tcp = |text: &str| Some(AdminAddress::Tcp(text.to_owned()));
        for (url, expected) in [
            ("http://127.0.0.1:9901", tcp("127.0.0.1:9901")),
            ("http://admin.example/", tcp("admin.example:80")),
            (
                "https://admin.example:9901/",
                Some(AdminAddress::Tls("admin.example:9901".into(), name("admin.example"))),
            ),
            ("https://[::1]", Some(AdminAddress::Tls("[::1]:443".into(), name("::1")))),
            ("unix:/run/a.sock", Some(AdminAddress::Socket("/run/a.sock".into()))),
            ("unix:", None),
            ("https://", None),
            ("https://a.example/path", None),
            ("https://a:b@a.example", None),
            ("https://not a name", None),
            ("ftp://a.example", None),
            ("127.0.0.1:9901", None),
        ] {
            assert_eq!(AdminAddress::of(url), expected, "{url}");
        }
    }
}
