//! Returns what has lapsed, and tells the store what was spent without it.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::question::{AskedLimit, Question};
use super::shared::Shared;
use crate::state::ledger::{Account, Tick};

/// How often blocks are looked at.
const ROUND: Duration = Duration::from_millis(50);
/// How many questions that return blocks are sent at once.
const RETURNED: usize = 256;

impl Shared {
    /// Returns what has lapsed, for ever.
    pub(super) async fn keep_returning(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(ROUND).await;
            if !self.breaker.is_open() {
                let now = self.clock.tick(Instant::now());
                self.return_lapsed(now.0).await;
            }
        }
    }

    /// Returns what has lapsed until `now`.
    async fn return_lapsed(self: &Arc<Self>, now: u64) {
        while !self.breaker.is_open() {
            let mut due = Vec::new();
            {
                let mut returning = self.returning.lock().unwrap_or_else(PoisonError::into_inner);
                while due.len() < RETURNED && returning.front().is_some_and(|(lapses, _)| *lapses <= now) {
                    due.extend(returning.pop_front().and_then(|(_, account)| account.upgrade()));
                }
            }
            if due.is_empty() {
                return;
            }
            self.give_back(due, Tick(now)).await;
        }
    }

    /// Returns all blocks, lapsed or not.
    pub(super) async fn return_all(self: &Arc<Self>) {
        let all = std::mem::take(&mut *self.returning.lock().unwrap_or_else(PoisonError::into_inner));
        let all: Vec<_> = all.into_iter().filter_map(|(_, account)| account.upgrade()).collect();
        for some in all.chunks(RETURNED) {
            if self.breaker.is_open() {
                return;
            }
            self.give_back(some.to_vec(), Tick(u64::MAX)).await;
        }
    }

    async fn give_back(self: &Arc<Self>, accounts: Vec<Arc<Account>>, now: Tick) {
        let mut told = JoinSet::new();
        for account in accounts {
            if let Some(question) = self.to_tell(&account, now) {
                told.spawn_on(Arc::clone(self).put(account, question), &self.runtime);
            }
        }
        told.join_all().await;
    }

    /// What the store has to be told of an account, which is marked as asking then.
    fn to_tell(&self, account: &Arc<Account>, now: Tick) -> Option<Question> {
        let limits = {
            let mut uses = account.uses();
            if !uses.belongs_to(self.id()) {
                return None;
            }
            uses.returning = false;
            if uses.asking {
                // The answer that it waits for decides when to look again.
                return None;
            }
            let limits: Vec<AskedLimit> = uses.all().filter_map(|used| AskedLimit::to_tell(used, now)).collect();
            uses.asking = !limits.is_empty();
            limits
        };
        if limits.is_empty() {
            self.return_later(account);
            return None;
        }
        Some(Question { account: account.name().into(), limits })
    }
}
