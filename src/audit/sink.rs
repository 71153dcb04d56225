//! An open sink: the handle on the thread that writes it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::config::SinkConfig;
use super::file::FileOutput;
use super::queue::Queue;
use super::stdout::StdoutOutput;
use super::writer::{Batch, Output, State, Writer};

/// Capacity of a sink's queue, in batches; the sealer waits when it is full.
pub(super) const QUEUE: usize = 64;

/// How long the writer of a sink that is no longer configured tries to write what was queued.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// An open sink: the handle on its writer.
pub(super) struct Sink {
    /// Its settings.
    pub(super) config: SinkConfig,
    queue: Arc<Queue<Batch>>,
    /// What it shares with its writer.
    pub(super) state: Arc<State>,
    thread: Thread,
    /// Closed when the writer has ended.
    pub(super) done: watch::Receiver<()>,
}

impl Sink {
    /// Opens it, and starts its writer.
    pub(super) fn open(config: &SinkConfig) -> io::Result<Self> {
        match config {
            SinkConfig::Stdout { readable } => Self::start(config, StdoutOutput::open(*readable)?),
            SinkConfig::File { path, .. } => Self::start(config, FileOutput::open(path)?),
            remote => Err(io::Error::new(io::ErrorKind::Unsupported, format!("{remote} needs a spool"))),
        }
    }

    /// Starts the writer of an open output.
    pub(super) fn start(config: &SinkConfig, output: impl Output) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(QUEUE));
        let (alive, done) = watch::channel(());
        let state = Arc::new(State::default());
        let writer = Writer {
            name: config.to_string(),
            output,
            batches: Arc::clone(&queue),
            state: Arc::clone(&state),
            done: alive,
            pending: Bytes::new(),
            written: 0,
            records: 0,
        };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(|| writer.run())?;
        Ok(Self { config: config.clone(), queue, state, thread: thread.thread().clone(), done })
    }

    /// Returns why it cannot be written, while that lasts.
    pub(super) fn error(&self) -> Option<String> {
        self.state.error().or_else(|| self.queue.is_closed().then(|| "closed".to_owned()))
    }

    /// Queues a batch, blocking the thread while there is no room. The batch is lost if the sink is closed or given up, or
    /// `is_over` returns true.
    pub(super) fn take(&self, batch: &Batch, is_over: impl Fn() -> bool) {
        self.state.handed.fetch_add(batch.records, Relaxed);
        let gives_up = || self.state.is_given_up() || is_over();
        if self.queue.send_blocking(batch.clone(), gives_up).is_err() {
            self.lost(batch);
        }
    }

    /// Wakes the writer to check for a reopen or close, whether it waits for a batch or to retry.
    fn wake(&self) {
        self.queue.wake();
        self.thread.unpark();
    }

    /// Makes the writer reopen it, after a rotation.
    pub(super) fn reopen(&self) {
        self.state.reopen.store(true, Relaxed);
        self.wake();
    }

    /// Takes no more batches, and gives up those that are not written by then.
    pub(super) fn close(&self, deadline: Instant) {
        self.queue.close();
        self.give_up_at(deadline);
    }

    /// Waits until its writer has ended.
    pub(super) async fn ended(&self) {
        let mut done = self.done.clone();
        // Nothing is ever sent: the channel closes when the writer ends.
        while done.changed().await.is_ok() {}
    }

    /// Sets when failing writes are given up, unless an earlier time is set.
    pub(super) fn give_up_at(&self, deadline: Instant) {
        self.state.give_up_at(deadline);
        self.wake();
    }

    /// Logs a batch that is lost.
    #[cold]
    fn lost(&self, batch: &Batch) {
        tracing::error!(sink = %self.config, records = batch.records, "audit records were lost: the sink is closed or full");
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.close(Instant::now() + GRACE);
    }
}
