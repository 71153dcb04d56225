//! An open WebSocket: bytes are copied both ways until it ends.
//!
//! It lasts no longer than the permission to open it, `idle` and `lifetime`.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Upgraded;
use super::frames::{self, Frames};
use crate::policy::upgrade::WebSocket;
use crate::proxy::http1::read_buffer::ReadBuffer;
use crate::proxy::request::permission::Permission;
use crate::proxy::request::record_guard::RecordGuard;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::stream::Stream;
use crate::refusal::Refusal;

/// How an open WebSocket ended.
enum End {
    /// One side closed it, or its connection broke.
    Closed(&'static str),
    /// The policy or the process ended it: a word for the record.
    Over(&'static str),
    /// Its caller may not have it any more.
    Refused(Refusal),
}

/// The word of the record for a WebSocket that the client closed.
const BY_CLIENT: &str = "closed_by_client";
/// The same for the upstream.
const BY_UPSTREAM: &str = "closed_by_upstream";
/// Nothing was sent for `idle`.
const IDLE: &str = "idle";
/// It was open for `lifetime`.
const LIFETIME: &str = "lifetime";
/// The process stops, or the listener is gone.
const STOPPING: &str = "stopping";

/// Status codes of Close frames (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1001;
const POLICY_VIOLATION: u16 = 1008;
const TRY_AGAIN_LATER: u16 = 1013;

/// Copies bytes between the client and the upstream until one of them closes, or it is over. Once `finish` is set, it is. `early`
/// was read of the client already.
pub(in crate::proxy) async fn run(
    client: impl AsyncRead + AsyncWrite + Unpin,
    early: Bytes,
    upgraded: Box<Upgraded>,
    body: &mut ResponseBody,
    finish: &Cell<bool>,
) {
    let Upgraded { settings, connection, credentials, most } = *upgraded;
    let (mut upstream, first, _held) = connection.into_stream();
    let guard = body.guard();
    guard.opened();
    let permission = guard.permission(credentials);
    let rechecks = permission.rechecks();
    let mut tunnel = Tunnel::new(guard, (client, early), (&mut upstream, first), most);
    let end = until_end(&mut tunnel, settings, permission, finish).await;
    tunnel.close(&end);
    drop(tunnel);
    let refused = matches!(end, End::Refused(_));
    match end {
        End::Closed(BY_CLIENT) => closed_by_client(body),
        End::Closed(word) | End::Over(word) => {
            body.guard().over(word);
            body.completed();
        }
        End::Refused(refusal) => {
            body.interrupted(refusal);
            body.completed();
        }
    }
    if refused {
        // Nothing is forwarded any more. To close the connections costs as much as a Close frame, so the others that a revocation
        // ends get theirs first. Boxed, so that an open WebSocket takes no room for it.
        Box::pin(rechecks.passed()).await;
    }
}

/// Records that the client has closed a WebSocket that is served no more. A stream that ends with its connection looks closed, too: of a
/// client that takes nothing, the record says that.
pub(in crate::proxy) fn closed_by_client(body: &mut ResponseBody) {
    if !body.guard().client_stalled() {
        body.guard().over(BY_CLIENT);
        body.completed();
    }
}

async fn until_end<C: AsyncRead + AsyncWrite + Unpin>(
    tunnel: &mut Tunnel<'_, C>,
    settings: WebSocket,
    permission: Box<Permission>,
    finish: &Cell<bool>,
) -> End {
    let mut lost = pin!(permission.lost());
    let begun = Instant::now();
    let mut timer = pin!(tokio::time::sleep(settings.idle));
    loop {
        let (lifetime, idle) = (begun + settings.lifetime, tunnel.active.get() + settings.idle);
        timer.as_mut().reset(lifetime.min(idle).into());
        tokio::select! {
            ended = poll_fn(|cx| tunnel.poll(cx, finish)) => return ended,
            refusal = &mut lost => return End::Refused(refusal),
            () = timer.as_mut() => {}
        }
        let now = Instant::now();
        if now >= lifetime {
            return End::Over(LIFETIME);
        }
        if now >= tunnel.active.get() + settings.idle {
            return End::Over(IDLE);
        }
    }
}

struct Tunnel<'a, C> {
    client: C,
    guard: &'a mut RecordGuard,
    upstream: &'a mut Stream,
    to_upstream: Direction,
    to_client: Direction,
    /// When a byte was last read.
    active: Cell<Instant>,
}

impl<C> Drop for Tunnel<'_, C> {
    fn drop(&mut self) {
        self.guard.tunnelled(self.to_upstream.count, self.to_client.count);
    }
}

