//! The thread of a worker: one single-threaded runtime that serves the connections it is handed.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::connection::{self, Accepted};
use super::worker::{Shared, Worker};

/// Idle upstream connections are looked at this often.
const SWEEP: Duration = Duration::from_secs(5);

/// A worker, as the rest of the process sees it.
pub(crate) struct Handle {
    connections: mpsc::UnboundedSender<(Accepted, Open)>,
    open: Arc<AtomicUsize>,
}

/// One of a worker's open connections; no more when dropped.
pub(crate) struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handle {
    /// Open connections.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Hands it a connection; false when the worker is gone.
    pub(crate) fn give(&self, accepted: Accepted) -> bool {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.connections.send((accepted, Open(Arc::clone(&self.open)))).is_ok()
    }
}

/// Starts a worker, and returns it with its thread. It ends when `drain` turns true: at once for what is idle, within the policy's `timeouts.drain` for
/// what is in flight, which ends when `cut` turns true; then all its records have been handed over.
///
/// Errors: when the thread or its runtime cannot be had.
pub(crate) fn start(
    number: usize,
    shared: Arc<Shared>,
    drain: watch::Receiver<bool>,
    cut: watch::Receiver<bool>,
) -> io::Result<(Handle, JoinHandle<()>)> {
    let (connections, arriving) = mpsc::unbounded_channel();
    let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => runtime.block_on(run(shared, arriving, drain, cut)),
            Err(error) => tracing::error!(%error, "a worker could not start"),
        }
    })?;
    Ok((Handle { connections, open: Arc::default() }, thread))
}

async fn run(
    shared: Arc<Shared>,
    mut arriving: mpsc::UnboundedReceiver<(Accepted, Open)>,
    mut drain: watch::Receiver<bool>,
    mut cut: watch::Receiver<bool>,
) {
    let worker = Rc::new(Worker::new(shared));
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP);
    let told = drain.clone();
    loop {
        tokio::select! {
            Some((accepted, open)) = arriving.recv() => {
                connections.spawn_local(connection::serve(Rc::clone(&worker), accepted, open, told.clone()));
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            _ = sweep.tick() => worker.view().pools.sweep(),
            _ = drain.wait_for(|draining| *draining) => break,
        }
    }
    // What was accepted before the listeners closed is served too: its first request may be on the way.
    arriving.close();
    while let Some((accepted, open)) = arriving.recv().await {
        connections.spawn_local(connection::serve(Rc::clone(&worker), accepted, open, told.clone()));
    }
    let patience = worker.view().in_force.policy.timeouts().drain;
    let finished = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    let late = tokio::select! {
        () = finished => false,
        () = tokio::time::sleep(patience) => true,
        _ = cut.wait_for(|cut| *cut) => false,
    };
    if late {
        tracing::warn!(left = connections.len(), "connections were cut: they did not finish within timeouts.drain");
    }
    // Dropping what is left writes its records.
    connections.shutdown().await;
    worker.recorder.close().await;
}

/// A panic in one connection ends that connection alone, and is a bug of ours.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended in a panic");
    }
}
