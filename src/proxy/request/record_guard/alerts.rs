//! Alerts about a request: what somebody should look at.

use super::{RecordGuard, credential_of};
use crate::audit::{
    LimitFacts, NEW_NETWORK, QUOTA_USED, REPLACED_SECRET_USED, Record, SCOPES_PROBED, SignalFacts, UNUSED_KEY_USED,
};
use crate::exchange::RequestId;
use crate::stages::auth::Caller;
use crate::stages::rate_limit::Alert;
use crate::state::registry::UnusualUse;

impl RecordGuard {
    /// Records that this request has used much of a quota.
    pub(super) fn record_quota(&self, alert: &Alert) {
        let Some(caller) = self.trace.caller.as_deref() else { return };
        tracing::warn!(
            consumer = &**caller.consumer(),
            quota = &*alert.limit,
            resets = %alert.resets,
            "{} percent of a quota is used",
            alert.percent
        );
        let limit = LimitFacts { name: &alert.limit, used: Some((alert.percent, alert.resets)) };
        self.record_alert(QUOTA_USED, caller, Some(limit), SignalFacts::default());
    }

    /// Records that the credential of this request is used in an unusual way.
    pub(super) fn record_unusual_use(&self, unusual: UnusualUse) {
        let Some(caller) = self.trace.caller.as_deref().or(self.trace.holder.as_deref()) else { return };
        let (consumer, key) = (&**caller.consumer(), caller.credential().1);
        let (action, last_used) = match unusual {
            UnusualUse::NewNetwork => {
                tracing::warn!(consumer, key, client = %self.exchange.client, "an API key is used from a new network");
                (NEW_NETWORK, None)
            }
            UnusualUse::LongUnused(last) => {
                tracing::warn!(consumer, key, %last, "an API key is used that was not used for at least 30 days");
                (UNUSED_KEY_USED, Some(last))
            }
            UnusualUse::Replaced(at) => {
                let client = key.unwrap_or_default();
                if !self.worker.shared.replaced_secrets.note(client, self.exchange.at) {
                    return;
                }
                tracing::warn!(consumer, client, %at, from = %self.exchange.client, "a client secret is used that was replaced");
                (REPLACED_SECRET_USED, None)
            }
        };
        self.record_alert(action, caller, None, SignalFacts { last_used, ..SignalFacts::default() });
    }

    /// Records that the caller has tried many routes for which it lacks the scopes, if it has.
    pub(super) fn record_scope_probes(&self) {
        let (Some(caller), Some(route)) = (self.trace.caller.as_deref(), &self.route) else { return };
        let (consumer, now) = (&**caller.consumer(), self.exchange.at);
        let Some(routes) = self.worker.shared.scope_probes.note(consumer, route.name(), now) else { return };
        tracing::warn!(consumer, routes, "a caller tries routes for which it lacks the scopes");
        let signal = SignalFacts { routes: Some(routes), ..SignalFacts::default() };
        self.record_alert(SCOPES_PROBED, caller, None, signal);
    }

    fn record_alert(&self, action: &'static str, caller: &Caller, limit: Option<LimitFacts<'_>>, signal: SignalFacts) {
        self.worker.shared.metrics.alert(action);
        let id = RequestId::new(self.exchange.at);
        let facts = Record::of(&self.exchange, &self.client.peer, action, self.policy.digest());
        self.worker.recorder.record(&Record {
            id: id.as_str(),
            consumer: Some(caller.consumer()),
            user: caller.user(),
            organization: caller.organization(),
            plan: caller.plan().map(|plan| &**plan.name()),
            api: self.route.as_ref().map(|route| &**route.api().name()),
            credential: Some(credential_of(caller)),
            limit,
            signal,
            ..facts
        });
    }
}