/// One direction.
struct Direction {
    buffer: ReadBuffer,
    frames: Frames,
    /// What was written has not all been flushed.
    dirty: bool,
    /// The reader has closed.
    ended: bool,
    /// Bytes that were read.
    count: u64,
    /// Bytes that are read or written at once.
    most: usize,
}

/// A reader of which no more than so many bytes are read at once.
struct Few<R>(R, usize);

impl<R: AsyncRead + Unpin> AsyncRead for Few<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = self.1;
        if buffer.remaining() <= most {
            return Pin::new(&mut self.0).poll_read(cx, buffer);
        }
        let mut few = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut few))?;
        let read = few.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl Direction {
    fn new(input: Bytes, most: usize) -> Self {
        let mut frames = Frames::default();
        frames.feed(&input);
        let count = input.len() as u64;
        Self { buffer: ReadBuffer::new(input), frames, dirty: false, ended: false, count, most }
    }

    /// Writes what was read.
    fn poll_write(&mut self, mut to: impl AsyncWrite + Unpin, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffer.input.is_empty() {
            let bytes = self.buffer.input.get(..self.most).unwrap_or(&self.buffer.input);
            let written = ready!(Pin::new(&mut to).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.input.advance(written);
            self.dirty = true;
        }
        if self.dirty {
            ready!(Pin::new(&mut to).poll_flush(cx))?;
            self.dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the next bytes, when the last ones were written. Returns whether there are any; otherwise, the reader has closed.
    fn poll_read(&mut self, from: impl AsyncRead + Unpin, cx: &mut Context<'_>) -> Poll<bool> {
        // A connection that breaks is closed as well.
        let read = ready!(self.buffer.poll_fill(Few(from, self.most), cx)).unwrap_or(0);
        self.frames.feed(&self.buffer.input);
        self.count += read as u64;
        self.ended = read == 0;
        Poll::Ready(!self.ended)
    }
}

impl<'a, C: AsyncRead + AsyncWrite + Unpin> Tunnel<'a, C> {
    /// `early` was read of the client already, and `first` of the upstream.
    fn new(
        guard: &'a mut RecordGuard,
        (client, early): (C, Bytes),
        (upstream, first): (&'a mut Stream, Bytes),
        most: usize,
    ) -> Self {
        let (to_upstream, to_client) = (Direction::new(early, most), Direction::new(first, most));
        Self { client, guard, upstream, to_upstream, to_client, active: Cell::new(Instant::now()) }
    }

    fn poll(&mut self, cx: &mut Context<'_>, finish: &Cell<bool>) -> Poll<End> {
        if finish.get() {
            return Poll::Ready(End::Over(STOPPING));
        }
        let to_upstream = self.poll_to_upstream(cx);
        let to_client = self.poll_to_client(cx);
        match (to_client, to_upstream) {
            (Poll::Ready(word), _) | (Poll::Pending, Poll::Ready(word)) => Poll::Ready(End::Closed(word)),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    }

    /// Ready when the client has closed, or the upstream takes nothing any more.
    fn poll_to_upstream(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        loop {
            if ready!(self.to_upstream.poll_write(&mut self.upstream, cx)).is_err() {
                return Poll::Ready(BY_UPSTREAM);
            }
            if !ready!(self.to_upstream.poll_read(&mut self.client, cx)) {
                return Poll::Ready(BY_CLIENT);
            }
            self.active.set(Instant::now());
        }
    }

    /// Ready when the upstream has closed, or the client takes nothing any more.
    fn poll_to_client(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        loop {
            if ready!(self.to_client.poll_write(&mut self.client, cx)).is_err() {
                return Poll::Ready(BY_CLIENT);
            }
            if self.to_client.ended || !ready!(self.to_client.poll_read(&mut self.upstream, cx)) {
                return Poll::Ready(BY_UPSTREAM);
            }
            self.active.set(Instant::now());
        }
    }

    /// Tells the client why it ends, if no frame is under way. It does not wait: what ends, ends now.
    fn close(&mut self, end: &End) {
        let (code, reason) = match end {
            End::Closed(_) => return,
            End::Over(word) => (GOING_AWAY, *word),
            // What could not be decided is no fault of the caller's.
            End::Refused(refusal) if refusal.reason().status().is_server_error() => {
                (TRY_AGAIN_LATER, refusal.reason().code())
            }
            End::Refused(refusal) => (POLICY_VIOLATION, refusal.reason().code()),
        };
        if !self.to_client.frames.is_between() || !self.to_client.buffer.input.is_empty() {
            return;
        }
        self.to_client.buffer.input = frames::close(code, reason).into();
        let _ = self.to_client.poll_write(&mut self.client, &mut Context::from_waker(Waker::noop()));
    }
}
