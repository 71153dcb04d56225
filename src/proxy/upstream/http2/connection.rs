//! One HTTP/2 connection to an upstream server.
//!
//! A task of its own drives it, because its requests come and go. The task ends with the connection, whatever the server does.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use tokio::task::AbortHandle;

use super::super::head::{MAX_HEAD, MAX_HEADERS};
use super::super::limit::Permit;
use super::super::slots::Open;
use crate::policy::upstream::Connections;
use crate::proxy::deadline::Deadline;
use crate::proxy::stream::Stream;

/// Bytes of a response that the server may send before the client takes them.
const STREAM_WINDOW: u32 = 32 * 1024;
/// The same of all responses of a connection: clients that take nothing of theirs cannot hold up the others.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;
/// Most requests at once on a connection; the server may allow fewer. Beyond that, another one is opened.
const MAX_STREAMS: usize = 64;
/// After so many requests that were cancelled before their response ended, a connection takes no more. Servers end connections
/// with many of them (CVE-2023-44487), and with them what other callers have asked.
const MAX_CANCELLED: u32 = 16;
/// How many cancelled requests are remembered for a moment, whose responses may still come: all that there can be.
const REMEMBERED: usize = MAX_STREAMS + MAX_CANCELLED as usize;
/// What small DATA frames that wait for their clients may take beside their content, in bytes. Beyond that, the connection would
/// end, with the calls of all. h2 counts up to 256 for a frame, and an empty message of gRPC has 5 bytes: this is enough for nothing
/// else in the windows of all requests.
const FRAMES_BUDGET: usize = MAX_STREAMS * (STREAM_WINDOW as usize / 5) * 256;
/// Bytes of a request's body that wait to be written.
const SEND_BUFFER: usize = 64 * 1024;
/// What SETTINGS_MAX_HEADER_LIST_SIZE counts for each field beside its name and value (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// A connection that requests share.
pub(crate) struct Http2Connection {
    /// Never sends itself: one that has sent a request may wait for its turn, and take the place of the request in that.
    sender: RefCell<SendRequest<Bytes>>,
    /// Requests on it now.
    streams: Cell<usize>,
    /// When it was opened.
    opened: Instant,
    /// When its last request began.
    used: Cell<Instant>,
    /// Counts what the server has sent of responses.
    answers: Cell<u64>,
    /// Requests that were cancelled before their response ended.
    cancelled: Cell<u32>,
    /// The server does not answer any more.
    hangs: Cell<bool>,
    /// Timers of requests that have ended.
    timers: RefCell<Vec<Deadline>>,
    driver: AbortHandle,
    /// Count it. Not part of the task, which lives on for a moment: another connection may take its place at once.
    permits: (Permit, Open),
}

impl Http2Connection {
    /// Begins HTTP/2 on a stream that was just opened, and waits for the server's settings: they show that it speaks HTTP/2, and
    /// how many requests it takes at once. `permits` count it until it is dropped.
    pub(in crate::proxy::upstream) async fn open(stream: Stream, permits: (Permit, Open)) -> io::Result<Rc<Self>> {
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(MAX_HEAD + MAX_HEADERS * FIELD_OVERHEAD).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .data_frame_budget(FRAMES_BUDGET)
            .max_concurrent_reset_streams(REMEMBERED)
            // Until its settings are known.
            .initial_max_send_streams(0)
            .enable_push(false);
        let (sender, mut connection) = builder.handshake::<_, Bytes>(stream).await.map_err(io_error)?;
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(io_error(error))),
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        // Its requests get the error, too.
        let driver = tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to a server ended");
            }
        });
        let now = Instant::now();
        Ok(Rc::new(Self {
            sender: RefCell::new(sender),
            streams: Cell::new(0),
            opened: now,
            used: Cell::new(now),
            answers: Cell::new(0),
            cancelled: Cell::new(0),
            hangs: Cell::new(false),
            timers: RefCell::default(),
            driver: driver.abort_handle(),
            permits,
        }))
    }

    /// Whether it takes further requests, now or later: it is open, neither side ends it, and the server answers.
    pub(super) fn takes_requests(&self, Connections { age, idle, .. }: Connections) -> bool {
        let is_young = age.is_none_or(|age| self.opened.elapsed() < age);
        let is_calm = self.cancelled.get() < MAX_CANCELLED && !self.hangs.get();
        let is_used = self.streams.get() > 0 || self.used.get().elapsed() < idle;
        let mut sender = self.sender.borrow_mut();
        let polled = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        is_young && is_used && is_calm && !matches!(polled, Poll::Ready(Err(_)))
    }

    /// Whether it takes another request now.
    pub(super) fn has_room(&self) -> bool {
        self.streams.get() < self.sender.borrow().current_max_send_streams().min(MAX_STREAMS)
    }

    /// Whether no request is on it.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Sends the head of a request; `ended`: it has no body.
    pub(super) fn send(
        &self,
        request: Request<()>,
        ended: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.sender.borrow().clone().send_request(request, ended)
    }

    /// Counts a request, which begins now. Returns a timer for it.
    pub(super) fn begin(&self) -> Deadline {
        self.streams.set(self.streams.get() + 1);
        self.used.set(Instant::now());
        self.timers.borrow_mut().pop().unwrap_or_default()
    }

    /// Counts off a request, whose timer is free. `cancelled`: it was sent, and its response has not ended.
    pub(super) fn end(&self, timer: Deadline, cancelled: bool) {
        self.cancelled.set(self.cancelled.get() + u32::from(cancelled));
        self.streams.set(self.streams.get().saturating_sub(1));
        let mut timers = self.timers.borrow_mut();
        if timers.len() < MAX_STREAMS {
            timers.push(timer);
        }
        drop(timers);
        self.permits.1.has_room();
    }

    /// Records that the server sent a part of a response.
    pub(super) fn answered(&self) {
        self.answers.set(self.answers.get() + 1);
    }

    /// Counts the parts of responses that the server has sent.
    pub(super) fn answers(&self) -> u64 {
        self.answers.get()
    }

    /// Records that a request got no response in time. `before`: what [`Self::answers`] was when it began. If the server has sent
    /// nothing since, the connection may be dead without anybody having said so.
    pub(super) fn gave_up(&self, before: u64) {
        if self.answers.get() == before {
            self.hangs.set(true);
        }
    }
}

impl Drop for Http2Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An error of HTTP/2 as one of the connection, in words.
pub(super) fn io_error(error: h2::Error) -> io::Error {
    let text = error.to_string();
    error.into_io().unwrap_or_else(|| io::Error::other(text))
}
