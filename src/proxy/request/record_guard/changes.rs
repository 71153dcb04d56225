//! The record of what a caller has changed for itself, beside that of its request.

use super::{RecordGuard, credential_of};
use crate::audit::Record;
use crate::chain::CallerChange;
use crate::exchange::RequestId;

impl RecordGuard {
    /// Records a change that the request has made, or may have made. That it was made does not depend on whether its answer was
    /// received.
    pub(super) fn record_change(&self, change: &CallerChange) {
        let CallerChange { record: change, outcome } = change;
        let Some(caller) = self.trace.caller.as_deref() else { return };
        let id = RequestId::new(self.exchange.at);
        self.worker.recorder.record(&Record {
            id: id.as_str(),
            duration: self.exchange.begun.elapsed(),
            outcome: *outcome,
            consumer: Some(caller.consumer()),
            organization: caller.organization(),
            plan: caller.plan().map(|plan| &**plan.name()),
            api: self.route.as_ref().map(|route| &**route.api().name()),
            route: self.route.as_ref().map(|route| &**route.name()),
            credential: Some(credential_of(caller)),
            target: Some(&change.target),
            change: Some(&change.details),
            ..Record::of(&self.exchange, &self.client.peer, change.action, self.view.in_force.policy.digest())
        });
    }
}
