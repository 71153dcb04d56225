//! Whether everything that was sent had arrived when a connection ended.
//!
//! A receiver that closes a connection before it has read everything resets it (RFC 2525 §2.17), and so does one that gets more
//! after that. So it has read everything if it ended the connection without a reset, and has acknowledged all bytes: only then does the
//! kernel let go of a connection whose both sides are closed, and knows its peer no more.

use std::net::Shutdown;
use std::time::Duration;

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::egress::Connection;

/// A connection; TLS in it is that with the receiver.
pub(super) type Stream = TokioIo<MaybeHttpsStream<Connection>>;

/// How often it is looked whether the last bytes are acknowledged.
const LOOK: Duration = Duration::from_millis(5);

/// Ends this side of a connection that the receiver has ended. Returns whether it acknowledges everything within this time.
pub(super) async fn is_acknowledged(stream: &Stream, most: Duration) -> bool {
    let Some(socket) = socket(stream) else { return false };
    // It fails where this side is closed already.
    let _ = SockRef::from(socket).shutdown(Shutdown::Write);
    let is_intact = || matches!(socket.take_error(), Ok(None));
    let acknowledged = async {
        while is_intact() {
            if socket.peer_addr().is_err() {
                return is_intact();
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    };
    tokio::time::timeout(most, acknowledged).await.unwrap_or_default()
}

/// The socket of a connection; none if TLS with a proxy is in between.
fn socket(stream: &Stream) -> Option<&TcpStream> {
    let connection = match stream.inner() {
        MaybeHttpsStream::Http(connection) => connection,
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner(),
    };
    match connection {
        MaybeHttpsStream::Http(socket) => Some(socket.inner()),
        MaybeHttpsStream::Https(_) => None,
    }
}
