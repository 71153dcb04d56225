//! One socket of the admin listener: a TCP address or a Unix socket, from binding to closing.
//!
//! The address has TLS where the policy says so. The mode of a Unix socket decides who on this machine may connect; admin
//! tokens are needed there, too. Connections are bounded, and each has a deadline ([`super::connections`]). A stale
//! socket file is replaced; a socket in use, or any other file, is an error.

use std::cell::RefCell;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::connections::{Connections, Place};
use super::{Admin, DaemonHandle, HERE, STRANGERS};
use crate::audit::Recorder;
use crate::exchange::Peer;
use crate::policy::{AdminPlace, AdminSocket};
use crate::proxy::downstream::listener;
use crate::proxy::downstream::worker::Shared;
use crate::proxy::stream::tls_version;
use crate::stages::auth::failed_attempts::Failures;
use crate::state::ledger::Ledger;

/// For the TLS handshake, and for the headers of a request: operators' requests are small and arrive quickly.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How many unknown admin tokens one address may send in this time.
const FAILED_ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
const FAILED_ATTEMPTS_PER: Duration = Duration::from_secs(60);
/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Delay after a failed accept: the cause is almost always a temporary shortage.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A bound socket that is registered with the runtime: serving it cannot fail.
pub(crate) enum Bound {
    /// At an address.
    Address(listener::Registered),
    /// At a path.
    Socket(AdminSocket, tokio::net::UnixListener, SocketFile),
}

impl Bound {
    /// Binds a Unix socket. Must be called within a runtime. Fails if the path is in use, or with the error of the system.
    pub(crate) fn socket(socket: &AdminSocket) -> io::Result<Self> {
        // Two processes that start at the same time must not take each other's socket for a stale one.
        let folder = socket.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")))?;
        folder.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another process is about to listen in this folder"),
            TryLockError::Error(error) => error,
        })?;
        remove_stale(&socket.path)?;
        let made = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
        made.bind(&SockAddr::unix(&socket.path)?)?;
        let file = SocketFile::new(&socket.path)?;
        // Clients can connect only once it listens, so none connects while it has another mode.
        file.set_mode(socket.mode)?;
        made.listen(BACKLOG)?;
        Ok(Self::Socket(socket.clone(), tokio::net::UnixListener::from_std(made.into())?, file))
    }
}

/// Removes a stale socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    let taken = |why: &str| Err(io::Error::new(ErrorKind::AddrInUse, why));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => return taken("the file exists and is not a socket"),
        Ok(_) => {}
    }
    // Non-blocking: a socket whose backlog is full is in use, too.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => taken("it is in use by another process"),
    }
}

/// The file of our own socket, removed when this is dropped.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: a file that has since replaced it must not be removed.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the admin socket could not be removed");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// A socket that is being served.
pub(crate) struct Listening {
    /// As in the policy.
    pub(crate) place: AdminPlace,
    /// For display: `https://ADDRESS`, `http://ADDRESS` or `unix:PATH`.
    pub(crate) label: String,
    file: Option<SocketFile>,
    task: JoinHandle<()>,
    /// Dropped to stop serving.
    stop: oneshot::Sender<()>,
}

impl Listening {
    /// Starts serving. Must be called within a local runtime.
    pub(crate) fn start(bound: Bound, shared: Arc<Shared>, daemon: DaemonHandle) -> Self {
        let scheme = if tls_config(&shared).is_some() { "https" } else { "http" };
        let (place, label, file, acceptor) = match bound {
            Bound::Address(bound) => {
                let (place, label) = (AdminPlace::Address(bound.configured), format!("{scheme}://{}", bound.local));
                (place, label, None, Acceptor::Address(bound.socket))
            }
            Bound::Socket(socket, listener, file) => {
                let label = format!("unix:{}", socket.path.display());
                (AdminPlace::Socket(socket), label, Some(file), Acceptor::Socket(listener))
            }
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::task::spawn_local(serve(acceptor, shared, daemon, stopped));
        Self { place, label, file, task, stop }
    }

    /// Sets the mode of its socket if it has changed.
    pub(crate) fn adapt(&self, wanted: &AdminPlace) -> io::Result<()> {
        match (wanted, &self.file) {
            (AdminPlace::Socket(socket), Some(file)) if *wanted != self.place => file.set_mode(socket.mode),
            _ => Ok(()),
        }
    }

    /// Stops accepting connections. Requests in progress finish; await the handle to wait for them.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        drop(self.file);
        drop(self.stop);
        self.task
    }
}

/// A socket that accepts connections.
enum Acceptor {
    Address(tokio::net::TcpListener),
    Socket(tokio::net::UnixListener),
}

/// TLS of the policy in force.
fn tls_config(shared: &Shared) -> Option<Arc<ServerConfig>> {
    let in_force = shared.in_force.current();
    in_force.policy.admin().and_then(|admin| Some(Arc::clone(&admin.tls.as_ref()?.config)))
}

/// A connection of any kind.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Acceptor {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        match self {
            Self::Address(listener) => listener.accept().await.map(|(stream, peer)| (Box::new(stream) as _, peer)),
            Self::Socket(listener) => listener.accept().await.map(|(stream, _)| (Box::new(stream) as _, HERE)),
        }
    }
}

