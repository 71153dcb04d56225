//! A worker: one thread, one single-threaded runtime, everything a request needs close at hand.
//!
//! Workers share what must be one for the whole process (the policy in force, the ledger, the metrics) and nothing else.
//! On the request path there is no lock and no task of another thread.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::connection;
use super::listener::Slot;
use super::pool::Pools;
use crate::audit::{Recorder, Trail};
use crate::policy::Policy;
use crate::stages::auth::cache::{KeyEpoch, TokenCache};
use crate::state::ledger::Ledger;
use crate::state::published::{Published, View};
use crate::telemetry::Metrics;

/// Idle upstream connections are looked at this often.
const SWEEP: Duration = Duration::from_secs(5);

/// What is in force: replaced as a whole.
pub(crate) struct Live {
    /// The policy.
    pub(crate) policy: Arc<Policy>,
    /// Where records go.
    pub(crate) trail: Arc<Trail>,
}

/// What all workers share.
pub(crate) struct Shared {
    /// What is in force.
    pub(crate) live: Arc<Published<Live>>,
    /// How much callers have used of their limits.
    pub(crate) ledger: Arc<Ledger>,
    /// Counts changes of key sets.
    pub(crate) key_epoch: KeyEpoch,
    /// Every number.
    pub(crate) metrics: Metrics,
}

/// One worker's view of what is in force.
pub(crate) struct Here {
    /// What is in force.
    pub(crate) live: Arc<Live>,
    /// Tokens verified under this policy.
    pub(crate) tokens: TokenCache,
    /// Upstream connections, by position of the server in the policy.
    pub(crate) pools: Pools,
}

/// A worker, as its connections see it.
pub(crate) struct Worker {
    /// What all workers share.
    pub(crate) shared: Arc<Shared>,
    /// Takes this worker's records.
    pub(crate) recorder: Rc<Recorder>,
    view: View<Live, Here>,
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Self {
        let recorder = Recorder::new(Arc::clone(&shared.live.current().trail));
        let view = View::new(Arc::clone(&shared.live), |live| Here {
            tokens: TokenCache::new(shared.key_epoch.clone()),
            pools: Pools::new(live.policy.servers(), None),
            live,
        });
        Self { shared, recorder, view }
    }

    /// What is in force now.
    pub(crate) fn here(&self) -> Rc<Here> {
        self.view.current(|live, before| {
            self.recorder.switch(Arc::clone(&live.trail));
            Here {
                tokens: TokenCache::new(self.shared.key_epoch.clone()),
                pools: Pools::new(live.policy.servers(), Some(&before.pools)),
                live,
            }
        })
    }
}

/// A connection on its way to a worker.
pub(crate) struct Accepted {
    /// The socket, non-blocking.
    pub(crate) stream: TcpStream,
    /// Its other end.
    pub(crate) peer: SocketAddr,
    /// Present: TLS, by the certificate in force when it came.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Its place among the connections that may be open; given back when it ends.
    pub(crate) slot: Slot,
}

/// A worker, as the rest of the process sees it.
pub(crate) struct Handle {
    connections: mpsc::UnboundedSender<Accepted>,
    open: Arc<AtomicUsize>,
}

impl Handle {
    /// Open connections.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Hands it a connection; false when the worker is gone.
    pub(crate) fn give(&self, accepted: Accepted) -> bool {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.connections.send(accepted).is_ok()
    }
}

/// Starts a worker, and returns it with its thread. It ends when `drain` turns true: at once for what is idle, within the policy's `timeouts.drain` for
/// what is in flight; then all its records have been handed over.
///
/// Errors: when the thread or its runtime cannot be had.
pub(crate) fn start(
    number: usize,
    shared: Arc<Shared>,
    drain: watch::Receiver<bool>,
) -> io::Result<(Handle, JoinHandle<()>)> {
    let (connections, arriving) = mpsc::unbounded_channel();
    let open = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&open);
    let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => runtime.block_on(run(shared, arriving, counted, drain)),
            Err(error) => tracing::error!(%error, "a worker could not start"),
        }
    })?;
    Ok((Handle { connections, open }, thread))
}

async fn run(
    shared: Arc<Shared>,
    mut arriving: mpsc::UnboundedReceiver<Accepted>,
    open: Arc<AtomicUsize>,
    mut drain: watch::Receiver<bool>,
) {
    let worker = Rc::new(Worker::new(shared));
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP);
    let told = drain.clone();
    loop {
        tokio::select! {
            Some(accepted) = arriving.recv() => {
                let served = connection::serve(Rc::clone(&worker), accepted, told.clone());
                let open = Arc::clone(&open);
                connections.spawn_local(async move {
                    served.await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            _ = sweep.tick() => worker.here().pools.sweep(),
            _ = drain.wait_for(|draining| *draining) => break,
        }
    }
    // What was accepted before the listeners closed is served too: its first request may be on the way.
    arriving.close();
    while let Some(accepted) = arriving.recv().await {
        connections.spawn_local(connection::serve(Rc::clone(&worker), accepted, told.clone()));
    }
    let patience = worker.here().live.policy.timeouts().drain;
    let finished = tokio::time::timeout(patience, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    });
    if finished.await.is_err() {
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
