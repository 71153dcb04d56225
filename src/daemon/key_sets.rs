//! The key sets that issuers publish: a task keeps each one fresh while a policy names it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::stages::auth::remote_key_set::RemoteKeySet;

/// How long a start or a reload waits for key sets that have never been fetched.
const FIRST_FETCH: Duration = Duration::from_secs(3);

/// Key sets that are kept fresh. Dropping one aborts its task.
#[derive(Default)]
pub(super) struct KeySets(Vec<(Arc<RemoteKeySet>, JoinSet<()>)>);

impl KeySets {
    /// Starts fetching the new key sets, and waits briefly for their first fetch.
    pub(super) async fn prepare(&self, wanted: &[Arc<RemoteKeySet>]) -> Self {
        let mut new = Self::default();
        for set in wanted {
            if !self.has(set) && !new.has(set) {
                let (kept, mut task) = (Arc::clone(set), JoinSet::new());
                task.spawn(async move { kept.keep_fresh().await });
                new.0.push((Arc::clone(set), task));
            }
        }
        let first = async {
            for (set, _) in &new.0 {
                set.first_fetch().await;
            }
        };
        if tokio::time::timeout(FIRST_FETCH, first).await.is_err() {
            tracing::warn!(
                "a key set has not been fetched yet; until then, requests with its tokens are answered with 503"
            );
        }
        new
    }

    /// Adds the new key sets, and drops those that are no longer wanted.
    pub(super) fn commit(&mut self, new: Self, wanted: &[Arc<RemoteKeySet>]) {
        self.0.extend(new.0);
        self.0.retain(|(set, _)| wanted.iter().any(|wanted| Arc::ptr_eq(wanted, set)));
    }

    fn has(&self, set: &Arc<RemoteKeySet>) -> bool {
        self.0.iter().any(|(known, _)| Arc::ptr_eq(known, set))
    }
}
