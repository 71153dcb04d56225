//! A TCP socket that is read and written by system calls alone, except into memory that is not initialised.
//!
//! In glibc before 2.41, each of these calls is a point where its thread may be cancelled, which takes two atomic operations in a process
//! of several threads. No thread is cancelled here.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The most slices that one call writes (`UIO_MAXIOV` of Linux).
const MOST_SLICES: usize = 1024;

/// A connected socket.
pub(crate) struct Socket(TcpStream);

impl Socket {
    /// Makes the connection reset when closed.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn set_zero_linger(&self) -> io::Result<()> {
        self.0.set_zero_linger()
    }

    /// Makes a call that moves up to `most` bytes, once the socket is ready for it.
    fn poll_call(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        most: usize,
        mut call: impl FnMut(&TcpStream) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Self(tcp) = self;
        loop {
            ready!(if interest.is_readable() { tcp.poll_read_ready(cx) } else { tcp.poll_write_ready(cx) })?;
            let mut moved = None;
            let called = tcp.try_io(interest, || {
                let size = *moved.insert(call(tcp)?);
                // A call that moved less than it could has emptied or filled the socket. As in tokio, the next one waits for an event
                // instead of asking the kernel.
                if (1..most).contains(&size) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (moved, called) {
                (Some(size), _) => return Poll::Ready(Ok(size)),
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                (None, _) => {}
            }
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self(tcp)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.initialized().len() < buffer.capacity() {
            // To initialise it would take longer than tokio's own call.
            return Pin::new(&mut this.0).poll_read(cx, buffer);
        }
        let most = buffer.remaining();
        let read = |tcp: &TcpStream| Ok(rustix::net::recv(tcp, buffer.initialize_unfilled(), RecvFlags::empty())?.0);
        let size = ready!(this.poll_call(cx, Interest::READABLE, most, read))?;
        buffer.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let send = |tcp: &TcpStream| rustix::net::send(tcp, bytes, SendFlags::NOSIGNAL);
        self.poll_call(cx, Interest::WRITABLE, bytes.len(), send)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size = slices.iter().take(MOST_SLICES).map(|slice| slice.len()).sum();
        self.poll_call(cx, Interest::WRITABLE, size, |tcp| rustix::io::writev(tcp, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0.into(), peer)
    }

    fn read_now(socket: &mut Socket) -> Poll<io::Result<usize>> {
        let mut room = [0; 4];
        let mut buffer = ReadBuf::new(&mut room);
        let read = Pin::new(socket).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        read.map_ok(|()| buffer.filled().len())
    }

    #[tokio::test]
    async fn it_reads_what_there_is_and_waits_for_more_until_the_end() {
        let (mut socket, mut peer) = pair().await;
        peer.write_all(b"0123456789").await.unwrap();
        let mut room = [0; 4];
        assert_eq!(socket.read(&mut room).await.unwrap(), 4);
        assert_eq!(&room, b"0123");
        assert_eq!(
            socket.read_buf(&mut Vec::with_capacity(4)).await.unwrap(),
            4,
            "in memory that nobody has initialised"
        );
        assert_eq!(socket.read(&mut room).await.unwrap(), 2);
        assert!(read_now(&mut socket).is_pending());
        peer.write_all(b"ab").await.unwrap();
        assert_eq!(socket.read(&mut room).await.unwrap(), 2);
        peer.shutdown().await.unwrap();
        assert_eq!(socket.read(&mut room).await.unwrap(), 0);
        socket2::SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(peer);
        let failed = loop {
            if let Err(error) = socket.write(b"x").await {
                break error.kind();
            }
        };
        assert!(matches!(failed, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe));
    }

    #[tokio::test]
    async fn it_writes_as_much_as_there_is_room_for_and_goes_on_when_there_is_more() {
        let (mut socket, mut peer) = pair().await;
        let piece = vec![b'x'; 1 << 20];
        let (mut written, mut vectored) = (0, false);
        loop {
            let mut cx = Context::from_waker(Waker::noop());
            let slices = [IoSlice::new(&piece), IoSlice::new(b"y")];
            let polled = match vectored {
                true => Pin::new(&mut socket).poll_write_vectored(&mut cx, &slices),
                false => Pin::new(&mut socket).poll_write(&mut cx, &piece),
            };
            let Poll::Ready(size) = polled else { break };
            written += size.unwrap();
            vectored = !vectored;
        }
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.unwrap();
            all.len()
        });
        socket.write_all(&piece).await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap(), written + piece.len());
    }
}