/// Serves until `stop` resolves, then finishes the requests in progress and hands over their audit records.
async fn serve(acceptor: Acceptor, shared: Arc<Shared>, daemon: DaemonHandle, mut stop: oneshot::Receiver<()>) {
    let recorder = Recorder::new(Arc::clone(&shared.in_force.current().trail));
    let failures = match Failures::new(FAILED_ATTEMPTS, FAILED_ATTEMPTS_PER) {
        Ok(failures) => failures,
        Err(error) => return tracing::error!(error, "the admin listener cannot limit failed attempts"),
    };
    let (ledger, underway) = (Ledger::new(Instant::now()), RefCell::default());
    let strangers = Semaphore::new(STRANGERS);
    let admin = Rc::new(Admin { shared, daemon, recorder, failures, ledger, underway, strangers });
    let (connections, mut unaccepted) = (Rc::<Connections>::default(), listener::Failures::default());
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            _ = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(others) = unaccepted.note(Instant::now()) {
                    tracing::warn!(%error, others, "an admin connection could not be accepted");
                }
                connections.evict();
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        tokio::select! {
            () = connections.make_room() => {}
            _ = &mut stop => break,
        }
        let tls = match acceptor {
            Acceptor::Address(_) => tls_config(&admin.shared),
            // It does not leave this machine, and its mode says who may connect.
            Acceptor::Socket(_) => None,
        };
        let place = connections.open(peer.ip());
        tokio::task::spawn_local(serve_connection(Rc::clone(&admin), stream, tls, peer, place));
    }
    let mut underway = admin.underway.take();
    while underway.join_next().await.is_some() {}
    admin.recorder.close().await;
}

/// Serves one connection until it ends, or must end.
async fn serve_connection(
    admin: Rc<Admin>,
    stream: Box<dyn Stream>,
    tls: Option<Arc<ServerConfig>>,
    peer: SocketAddr,
    place: Place,
) {
    let connection = &place.connection;
    let served = async {
        let Some((stream, version)) = accept_tls(stream, tls).await else { return };
        let peer = Rc::new(Peer::new(peer, version));
        let service = service_fn(|request| {
            // A task of its own: the request is completed and recorded even if the client disconnects. A panic in
            // it, which is a bug of ours, closes the connection.
            let (reply, replied) = oneshot::channel();
            let mut underway = admin.underway.borrow_mut();
            while underway.try_join_next().is_some() {}
            let (admin, peer, handled) = (Rc::clone(&admin), Rc::clone(&peer), Rc::clone(connection));
            connection.handles();
            underway.spawn_local(async move {
                let _ = reply.send(admin.answer(&peer, &handled, request).await);
            });
            async move {
                let answer = replied.await;
                connection.answers();
                answer
            }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(16 * 1024);
        if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "an admin connection ended early");
        }
    };
    tokio::select! {
        () = served => {}
        () = connection.cut() => tracing::debug!("an admin connection was ended"),
    }
}

/// Performs the TLS handshake, if any. Returns the stream, and its TLS version.
async fn accept_tls(
    stream: Box<dyn Stream>,
    tls: Option<Arc<ServerConfig>>,
) -> Option<(Box<dyn Stream>, Option<&'static str>)> {
    let Some(config) = tls else { return Some((stream, None)) };
    match tokio::time::timeout(HEADER_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => {
            let version = tls_version(stream.get_ref().1);
            Some((Box::new(stream), Some(version)))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake of an operator failed");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;

    fn at(path: PathBuf) -> io::Result<Bound> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let _entered = runtime.enter();
        Bound::socket(&AdminSocket { path, mode: 0o640 })
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_away_with_its_server() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("admin.sock");
        let bound = at(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let taken = at(path.clone()).err().unwrap();
        assert_eq!((taken.kind(), taken.to_string().contains("in use")), (ErrorKind::AddrInUse, true), "{taken}");
        // So many wait that there is no room for another.
        let address = SockAddr::unix(&path).unwrap();
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
            socket.connect(&address).map(|()| socket)
        };
        let waiting: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        assert_eq!(connect().err().map(|error| error.kind()), Some(ErrorKind::WouldBlock), "{}", waiting.len());
        assert_eq!(at(path.clone()).err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn only_a_stale_socket_is_replaced() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        // What std makes stays behind when it is closed.
        drop(UnixListener::bind(path("stale")).unwrap());
        assert!(path("stale").exists() && at(path("stale")).is_ok());
        fs::write(path("file"), "precious").unwrap();
        std::os::unix::fs::symlink(path("nowhere"), path("link")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        for name in ["file", "link", "folder"] {
            assert_eq!(at(path(name)).err().map(|error| error.kind()), Some(ErrorKind::AddrInUse), "{name}");
            assert!(fs::symlink_metadata(path(name)).is_ok(), "{name} stays");
        }
        assert_eq!(at(path("none/admin.sock")).err().map(|error| error.kind()), Some(ErrorKind::NotFound));
        let lock = File::open(folder.path()).unwrap();
        lock.lock().unwrap();
        assert!(at(path("new")).is_err(), "another is about to bind");
    }

    #[test]
    fn what_took_its_place_is_not_removed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("admin.sock");
        let bound = at(path.clone()).unwrap();
        fs::rename(&path, folder.path().join("old.sock")).unwrap();
        fs::write(&path, "another").unwrap();
        drop(bound);
        assert!(path.exists());
    }
}
