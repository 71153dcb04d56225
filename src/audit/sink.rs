//! An open sink: the handle on the thread that writes it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::batch::Batch;
use super::config::SinkConfig;
use super::file::FileOutput;
use super::queue::Queue;
use super::sender::Sender;
use super::sink_state::State;
use super::sinks::Destination;
use super::source::{Pace, Source};
use super::spool::Spool;
use super::stdout::StdoutOutput;
use super::thread;
use super::writer::{Output, Writer};

/// Capacity of a sink's queue, in batches; the sealer waits when it is full.
pub(super) const QUEUE: usize = 64;

/// How long the writer of a sink that is no longer configured tries to write what was queued.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// How sinks of this machine read a spool: soon, and what they have is found in them after a crash.
const LOCAL: Pace = Pace { linger: Duration::from_millis(20), keep: Duration::from_secs(1) };

/// How sinks over the network read a spool: a request carries many lines, and only the spool knows what they have.
const REMOTE: Pace = Pace { linger: Duration::from_millis(250), keep: Duration::ZERO };

/// An open sink: the handle on its writer or sender.
pub(super) struct Sink {
    /// Its settings.
    pub(super) config: SinkConfig,
    input: Input,
    /// What it shares with its writer.
    pub(super) state: Arc<State>,
    thread: Thread,
    /// Closed when the writer has ended.
    pub(super) done: watch::Receiver<()>,
}

/// Where its lines come from.
enum Input {
    Queue(Arc<Queue<Batch>>),
    Spool(Arc<Spool>),
}

impl Input {
    fn queue(&self) -> Option<&Arc<Queue<Batch>>> {
        match self {
            Self::Queue(queue) => Some(queue),
            Self::Spool(_) => None,
        }
    }
}

impl Sink {
    /// Opens it, and starts its thread, which waits until `former`, the sink that was in its place, has ended. With a spool, the
    /// lines come from there, once the sink is in force.
    pub(super) fn open(
        config: &SinkConfig,
        spool: Option<&Arc<Spool>>,
        former: Option<&Self>,
        node: &str,
    ) -> io::Result<Self> {
        match config {
            SinkConfig::Stdout { readable } => Self::start(config, StdoutOutput::open(*readable)?, spool, former),
            SinkConfig::File { path, rotate } => Self::start(config, FileOutput::open(path, *rotate)?, spool, former),
            remote => {
                let spool = spool.ok_or_else(|| io::Error::other("a sink over the network needs a spool"))?;
                let destination = Destination::new(remote, node)?;
                let destination = destination.ok_or_else(|| io::Error::other("this is no sink over the network"))?;
                Self::send(config, destination, spool)
            }
        }
    }

    /// Starts the sender of a sink over the network.
    fn send(config: &SinkConfig, destination: Destination, spool: &Arc<Spool>) -> io::Result<Self> {
        let name = config.to_string();
        let source = Source::spool(spool, &name, REMOTE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let state = Arc::new(State::default());
        let sender = Sender { name, destination, source, state: Arc::clone(&state), runtime };
        let died = Arc::clone(&state);
        let (thread, done) = thread::spawn("audit-send", || sender.run(), move || died.dies())?;
        let input = Input::Spool(Arc::clone(spool));
        Ok(Self { config: config.clone(), input, state, thread, done })
    }

    /// Starts the writer of an open output.
    pub(super) fn start(
        config: &SinkConfig,
        output: impl Output,
        spool: Option<&Arc<Spool>>,
        former: Option<&Self>,
    ) -> io::Result<Self> {
        let name = config.to_string();
        let (input, source) = match spool {
            Some(spool) => (Input::Spool(Arc::clone(spool)), Source::spool(spool, &name, LOCAL)),
            None => {
                let queue = Arc::new(Queue::new(QUEUE, Duration::ZERO));
                (
                    Input::Queue(Arc::clone(&queue)),
                    Source::queue(&queue, former.map(|former| Arc::clone(&former.state))),
                )
            }
        };
        let state = Arc::new(State::default());
        let writer = Writer::new(&name, output, source, &state);
        let (died, queue) = (Arc::clone(&state), input.queue().cloned());
        let died = move || {
            died.dies();
            // The sealer must not wait for room in it.
            queue.iter().for_each(|queue| queue.close());
        };
        let (thread, done) = thread::spawn("audit", || writer.run(), died)?;
        Ok(Self { config: config.clone(), input, state, thread, done })
    }

    /// Returns why it cannot be written, while that lasts.
    pub(super) fn error(&self) -> Option<String> {
        let is_closed = match &self.input {
            Input::Queue(queue) => queue.is_closed(),
            Input::Spool(_) => self.state.closing.load(Relaxed),
        };
        self.state.error().or_else(|| is_closed.then(|| "closed".to_owned()))
    }

    /// Whether a fault ended its thread.
    pub(super) fn has_died(&self) -> bool {
        self.state.died.load(Relaxed)
    }

    /// Whether its thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.state.ended.load(Acquire)
    }

    /// Whether records are lost because a fault ended its thread; a spool would keep them.
    pub(super) fn loses(&self) -> bool {
        self.has_died() && self.input.queue().is_some()
    }

    /// Lines that were handed to it and that it does not have yet.
    pub(super) fn waiting(&self) -> u64 {
        match &self.input {
            Input::Queue(_) => self.state.waiting(),
            Input::Spool(spool) => spool.left(&self.config.to_string()),
        }
    }

    /// Records that are lost if the process ends now.
    pub(super) fn at_risk(&self) -> u64 {
        match &self.input {
            Input::Queue(_) => self.state.waiting(),
            Input::Spool(_) => 0,
        }
    }

    /// Counts records that [`take`](Self::take) is about to get.
    pub(super) fn count(&self, records: u64) {
        self.state.handed.fetch_add(records, Relaxed);
    }

    /// Queues a batch, blocking the thread while there is no room. The batch is lost if the sink is closed or given up, or
    /// `is_over` returns true. Does nothing with a spool.
    pub(super) fn take(&self, batch: &Batch, is_over: impl Fn() -> bool) {
        let Input::Queue(queue) = &self.input else { return };
        let gives_up = || self.state.is_given_up() || is_over();
        if queue.send_blocking(batch.clone(), gives_up).is_err() {
            self.lost(batch);
        }
    }

    /// Wakes the writer to check for a reopen or close, whether it waits for a batch or to retry.
    fn wake(&self) {
        match &self.input {
            Input::Queue(queue) => queue.wake(),
            Input::Spool(spool) => spool.wake(),
        }
        self.state.changed.notify_waiters();
        self.thread.unpark();
    }

    /// Makes the writer reopen it, after a rotation.
    pub(super) fn reopen(&self) {
        self.state.reopen.store(true, Relaxed);
        self.wake();
    }

    /// The sink is not in the policy any more. What it has, or the spool has for it, is written until `deadline`.
    pub(super) fn retire(&self, deadline: Instant) {
        match &self.input {
            // The sealer may still have lines for it, and closes it after them.
            Input::Queue(_) => self.give_up_at(deadline),
            Input::Spool(_) => self.close(deadline),
        }
    }

    /// Takes no more batches, and gives up those that are not written by then.
    pub(super) fn close(&self, deadline: Instant) {
        // Before anything that can end the writer.
        self.state.give_up_at(deadline);
        self.state.closing.store(true, Relaxed);
        if let Input::Queue(queue) = &self.input {
            queue.close();
        }
        self.wake();
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
