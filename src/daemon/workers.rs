//! The worker threads: started once, drained at the end.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::error::StartError;
use super::signals::Signals;
use crate::proxy::downstream::worker::Shared;
use crate::proxy::downstream::worker_thread::{self, Handle};

/// How long the workers may take to write the records of aborted requests.
const LAST_RECORDS: Duration = Duration::from_secs(10);

/// The threads that serve requests.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// True when workers must finish.
    drain: watch::Sender<bool>,
    /// True when workers must abort unfinished requests.
    cut: watch::Sender<bool>,
}

impl Workers {
    /// Starts `count` workers, or one per core. Returns the handles to send connections to.
    pub(super) fn start(count: Option<usize>, shared: &Arc<Shared>) -> Result<(Self, Vec<Handle>), StartError> {
        let count = count.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
        let ((drain, draining), (cut, cutting)) = (watch::channel(false), watch::channel(false));
        let workers: Result<Vec<_>, _> = (0..count)
            .map(|number| worker_thread::start(number, Arc::clone(shared), draining.clone(), cutting.clone()))
            .collect();
        let workers = workers.map_err(|error| StartError::System(format!("a worker could not start: {error}")))?;
        let (handles, threads) = workers.into_iter().unzip();
        Ok((Self { threads, drain, cut }, handles))
    }

    /// Lets requests in flight finish within the drain time. Another signal to stop aborts them.
    pub(super) async fn close(self, signals: &mut Signals) {
        self.drain.send_replace(true);
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
                // Waits for the records of the aborted requests, not for the requests.
                let _ = tokio::time::timeout(LAST_RECORDS, finish).await;
            }
        }
    }
}
