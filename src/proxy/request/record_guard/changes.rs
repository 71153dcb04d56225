//! The record of what a caller has changed for itself, beside that of its request.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{RecordGuard, credential_of};
use crate::audit::{ChangeRecord, Outcome, Record};
use crate::chain::CallerChange;
use crate::exchange::{Exchange, RequestId};
use crate::policy::Route;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::worker::Worker;
use crate::stages::auth::Caller;
use crate::state::registry::StoreError;

/// How long the record of a change waits for what becomes of it, after its caller has left.
const CONFIRMED: Duration = Duration::from_secs(10);

impl RecordGuard {
    /// Records a change that the request has made, or may have made. That it was made does not depend on whether its answer was
    /// received: if the caller has left while the store was at work, the record waits for it.
    pub(super) fn record_change(&self, change: CallerChange) {
        let CallerChange { record, mut made } = change;
        let Some(caller) = &self.trace.caller else { return };
        let mut waiting = WaitingRecord {
            worker: Rc::clone(&self.worker),
            client: Rc::clone(&self.client),
            policy: Arc::clone(self.policy.digest()),
            exchange: self.exchange.clone(),
            caller: Arc::clone(caller),
            route: self.route.clone(),
            change: record,
            outcome: Some(Outcome::Unknown),
        };
        if let Some(result) = made.result() {
            waiting.learn(result);
            return;
        }
        self.worker.run_late(async move {
            if let Ok(result) = tokio::time::timeout(CONFIRMED, made.done()).await {
                waiting.learn(&result);
            }
        });
    }
}

/// What is on record of a change; absent: nothing was changed.
fn outcome(result: &Result<(), StoreError>) -> Option<Outcome> {
    match result.as_ref().map_or_else(StoreError::is_stored, |()| Some(true)) {
        Some(true) => Some(Outcome::Success),
        Some(false) => None,
        None => Some(Outcome::Unknown),
    }
}

/// The record of a change, which is written when this is dropped.
struct WaitingRecord {
    worker: Rc<Worker>,
    client: Rc<ClientConnection>,
    /// The digest of the policy.
    policy: Arc<str>,
    exchange: Exchange,
    caller: Arc<Caller>,
    route: Option<Arc<Route>>,
    change: ChangeRecord,
    /// As far as it is known now; absent: there is no record.
    outcome: Option<Outcome>,
}

impl WaitingRecord {
    fn learn(&mut self, result: &Result<(), StoreError>) {
        self.outcome = outcome(result);
    }
}

impl Drop for WaitingRecord {
    fn drop(&mut self) {
        let (Some(outcome), caller, change) = (self.outcome, &*self.caller, &self.change) else { return };
        let id = RequestId::new(self.exchange.at);
        self.worker.recorder.record(&Record {
            id: id.as_str(),
            duration: self.exchange.begun.elapsed(),
            outcome,
            consumer: Some(caller.consumer()),
            organization: caller.organization(),
            plan: caller.plan().map(|plan| &**plan.name()),
            api: self.route.as_ref().map(|route| &**route.api().name()),
            route: self.route.as_ref().map(|route| &**route.name()),
            credential: Some(credential_of(caller)),
            target: Some(&change.target),
            change: Some(&change.details),
            ..Record::of(&self.exchange, &self.client.peer, change.action, &self.policy)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_a_success_and_what_was_not_changed_is_not_on_record() {
        for (result, expected) in [
            (Ok(()), Some(Outcome::Success)),
            (Err(StoreError::NotInForce), Some(Outcome::Success)),
            (Err(StoreError::Unreachable("away".to_owned())), Some(Outcome::Unknown)),
            (Err(StoreError::Unusable("broken".to_owned())), Some(Outcome::Unknown)),
            (Err(StoreError::Changed), None),
            (Err(StoreError::Exists), None),
        ] {
            assert_eq!(outcome(&result), expected, "{result:?}");
        }
    }
}
