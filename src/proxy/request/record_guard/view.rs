//! The policy in force for a request, and when it lets go of that.

use std::rc::Rc;

use super::RecordGuard;
use super::kept_policy::KeptPolicy;
use crate::proxy::downstream::worker::WorkerView;

impl RecordGuard {
    /// The view in force for this request, unaffected by a reload meanwhile, until its response has begun.
    pub(in crate::proxy) fn view(&self) -> Rc<WorkerView> {
        match &self.policy {
            KeptPolicy::Whole(view) => Rc::clone(view),
            KeptPolicy::Rest(_) => self.worker.view(),
        }
    }

    /// Keeps no more of a policy that was replaced than the record needs. The response has begun.
    pub(in crate::proxy) fn release_replaced_policy(&mut self) {
        if matches!(&self.policy, KeptPolicy::Whole(view) if !self.worker.is_current(view)) {
            self.release_policy();
        }
    }

    /// Keeps no more of the policy than the record needs.
    #[cold]
    pub(super) fn release_policy(&mut self) {
        if let Some(route) = &self.route {
            self.policy.keep_rest(route, self.upstream.as_ref().map(|upstream| &*upstream.server));
        }
    }
}
