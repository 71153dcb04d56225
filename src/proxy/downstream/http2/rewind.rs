//! The client stream that HTTP/2 is served on: it first replays the bytes that were already read, counts the requests in what it
//! reads, and gathers what is written.
//!
//! h2 writes each answer by itself: a system call and a TLS record for every stream. What it writes in one turn of the connection
//! is gathered, and the connection writes it at once when h2 has nothing more to say in that turn.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream_counter::StreamCounter;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::stream::Stream;

/// Most bytes that are gathered; more is written first.
const GATHERED: usize = 32 * 1024;

/// The socket, and what was written and is not in it yet.
pub(super) struct Socket {
    stream: Stream,
    client: Rc<ClientConnection>,
    gathered: BytesMut,
    /// All that was written has gone to the kernel. TLS keeps some of it until it is flushed.
    flushed: bool,
    /// Why a write failed of which h2 does not know yet.
    failed: Option<io::ErrorKind>,
}

impl Socket {
    /// Wraps a stream.
    pub(super) fn new(stream: Stream, client: Rc<ClientConnection>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { stream, client, gathered: BytesMut::new(), flushed: true, failed: None }))
    }

    /// Writes what was gathered, at the end of a turn. A failure is h2's to handle, which is woken for that.
    pub(super) fn end_turn(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_written(cx) {
            self.failed = Some(error.kind());
            self.gathered.clear();
            self.flushed = true;
            cx.waker().wake_by_ref();
        }
    }

    /// Gives the room of what was gathered back, when nothing more is expected for now.
    pub(super) fn release_buffer(&mut self) {
        if self.gathered.is_empty() {
            self.gathered = BytesMut::new();
        }
    }

    /// Ready when all that was gathered has gone to the kernel.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.flushed {
            return Poll::Ready(Ok(()));
        }
        while !self.gathered.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.gathered);
            let written = ready!(self.client.track_write(written))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        ready!(self.client.track_flush(flushed))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn check(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Takes bytes to write; waits for the peer when there are too many.
    fn poll_gather(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        if self.gathered.len() >= GATHERED {
            ready!(self.poll_written(cx))?;
        }
        let taken = bytes.get(..GATHERED - self.gathered.len()).unwrap_or(bytes);
        self.gathered.extend_from_slice(taken);
        self.flushed = false;
        Poll::Ready(Ok(taken.len()))
    }
}

/// A client stream that replays its first bytes.
pub(super) struct Rewind {
    socket: Rc<RefCell<Socket>>,
    /// Bytes that were read to distinguish HTTP/1 from HTTP/2, or too many for one turn.
    prefix: Bytes,
    counter: Rc<RefCell<StreamCounter>>,
}

impl Rewind {
    /// Wraps `socket`, of which `prefix` has already been read.
    pub(super) fn new(socket: &Rc<RefCell<Socket>>, prefix: Bytes, counter: Rc<RefCell<StreamCounter>>) -> Self {
        Self { socket: Rc::clone(socket), prefix, counter }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.socket.borrow_mut().stream).poll_read(cx, buffer);
        }
        let size = self.prefix.len().min(buffer.remaining());
        buffer.put_slice(&self.prefix.split_to(size));
        Poll::Ready(Ok(()))
    }

    /// Counts what was read, as far as HTTP/2 may have it in this turn. Returns how much that is.
    fn count(&self, read: &[u8]) -> usize {
        let (mut counter, socket) = (self.counter.borrow_mut(), self.socket.borrow());
        let unfinished = counter.unfinished();
        let taken = counter.take(read);
        if counter.is_after_preface() {
            socket.client.preface_ends();
        }
        if counter.unfinished() != unfinished {
            socket.client.receives_head(counter.unfinished().map(|_| Instant::now()));
        }
        taken
    }
}

impl AsyncRead for Rewind {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.counter.borrow().unread().are_too_many() {
            return Poll::Ready(Err(io::Error::other("too many small parts of bodies that nobody reads")));
        }
        if self.counter.borrow().has_enough() {
            // The streams have their turn first.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(self.poll_bytes(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let taken = self.count(read);
        if taken < read.len() {
            let rest = read.get(taken..).unwrap_or_default();
            self.prefix = [rest, &self.prefix].concat().into();
            buffer.set_filled(before + taken);
        }
        Poll::Ready(Ok(()))
    }
}

