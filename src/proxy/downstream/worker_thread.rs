//! The thread of a worker: a single-threaded runtime that serves the connections sent to it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use super::accepted::{Accepted, Open};
use super::connection::{self, WebSocket};
use super::worker::{Shared, Worker};

/// How often idle upstream connections are checked.
const SWEEP: Duration = Duration::from_secs(5);

/// The tasks of a worker's connections: each may leave a WebSocket.
type Connections = JoinSet<Option<Box<WebSocket>>>;

/// The handle by which the rest of the process reaches a worker.
pub(crate) struct Handle {
    connections: mpsc::UnboundedSender<(Accepted, Open)>,
    open: Arc<AtomicUsize>,
}

impl Handle {
    /// Returns the number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Sends the worker a connection. Returns false when the worker has ended.
    pub(crate) fn send(&self, accepted: Accepted) -> bool {
        self.connections.send((accepted, Open::count(&self.open))).is_ok()
    }
}

/// Starts a worker, and returns its handle and its thread.
///
/// When `drain` turns true, its connections have been told to finish. Requests in flight may do so within the policy's
/// `timeouts.drain`, or until `cut` turns true. The thread ends after all records have been handed over.
///
/// Fails when the thread cannot be started.
pub(crate) fn start(
    number: usize,
    shared: Arc<Shared>,
    drain: watch::Receiver<bool>,
    cut: watch::Receiver<bool>,
) -> io::Result<(Handle, JoinHandle<()>)> {
    let (connections, incoming) = mpsc::unbounded_channel();
    let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => runtime.block_on(run(shared, incoming, drain, cut)),
            Err(error) => tracing::error!(%error, "a worker could not start"),
        }
    })?;
    Ok((Handle { connections, open: Arc::default() }, thread))
}

async fn run(
    shared: Arc<Shared>,
    mut incoming: mpsc::UnboundedReceiver<(Accepted, Open)>,
    mut drain: watch::Receiver<bool>,
    mut cut: watch::Receiver<bool>,
) {
    let worker = Rc::new(Worker::new(shared));
    let mut connections = Connections::new();
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            Some((accepted, open)) = incoming.recv() => {
                connections.spawn_local(connection::serve(Rc::clone(&worker), accepted, open));
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => go_on(&mut connections, ended),
            _ = sweep.tick() => worker.view().pools().sweep(),
            _ = drain.wait_for(|draining| *draining) => break,
        }
    }
    // Connections accepted before the listeners closed are served too: their first request may be on the way.
    incoming.close();
    while let Some((accepted, open)) = incoming.recv().await {
        connections.spawn_local(connection::serve(Rc::clone(&worker), accepted, open));
    }
    let timeout = worker.view().in_force.policy.timeouts().drain;
    let finished = async {
        while let Some(ended) = connections.join_next().await {
            go_on(&mut connections, ended);
        }
    };
    let timed_out = tokio::select! {
        () = finished => false,
        () = tokio::time::sleep(timeout) => true,
        _ = cut.wait_for(|cut| *cut) => false,
    };
    if timed_out {
        tracing::warn!(left = connections.len(), "connections were closed: they did not finish within timeouts.drain");
    }
    // Dropping the remaining connections writes their records.
    connections.shutdown().await;
    worker.finish_late().await;
    worker.recorder.close().await;
}

/// Serves what a connection has become. Reports a panic: it is a bug in the proxy, and ends only that connection.
fn go_on(connections: &mut Connections, ended: Result<Option<Box<WebSocket>>, JoinError>) {
    match ended {
        Ok(Some(websocket)) => {
            connections.spawn_local(async {
                websocket.serve().await;
                None
            });
        }
        Ok(None) => {}
        Err(error) if error.is_panic() => tracing::error!(%error, "a connection ended in a panic"),
        Err(_) => {}
    }
}
