//! What the endpoints have in common: what they work with, and how they answer.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::audit::ChangeRecord;
use crate::chain::{CallerChange, Trace};
use crate::exchange::{Answer, Request};
use crate::policy::self_service::SelfService;
use crate::refusal::{Reason, Refusal, Stage};
use crate::runtime::InForce;
use crate::state::registry::entry::Change;
use crate::state::registry::{Health, Registry, StoreError};

/// Pages of other origins cannot load an answer (Fetch, Cross-Origin-Resource-Policy).
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What the endpoints have in common.
pub(super) struct Service<'a> {
    pub(super) in_force: &'a InForce,
    pub(super) config: &'a SelfService,
    pub(super) request: &'a Request<'a>,
}

/// An answer for the caller alone, which nobody may keep.
pub(super) fn private(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Box<Answer> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    Box::new(Answer { status, headers, body: body.into() })
}

/// The same, as JSON.
pub(super) fn json(status: StatusCode, body: &Value) -> Box<Answer> {
    private(status, "application/json", body.to_string())
}

pub(super) fn refuse(stage: Stage, reason: Reason, detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(stage, reason, detail)
}

pub(super) fn conflict(detail: impl Into<Cow<'static, str>>) -> Refusal {
    refuse(Stage::Request, Reason::Conflict, detail)
}

/// Makes changes that a caller asked for. They are made to their end even if it leaves meanwhile, and on record with what became of
/// them; unless it is known that nothing was changed. They are made only if `holds` does not
/// refuse them once no other change is under way on this node. `changed` refuses them because something else was changed at the same moment.
pub(super) async fn change(
    registry: &Registry,
    holds: impl FnOnce() -> Result<(), Refusal>,
    changes: Vec<Change>,
    record: ChangeRecord,
    trace: &mut Trace,
    changed: impl FnOnce() -> Refusal,
) -> Result<(), Refusal> {
    let Some(_turn) = registry.turn_of_caller() else {
        let detail = "too many change their keys at this moment; try again shortly";
        return Err(refuse(Stage::Request, Reason::StoreUnavailable, detail));
    };
    // It would keep the caller waiting, and leave open whether anything was changed.
    if registry.is_shared() && registry.health() != Health::Ready {
        let detail = "nothing was changed, because the store is away; try again shortly";
        return Err(refuse(Stage::Request, Reason::StoreUnavailable, detail));
    }
    // Only now: a caller that leaves while it waits for its turn has changed nothing.
    let mut refused = None;
    let decide = || holds().map_err(|refusal| refused = Some(refusal)).ok().map(|()| changes);
    let made = match registry.begin(decide).await {
        Ok(made) => trace.change.insert(Box::new(CallerChange { record, made })).made.done().await,
        Err(error) => Err(error),
    };
    match made {
        // What is stored will be in force: the caller gets what is shown this once.
        Ok(()) | Err(StoreError::NotInForce) => Ok(()),
        Err(error @ (StoreError::Unreachable(_) | StoreError::Unusable(_))) => Err(unsaved(&error)),
        Err(error) => {
            trace.change = None;
            Err(refused.unwrap_or_else(|| match error {
                StoreError::Changed => changed(),
                StoreError::Exists => conflict("somebody else has just registered the same; make a new one"),
                error => unsaved(&error),
            }))
        }
    }
}

/// Refuses a change because the store did not make it.
fn unsaved(error: &StoreError) -> Refusal {
    let detail = "the change could not be saved; ask the API's owner whether it was made before you try again";
    refuse(Stage::Request, Reason::StoreUnavailable, detail).cause(error.to_string())
}

/// Refuses a change because there are no random bytes for a key.
pub(super) fn no_random_bytes() -> Refusal {
    refuse(Stage::Request, Reason::StoreUnavailable, "no key can be made now; try again shortly")
        .cause("the system cannot provide random bytes")
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::state::epoch::Epoch;
    use crate::state::ledger::Clock;
    use crate::state::redis::{RedisServers, Topology};
    use crate::state::registry::StoreConfig;

    fn record() -> ChangeRecord {
        let details = crate::audit::Change { scopes: Vec::new(), until: None, reason: None, drill: None };
        ChangeRecord { action: "client_secret_rotated", target: "acme acme-1".to_owned(), details }
    }

    /// A caller that leaves while the store is at work does not learn what became of its change, and the record does not claim to.
    #[tokio::test]
    async fn what_the_store_has_not_confirmed_is_no_success() {
        let folder = tempfile::TempDir::new().unwrap();
        let config = StoreConfig::Embedded { folder: folder.path().to_owned() };
        let registry = Registry::new(Some(config), Epoch::default(), Clock::starting(Instant::now()));
        registry.open().await.unwrap();
        let changes = vec![Change::Remove(crate::state::registry::entry::Kind::Client, "acme-1".to_owned())];
        let mut trace = Trace::default();
        {
            let mut context = Context::from_waker(Waker::noop());
            let mut at_work = pin!(change(&registry, || Ok(()), changes, record(), &mut trace, || conflict("changed")));
            assert!(at_work.as_mut().poll(&mut context).is_pending());
        }
        let made = &mut trace.change.as_mut().unwrap().made;
        assert_eq!(made.result(), None);
        // It is made all the same.
        made.done().await.unwrap();
        assert_eq!(made.result(), Some(&Ok(())));
    }

    /// A store on the network that is known to be away is not asked, and nothing is on record.
    #[tokio::test]
    async fn a_store_that_is_away_has_changed_nothing() {
        let topology = Topology::Single("redis://127.0.0.1:1".into());
        let servers = RedisServers { topology, ca: None };
        let config = StoreConfig::Redis { servers, prefix: "bartizan".into(), timeout: Duration::from_millis(50) };
        let registry = Registry::new(Some(config), Epoch::default(), Clock::starting(Instant::now()));
        let mut trace = Trace::default();
        let refused = change(&registry, || Ok(()), Vec::new(), record(), &mut trace, || conflict("changed")).await;
        let refused = refused.unwrap_err();
        assert!(refused.reason() == Reason::StoreUnavailable && refused.detail().contains("nothing was changed"));
        assert!(trace.change.is_none());
    }

    /// A caller that leaves while it waits for its turn has changed nothing, and nothing is on record.
    #[tokio::test]
    async fn a_caller_that_leaves_before_its_turn_has_changed_nothing() {
        let folder = tempfile::TempDir::new().unwrap();
        let config = StoreConfig::Embedded { folder: folder.path().to_owned() };
        let registry = Registry::new(Some(config), Epoch::default(), Clock::starting(Instant::now()));
        registry.open().await.unwrap();
        let changes = || vec![Change::Remove(crate::state::registry::entry::Kind::Client, "acme-1".to_owned())];
        let changed = || conflict("changed");
        let mut context = Context::from_waker(Waker::noop());
        let (mut first, mut second) = (Trace::default(), Trace::default());
        // The first has its turn, and is at work until its task runs.
        {
            let mut at_work = pin!(change(&registry, || Ok(()), changes(), record(), &mut first, changed));
            assert!(at_work.as_mut().poll(&mut context).is_pending());
            {
                let mut waits = pin!(change(&registry, || Ok(()), changes(), record(), &mut second, changed));
                assert!(waits.as_mut().poll(&mut context).is_pending());
            }
            at_work.await.unwrap();
        }
        assert!(second.change.is_none());
        assert_eq!(first.change.unwrap().made.result(), Some(&Ok(())));
    }
}
