//! The worker threads: started once, drained at the end.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::error::StartError;
use super::signals::Signals;
use crate::audit::Trail;
use crate::proxy::downstream::worker::Shared;
use crate::proxy::downstream::worker_thread::{self, Handle};

/// How long the workers may take after the sinks were given up.
const MARGIN: Duration = Duration::from_secs(1);

/// The threads that serve requests.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// True when workers must finish.
    drain: watch::Sender<bool>,
    /// True when workers must abort unfinished requests.
    cut: watch::Sender<bool>,
}

impl Workers {
    /// Returns how many workers a policy has: as it says, or one per core.
    pub(super) fn count(written: Option<usize>) -> usize {
        written.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1)
    }

    /// Starts `count` workers. Returns the handles to send connections to.
    pub(super) fn start(count: usize, shared: &Arc<Shared>) -> Result<(Self, Vec<Handle>), StartError> {
        let ((drain, draining), (cut, cutting)) = (watch::channel(false), watch::channel(false));
        let workers: Result<Vec<_>, _> = (0..count)
            .map(|number| worker_thread::start(number, Arc::clone(shared), draining.clone(), cutting.clone()))
            .collect();
        let workers = workers.map_err(|error| StartError::System(format!("a worker could not start: {error}")))?;
        let (handles, threads) = workers.into_iter().unzip();
        Ok((Self { threads, drain, cut }, handles))
    }

    /// Tells the workers to finish; the listeners have told the connections. Those that are sent to them from now on are
    /// refused.
    pub(super) fn drain(&self) {
        self.drain.send_replace(true);
    }

    /// Lets requests in flight finish within the drain time, and their records be handed over until `deadline`. Another
    /// signal to stop aborts the requests, and gives the sinks only `last` to take the records.
    pub(super) async fn close(self, signals: &mut Signals, trail: &Trail, deadline: Instant, last: Duration) {
        let (finished, mut finish) = oneshot::channel();
        // Detached: a worker that does not end must not keep the process alive.
        std::thread::spawn(move || {
            for thread in self.threads {
                // A panic of a worker has been logged.
                let _ = thread.join();
            }
            let _ = finished.send(());
        });
        tokio::select! {
            _ = &mut finish => {}
            () = signals.stop() => {
                tracing::warn!("a second signal: stopping at once");
                self.cut.send_replace(true);
                let deadline = deadline.min(Instant::now() + last);
                trail.give_up_at(deadline);
                // Waits for the records of the aborted requests, not for the requests.
                let _ = tokio::time::timeout_at((deadline + MARGIN).into(), finish).await;
            }
            () = tokio::time::sleep_until((deadline + MARGIN).into()) => {
                tracing::error!("a worker did not finish in time; its last records may be lost");
            }
        }
    }
}
