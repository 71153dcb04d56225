//! A worker: everything a request needs, close at hand.
//!
//! Workers share what must be one for the whole process (the policy in force, the ledger, the metrics) and nothing else.
//! On the request path there is no lock and no task of another thread.

use std::rc::Rc;
use std::sync::Arc;

use crate::audit::{Recorder, Trail};
use crate::policy::Policy;
use crate::proxy::upstream::Pools;
use crate::stages::auth::cache::TokenCache;
use crate::state::epoch::Epoch;
use crate::state::ledger::Ledger;
use crate::state::published::{Published, View};
use crate::telemetry::Metrics;

/// What is in force: replaced as a whole.
pub(crate) struct InForce {
    /// The policy.
    pub(crate) policy: Arc<Policy>,
    /// Where records go.
    pub(crate) trail: Arc<Trail>,
}

/// What all workers share.
pub(crate) struct Shared {
    /// What is in force.
    pub(crate) in_force: Arc<Published<InForce>>,
    /// How much callers have used of their limits.
    pub(crate) ledger: Arc<Ledger>,
    /// Counts changes of what callers are known by.
    pub(crate) epoch: Epoch,
    /// Every number.
    pub(crate) metrics: Metrics,
}

/// One worker's view of what is in force.
pub(crate) struct WorkerView {
    /// What is in force.
    pub(crate) in_force: Arc<InForce>,
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
    view: View<InForce, WorkerView>,
}

impl Worker {
    /// A worker of this thread.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let recorder = Recorder::new(Arc::clone(&shared.in_force.current().trail));
        let view = View::new(Arc::clone(&shared.in_force), |in_force| WorkerView {
            tokens: TokenCache::new(shared.epoch.clone()),
            pools: Pools::new(in_force.policy.servers(), None),
            in_force,
        });
        Self { shared, recorder, view }
    }

    /// What is in force now.
    pub(crate) fn view(&self) -> Rc<WorkerView> {
        self.view.current(|in_force, before| {
            self.recorder.switch(Arc::clone(&in_force.trail));
            WorkerView {
                tokens: TokenCache::new(self.shared.epoch.clone()),
                pools: Pools::new(in_force.policy.servers(), Some(&before.pools)),
                in_force,
            }
        })
    }
}
