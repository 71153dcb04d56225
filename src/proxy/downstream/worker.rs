//! A worker: everything a request needs, local to one thread.
//!
//! Workers share only what exists once in the process: the policy in force, the ledger and the metrics. The request
//! path takes no lock and waits for no task of another thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::rechecks::Rechecks;
use crate::audit::Recorder;
use crate::proxy::upstream::{Pools, UpstreamLimit};
use crate::runtime::InForce;
use crate::stages::auth::cache::TokenCache;
use crate::stages::auth::forwarded_certificate::VerifiedChains;
use crate::stages::replaced_secrets::ReplacedSecrets;
use crate::stages::scope_probes::ScopeProbes;
use crate::state::endpoint::Endpoints;
use crate::state::epoch::Epoch;
use crate::state::published::{Published, View};
use crate::telemetry::Metrics;

/// The state that all workers share.
pub(crate) struct Shared {
    /// The policy in force, as published to the workers.
    pub(crate) in_force: Arc<Published<InForce>>,
    /// Counts changes of credentials, so that cached tokens are checked again.
    pub(crate) epoch: Epoch,
    pub(crate) metrics: Metrics,
    /// Bounds the upstream connections of all workers together.
    pub(crate) upstreams: UpstreamLimit,
    /// Notices callers that try what they may not do.
    pub(crate) scope_probes: ScopeProbes,
    pub(crate) replaced_secrets: ReplacedSecrets,
}

/// One worker's view of what is in force.
pub(crate) struct WorkerView {
    /// The policy in force, and its trail.
    pub(crate) in_force: Arc<InForce>,
    /// Tokens verified under this policy.
    pub(crate) tokens: TokenCache,
    /// Certificates of clients, as proxies pass them on, verified under this policy.
    pub(crate) certificates: VerifiedChains,
    pools: View<Endpoints, Pools>,
    upstreams: UpstreamLimit,
}

impl WorkerView {
    fn new(in_force: Arc<InForce>, shared: &Shared, previous: Option<&Self>) -> Self {
        let before = previous.map(Self::pools);
        let upstreams = shared.upstreams.clone();
        let pools = View::new(Arc::clone(&in_force.endpoints), |endpoints| {
            Pools::new(&in_force, &endpoints, &upstreams, before.as_deref())
        });
        let (tokens, certificates) = (TokenCache::new(shared.epoch.clone()), VerifiedChains::new());
        Self { tokens, certificates, pools, upstreams, in_force }
    }

    /// The pools of upstream connections, to the addresses that servers have now.
    pub(crate) fn pools(&self) -> Rc<Pools> {
        self.pools.current(|endpoints, before| Pools::new(&self.in_force, &endpoints, &self.upstreams, Some(before)))
    }
}

/// The part of a worker that its connections use.
pub(crate) struct Worker {
    /// The state that all workers share.
    pub(crate) shared: Arc<Shared>,
    /// Collects the audit records of this worker.
    pub(crate) recorder: Rc<Recorder>,
    /// Where what outlasts its request waits to be decided about again.
    pub(in crate::proxy) rechecks: Rc<Rechecks>,
    view: View<InForce, WorkerView>,
    /// What goes on after its request: records that wait for what they are about.
    late: RefCell<JoinSet<()>>,
}

impl Worker {
    /// Creates the worker of the current thread.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let recorder = Recorder::new(Arc::clone(&shared.in_force.current().trail));
        let view = View::new(Arc::clone(&shared.in_force), |in_force| WorkerView::new(in_force, &shared, None));
        let rechecks = Rechecks::start(&shared.epoch);
        Self { shared, recorder, rechecks, view, late: RefCell::default() }
    }

    /// Returns the view of the policy now in force, renewed first when the policy was replaced.
    pub(crate) fn view(&self) -> Rc<WorkerView> {
        self.view.current(|in_force, before| {
            self.recorder.switch(Arc::clone(&in_force.trail));
            WorkerView::new(in_force, &self.shared, Some(before))
        })
    }

    /// Returns whether this is the view of the policy now in force.
    pub(crate) fn is_current(&self, view: &Rc<WorkerView>) -> bool {
        self.view.is_current(view)
    }

    /// Runs a task that is to end soon, and that the worker does not end before. It is dropped at once if the worker has ended.
    pub(crate) fn run_late(&self, task: impl Future<Output = ()> + 'static) {
        let mut late = self.late.borrow_mut();
        while late.try_join_next().is_some() {}
        if Handle::try_current().is_ok() {
            late.spawn_local(task);
        }
    }

    /// Waits for those tasks.
    pub(super) async fn finish_late(&self) {
        loop {
            let mut late = self.late.take();
            if late.is_empty() {
                return;
            }
            while late.join_next().await.is_some() {}
        }
    }
}
