//! A worker: everything a request needs, close at hand.
//!
//! Workers share what must be one for the whole process (the policy in force, the ledger, the metrics) and nothing else.
//! On the request path there is no lock and no task of another thread.

use std::rc::Rc;
use std::sync::Arc;

use super::upstream::Pools;
use crate::audit::{Recorder, Trail};
use crate::policy::Policy;
use crate::stages::auth::cache::TokenCache;
use crate::state::epoch::Epoch;
use crate::state::ledger::Ledger;
use crate::state::published::{Published, View};
use crate::telemetry::Metrics;

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
    /// Counts changes of what callers are known by.
    pub(crate) epoch: Epoch,
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
    /// A worker of this thread.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let recorder = Recorder::new(Arc::clone(&shared.live.current().trail));
        let view = View::new(Arc::clone(&shared.live), |live| Here {
            tokens: TokenCache::new(shared.epoch.clone()),
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
                tokens: TokenCache::new(self.shared.epoch.clone()),
                pools: Pools::new(live.policy.servers(), Some(&before.pools)),
                live,
            }
        })
    }
}
