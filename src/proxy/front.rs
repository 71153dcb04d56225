//! The client's side of a connection, as hyper sees it: bytes are watched by the framing guard before hyper parses them,
//! and what hyper would answer on its own is held back, so that every refusal is ours.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Flaw, Guard};
use super::stream::Stream;
use crate::exchange::Peer;

/// Up to so many bytes, an answer is copied into one piece to be written; a gathered write costs more.
const GATHERED: usize = 16 * 1024;

thread_local! {
    /// Where that is done.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::default();
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing, since then.
    Idle(Instant),
    /// A request's head is coming, since then.
    Head(Instant),
    /// So many requests are being answered.
    Busy(u32),
}

/// A client connection, as all its parts see it.
pub(crate) struct Client {
    /// The other end.
    pub(crate) peer: Peer,
    phase: Cell<Phase>,
    /// hyper has nothing left to write of any answer: what it writes now is its own.
    quiet: Cell<bool>,
    /// hyper wanted to answer on its own.
    held_back: Cell<bool>,
    /// The client has taken nothing of what was written to it since then.
    stalled: Cell<Option<Instant>>,
    /// What was wrong with the bytes that came.
    flaw: Cell<Option<Flaw>>,
    /// Heads that the guard let through.
    heads: Cell<u64>,
    /// Requests that hyper made of them.
    requests: Cell<u64>,
    /// The last byte that came was the last of a message.
    between: Cell<bool>,
}

impl Client {
    /// A connection that just came.
    pub(crate) fn new(peer: Peer, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            peer,
            phase: Cell::new(Phase::Idle(now)),
            quiet: Cell::new(true),
            held_back: Cell::new(false),
            stalled: Cell::new(None),
            flaw: Cell::new(None),
            heads: Cell::new(0),
            requests: Cell::new(0),
            between: Cell::new(true),
        })
    }

    /// What it is doing.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Whether everything that came was answered, so that hyper holds nothing of this connection.
    pub(crate) fn is_settled(&self) -> bool {
        let answered = self.requests.get() == self.heads.get() && self.quiet.get();
        answered && self.between.get() && !self.has_flaw() && matches!(self.phase.get(), Phase::Idle(_))
    }

    /// Begins to count anew, with another guard.
    fn restart(&self) {
        self.heads.set(0);
        self.requests.set(0);
    }

    /// Since when the client has taken nothing of what is written to it.
    pub(crate) fn stalled(&self) -> Option<Instant> {
        self.stalled.get()
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match (&written, self.stalled.get()) {
            (Poll::Pending, None) => self.stalled.set(Some(Instant::now())),
            (Poll::Ready(_), Some(_)) => self.stalled.set(None),
            _ => {}
        }
        written
    }

    /// A request begins. False when it is not one that the guard saw begin: then the two disagree on where requests are.
    pub(crate) fn begin(&self) -> bool {
        self.quiet.set(false);
        self.requests.set(self.requests.get() + 1);
        self.phase.set(match self.phase.get() {
            Phase::Busy(others) => Phase::Busy(others + 1),
            Phase::Idle(_) | Phase::Head(_) => Phase::Busy(1),
        });
        self.requests.get() <= self.heads.get()
    }

    /// A request ends.
    pub(crate) fn end(&self, now: Instant) {
        self.phase.set(match self.phase.get() {
            Phase::Busy(others) if others > 1 => Phase::Busy(others - 1),
            _ => Phase::Idle(now),
        });
    }

    /// What was wrong with a head, or hyper's wish to say that something was; each is told once.
    pub(crate) fn unanswered(&self) -> Option<Option<Flaw>> {
        let flaw = self.flaw.take();
        let held_back = self.held_back.take();
        // A flaw in a body has been answered by the request it belongs to.
        let in_head = flaw.is_some_and(|flaw| !flaw.in_body);
        (in_head || held_back).then_some(flaw)
    }
}

