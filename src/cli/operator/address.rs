//! Where an admin listener is, and how to connect to it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::policy::AdminPlace;
use crate::url::{Form, HttpUrl};

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
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`. The error says what is wrong, and what to write.
    pub(super) fn of(url: &str) -> Result<Self, String> {
        let Some(path) = url.strip_prefix("unix:") else {
            let url = HttpUrl::parse(url, Form::ADMIN).map_err(|error| format!("{error}, or `unix:PATH`"))?;
            let host = url.host();
            let address = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            let address = format!("{address}:{}", url.port());
            return Ok(if url.is_https() {
                let name = ServerName::try_from(host.to_owned());
                Self::Tls(address, name.map_err(|_| "its host is not a name that a certificate can have".to_owned())?)
            } else {
                Self::Tcp(address)
            });
        };
        // `unix://run/a.sock` would be `/run/a.sock` for some, `run/a.sock` for others.
        let host = path.strip_prefix("//").is_some_and(|rest| !rest.starts_with('/'));
        if path.is_empty() || host {
            return Err("the path of the socket is missing or unclear; write `unix:PATH` or `unix:///PATH`".to_owned());
        }
        Ok(Self::Socket(path.into()))
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
            assert_eq!(AdminAddress::of(url).ok(), expected, "{url}");
        }
    }
}
