//! The end of the queue that workers have: sampling, and handing over finished requests without ever waiting.

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::collector::Collector;
use super::config::TracesConfig;
use super::exporter::Exporter;
use super::request::FinishedRequest;
use super::sampler::Sampler;
use crate::exchange::TraceContext;
use crate::telemetry::SpanCounters;

/// Most requests that wait to be sent; with the bounds of their texts, some 10 MiB.
const QUEUE: usize = 4096;

/// How much longer the end of the thread is waited for.
const MARGIN: Duration = Duration::from_millis(500);

/// Samples requests, and sends their spans from a thread of its own, which ends when the tracer is dropped and what it has
/// taken is sent.
pub(crate) struct Tracer {
    config: TracesConfig,
    sampler: Sampler,
    queue: mpsc::Sender<FinishedRequest>,
    stop: watch::Sender<Option<tokio::time::Instant>>,
    counters: SpanCounters,
}

impl Tracer {
    /// Starts the thread. Nothing is sent before there is a span. `node` is the name of this host.
    ///
    /// # Errors
    /// The thread cannot be started, or the settings make no request.
    pub(crate) fn start(config: TracesConfig, node: &str, counters: SpanCounters) -> io::Result<Self> {
        let collector = Collector::new(&config.collector, node)?;
        let ((queue, requests), (stop, stopping)) = (mpsc::channel(QUEUE), watch::channel(None));
        let exporter = Exporter::new(requests, stopping, counters.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("traces".to_owned());
        thread.spawn(move || runtime.block_on(exporter.run(&collector)))?;
        let sampler = Sampler::new(&config, Instant::now());
        Ok(Self { config, sampler, queue, stop, counters })
    }

    /// Its settings.
    pub(crate) fn config(&self) -> &TracesConfig {
        &self.config
    }

    /// Whether the spans of a request are exported. Ask once for each: the answer may count against a limit. `trusted`: the
    /// peer is a trusted proxy.
    pub(crate) fn samples(&self, context: &TraceContext, trusted: bool, now: Instant) -> bool {
        self.sampler.samples(context, trusted, now)
    }

    /// Hands over a request. If the queue is full, its spans are dropped and counted.
    pub(crate) fn export(&self, request: FinishedRequest) {
        if let Err(error) = self.queue.try_send(request) {
            let (mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request)) = error;
            self.counters.dropped.inc_by(request.span_count());
        }
    }

    /// Sends what is queued, for as long as this at most. What comes later is dropped and counted.
    pub(crate) async fn close(&self, within: Duration) {
        let deadline = tokio::time::Instant::now() + within;
        self.stop.send_replace(Some(deadline));
        // The exporter has the other end until it has counted all.
        let _ = tokio::time::timeout_at(deadline + MARGIN, self.stop.closed()).await;
    }
}