/// Not vectored: what is gathered is copied anyway.
impl AsyncWrite for Rewind {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.borrow_mut().poll_gather(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It is written at the end of the turn.
        Poll::Ready(self.socket.borrow_mut().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = &mut *self.socket.borrow_mut();
        socket.check()?;
        ready!(socket.poll_written(cx))?;
        Pin::new(&mut socket.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::task::Waker;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::exchange::Peer;
    use crate::proxy::downstream::activity::Activity;
    use crate::proxy::stream::tests::tls_pair;

    async fn pair() -> (Rewind, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (rewind_of(Stream::Plain(listener.accept().await.unwrap().0.into())), peer)
    }

    fn rewind_of(stream: Stream) -> Rewind {
        let (address, now) = (SocketAddr::from(([127, 0, 0, 1], 9)), Instant::now());
        let client = ClientConnection::new(Peer::new(address, None), Arc::new(Activity::new(address, now)), now);
        Rewind::new(&Socket::new(stream, client), Bytes::new(), Rc::default())
    }

    #[tokio::test]
    async fn what_is_written_in_a_turn_goes_out_at_its_end() {
        let (mut rewind, mut peer) = pair().await;
        let mut cx = Context::from_waker(Waker::noop());
        for text in ["one", "two"] {
            assert!(matches!(Pin::new(&mut rewind).poll_write(&mut cx, text.as_bytes()), Poll::Ready(Ok(3))));
            assert!(Pin::new(&mut rewind).poll_flush(&mut cx).is_ready());
        }
        let mut read = [0; 8];
        assert!(peer.try_read(&mut read).is_err(), "nothing has been sent");
        std::future::poll_fn(|cx| {
            let socket = &mut rewind.socket.borrow_mut();
            socket.end_turn(cx);
            if socket.gathered.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(peer.read(&mut read).await.unwrap(), 6);
        rewind.socket.borrow_mut().release_buffer();
        assert_eq!(rewind.socket.borrow().gathered.capacity(), 0);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_waited_for() {
        let (mut rewind, peer) = pair().await;
        let mut cx = Context::from_waker(Waker::noop());
        let piece = [0; 10_000];
        let mut taken = 0;
        loop {
            match Pin::new(&mut rewind).poll_write(&mut cx, &piece) {
                Poll::Ready(written) => taken += written.unwrap(),
                // The first attempt to write finds the socket ready only after the event loop has run.
                Poll::Pending if taken <= GATHERED => tokio::task::yield_now().await,
                Poll::Pending => break,
            }
            assert!(taken < 1 << 28, "memory has no bound");
        }
        let socket = rewind.socket.borrow();
        assert!(socket.gathered.len() <= GATHERED && socket.client.stalled().is_some());
        drop(peer);
    }

    #[tokio::test]
    async fn what_tls_keeps_because_the_socket_was_full_goes_out_all_the_same() {
        let (stream, mut peer) = tls_pair().await;
        let mut rewind = rewind_of(stream);
        let (piece, mut taken) = ([7; 10_000], 0);
        // Until neither the kernel nor TLS takes anything more.
        loop {
            let written = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut rewind).poll_write(cx, &piece))).await;
            let Poll::Ready(written) = written else {
                break;
            };
            taken += written.unwrap();
            tokio::task::yield_now().await;
        }
        let socket = Rc::clone(&rewind.socket);
        let sending = std::future::poll_fn(|cx| {
            // h2 has nothing more to say in these turns.
            socket.borrow_mut().end_turn(cx);
            if socket.borrow().flushed { Poll::Ready(()) } else { Poll::Pending }
        });
        let reading = async {
            let mut left = taken;
            let mut bytes = vec![0; 16 << 10];
            while left > 0 {
                left -= peer.read(&mut bytes).await.unwrap();
            }
        };
        let both = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(sending, reading) });
        assert!(both.await.is_ok(), "the rest is still here");
    }

    #[tokio::test]
    async fn h2_learns_of_a_write_that_failed_at_the_end_of_a_turn() {
        let (mut rewind, peer) = pair().await;
        peer.set_zero_linger().unwrap();
        drop(peer);
        let mut cx = Context::from_waker(Waker::noop());
        while rewind.socket.borrow().failed.is_none() {
            tokio::task::yield_now().await;
            let _ = Pin::new(&mut rewind).poll_write(&mut cx, b"text");
            rewind.socket.borrow_mut().end_turn(&mut cx);
        }
        assert!(matches!(Pin::new(&mut rewind).poll_flush(&mut cx), Poll::Ready(Err(_))));
    }
}