/// The stream that hyper reads and writes.
pub(crate) struct Front {
    /// Shared with the connection, which closes it when hyper is done.
    stream: Rc<RefCell<Stream>>,
    client: Rc<Client>,
    /// Bytes that were read to tell HTTP/1 from HTTP/2.
    prefix: Bytes,
    /// Watches HTTP/1; HTTP/2 has no framing to be ambiguous about.
    guard: Option<Guard>,
}

impl Front {
    /// `prefix` is what has been read already; without a guard, bytes go through unwatched.
    pub(crate) fn new(stream: Rc<RefCell<Stream>>, client: Rc<Client>, prefix: Bytes, guard: Option<Guard>) -> Self {
        if guard.is_none() {
            // HTTP/2 opens with frames of its own before any request; it never answers in hyper's name.
            client.quiet.set(false);
        }
        client.restart();
        Self { stream, client, prefix, guard }
    }

    /// Shows the guard what has just been read. On a flaw, what came before the flawed head stays for hyper, and nothing
    /// after it.
    fn watch(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let Some(guard) = &mut self.guard else { return };
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            return;
        }
        let observed = guard.observe(fresh);
        self.client.heads.set(guard.heads());
        self.client.between.set(guard.between_messages());
        if guard.mid_head()
            && let Phase::Idle(_) = self.client.phase.get()
        {
            self.client.phase.set(Phase::Head(Instant::now()));
        }
        if let Err(flaw) = observed {
            let good = before + flaw.offset.min(fresh.len());
            self.client.flaw.set(Some(flaw));
            buffer.set_filled(good);
        }
    }
}

fn flawed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "ambiguous request framing")
}

impl AsyncRead for Front {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if !this.client.has_flaw() {
            if this.prefix.is_empty() {
                ready!(Pin::new(&mut *this.stream.borrow_mut()).poll_read(cx, buffer))?;
            } else {
                let piece = this.prefix.split_to(this.prefix.len().min(buffer.remaining()));
                buffer.put_slice(&piece);
            }
            this.watch(buffer, before);
            if buffer.filled().len() > before || !this.client.has_flaw() {
                return Poll::Ready(Ok(()));
            }
        }
        this.client.poll_flaw()
    }
}

impl Client {
    fn has_flaw(&self) -> bool {
        self.flaw.get().is_some()
    }

    /// What hyper reads after a flaw: an error, but not before the requests that came before it have been answered.
    /// hyper asks again when they have been, so nobody needs to be woken.
    fn poll_flaw(&self) -> Poll<io::Result<()>> {
        let flaw = self.flaw.get();
        match self.phase.get() {
            Phase::Busy(_) if flaw.is_some_and(|flaw| !flaw.in_body) => Poll::Pending,
            _ => Poll::Ready(Err(flawed())),
        }
    }

    /// Whether what hyper writes now is its own answer to a head it could not parse.
    fn holds_back(&self) -> bool {
        self.quiet.get() && {
            self.held_back.set(true);
            true
        }
    }
}

impl AsyncWrite for Front {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.client.holds_back() {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.client.wrote(Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size = slices.iter().map(|slice| slice.len()).sum();
        if self.client.holds_back() {
            return Poll::Ready(Ok(size));
        }
        let mut stream = self.stream.borrow_mut();
        let written = if size > GATHERED {
            Pin::new(&mut *stream).poll_write_vectored(cx, slices)
        } else {
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.clear();
                slices.iter().for_each(|slice| scratch.extend_from_slice(slice));
                Pin::new(&mut *stream).poll_write(cx, scratch)
            })
        };
        self.client.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the stream only when its own buffer is empty.
        if self.guard.is_some() && !matches!(self.client.phase.get(), Phase::Busy(_)) {
            self.client.quiet.set(true);
        }
        Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.guard.is_some() {
            // There may be a last answer to write: the connection closes HTTP/1 itself.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }
}
