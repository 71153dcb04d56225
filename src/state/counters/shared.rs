//! What the tasks of a store share: how a question is put, and what is made of its answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::breaker::Breaker;
use super::folder::FolderCounts;
use super::no_answer::NoAnswer;
use super::question::{Given, Question};
use super::redis_counts::RedisCounts;
use crate::state::ledger::{Account, Clock, Refused, Terms, Use};

/// How long a block may be kept: what is left is returned then.
const LAPSE: u64 = 100_000_000;
/// How long a refusal holds without asking again, in nanoseconds.
const ASK_AGAIN: u64 = 1_000_000_000;
/// How long a request waits for an answer before a policy has said so, in nanoseconds.
const FIRST_TIMEOUT: u64 = 25_000_000;

/// What keeps the counts.
pub(super) enum CountStore {
    Redis(RedisCounts),
    Folder(FolderCounts),
}

pub(super) struct Shared {
    /// Tells it from others of this process, as a reload may name another store; later ones are higher.
    id: AtomicU64,
    pub(super) store: CountStore,
    pub(super) clock: Clock,
    /// The runtime of the tasks: the threads of requests do not live long enough.
    pub(super) runtime: Handle,
    pub(super) breaker: Breaker,
    /// How long a request waits for an answer, in nanoseconds: as the policy in force says.
    pub(super) timeout: AtomicU64,
    /// Questions that were answered in time, and those that were not.
    pub(super) answered: AtomicU64,
    pub(super) unanswered: AtomicU64,
    /// What was taken in advance, and what of it was returned.
    pub(super) taken: AtomicU64,
    pub(super) returned: AtomicU64,
    /// Accounts with something to return, in the order in which it lapses.
    pub(super) returning: Mutex<VecDeque<(u64, Weak<Account>)>>,
}

fn next_id() -> u64 {
    static STORES: AtomicU64 = AtomicU64::new(1);
    STORES.fetch_add(1, Ordering::Relaxed)
}

impl Shared {
    pub(super) fn new(store: CountStore, clock: Clock) -> Self {
        Self {
            id: AtomicU64::new(next_id()),
            store,
            clock,
            runtime: Handle::current(),
            breaker: Breaker::default(),
            timeout: AtomicU64::new(FIRST_TIMEOUT),
            answered: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            returning: Mutex::default(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    /// Takes over from all others: accounts that belong to them pass on to this one.
    pub(super) fn take_over(&self) {
        self.id.store(next_id(), Ordering::Relaxed);
    }

    /// Keeps in touch with the store, for ever.
    pub(super) async fn keep(&self) {
        match &self.store {
            CountStore::Redis(redis) => redis.keep_connected(&self.breaker, || self.timeout(), &self.answered).await,
            CountStore::Folder(folder) => folder.keep_trying(&self.breaker).await,
        }
    }

    /// Puts a question about an account that is marked as asking, and applies the answer. After the timeout the account waits
    /// no more, and those that wait for the answer are notified; but what is given late is not lost.
    pub(super) async fn put(self: Arc<Self>, account: Arc<Account>, question: Question) {
        let mut asking = Asking { shared: &self, account: &account, answered: false };
        let (asked, of) = (Arc::clone(&self), question.clone());
        let mut answer = Box::pin(async move { asked.answer(&of).await });
        let in_time = tokio::time::timeout(self.timeout(), &mut answer).await;
        match &in_time {
            Ok(Ok(given)) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.taken.fetch_add(given.iter().map(|given| u64::from(given.tokens)).sum(), Ordering::Relaxed);
                let returned = question.limits.iter().map(|asked| asked.owed.min(0).unsigned_abs()).sum();
                self.returned.fetch_add(returned, Ordering::Relaxed);
                self.breaker.answered();
            }
            Ok(Err(error)) => self.failed(error),
            Err(_) => self.failed(&NoAnswer::timed_out()),
        }
        let given = in_time.as_ref().ok().and_then(|answer| answer.as_deref().ok());
        self.learn(&account, &question, given);
        asking.answered = true;
        account.answered.notify_waiters();
        if in_time.is_err() {
            let shared = Arc::clone(&self);
            drop(asking);
            self.runtime.spawn(async move {
                if let Ok(given) = answer.await {
                    shared.learn_late(&account, &question, &given);
                }
            });
        }
    }

    /// How long a request waits for an answer.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_nanos(self.timeout.load(Ordering::Relaxed))
    }

    /// Asks the store.
    pub(super) async fn answer(&self, question: &Question) -> Result<Vec<Given>, NoAnswer> {
        match &self.store {
            CountStore::Redis(redis) => redis.answer(question).await,
            CountStore::Folder(folder) => folder.answer(question).await,
        }
    }

    fn failed(&self, error: &NoAnswer) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let given_up = self.breaker.failed();
        if given_up {
            let error = &error.why;
            tracing::warn!(
                error,
                "the store does not answer about limits; until it does, `store.limits.on_failure` decides, or with a folder \
                 requests with a quota are refused"
            );
        }
        if (given_up || error.is_broken)
            && let CountStore::Redis(redis) = &self.store
        {
            redis.is_broken();
        }
    }

    /// Applies an answer; without one, what the question has told is still to be told.
    pub(super) fn learn(&self, account: &Arc<Account>, question: &Question, answer: Option<&[Given]>) {
        let now = self.clock.tick(Instant::now());
        let mut uses = account.uses();
        if !uses.belongs_to(self.id()) {
            return;
        }
        for (index, asked) in question.limits.iter().enumerate() {
            let used = uses.of(asked.id, now);
            let block = &mut used.block;
            (block.terms, block.telling) = (Some(asked.terms), 0);
            match answer.and_then(|answer| answer.get(index)) {
                // What was returned is not returned again: the store may have taken it back.
                None => block.owed += asked.owed.max(0),
                // The quota was reset since: what was given counts in the former window.
                Some(given) if given.since < used.since => {}
                Some(given) => {
                    (used.is_stored, used.full_at) = (true, now.0.saturating_add(given.full_after));
                    used.learn_quota(asked.terms, given);
                    let block = &mut used.block;
                    if asked.want > 0 {
                        block.tokens = block.left(now).saturating_add(given.tokens);
                        block.lapses = now.0 + LAPSE;
                        block.next = asked.want.saturating_mul(2);
                        let is_empty = given.left < asked.need.max(1);
                        block.refused = (given.tokens < asked.want && given.wait > 0 && is_empty).then(|| Refused {
                            cost: asked.need.max(1),
                            until: now.0.saturating_add(given.wait),
                            ask_again: now.0.saturating_add(given.wait.min(ASK_AGAIN)),
                            under: asked.terms,
                        });
                    }
                }
            }
        }
        uses.asking = false;
        drop(uses);
        self.return_later(account);
    }

    /// Applies an answer that came when nobody waited for it any more: what it gave is returned in time.
    pub(super) fn learn_late(&self, account: &Arc<Account>, question: &Question, given: &[Given]) {
        let now = self.clock.tick(Instant::now());
        let mut uses = account.uses();
        if !uses.belongs_to(self.id()) {
            return;
        }
        for (asked, given) in question.limits.iter().zip(given) {
            let used = uses.of(asked.id, now);
            if given.since < used.since.max(used.block.since) {
                continue;
            }
            used.full_at = now.0.saturating_add(given.full_after);
            used.block.terms = Some(asked.terms);
            used.block.owed -= asked.owed.max(0) + i64::from(given.tokens);
            used.learn_quota(asked.terms, given);
            self.taken.fetch_add(given.tokens.into(), Ordering::Relaxed);
        }
        drop(uses);
        self.return_later(account);
    }

    /// Looks at an account again once its blocks have lapsed, if it has any.
    pub(super) fn return_later(&self, account: &Arc<Account>) {
        let mut uses = account.uses();
        if uses.belongs_to(self.id())
            && !uses.returning
            && uses.all().any(|used| used.block.tokens > 0 || used.block.owed != 0)
        {
            uses.returning = true;
            let lapses = self.clock.tick(Instant::now()).0 + LAPSE;
            self.returning.lock().unwrap_or_else(PoisonError::into_inner).push_back((lapses, Arc::downgrade(account)));
        }
    }
}

impl Use {
    /// Notes what the store says of a quota, which may have been reset there already.
    fn learn_quota(&mut self, terms: Terms, given: &Given) {
        self.block.since = given.since;
        if let Terms::Quota { count, .. } = terms {
            self.since = self.since.max(given.since);
            self.used = count.saturating_sub(given.left);
            self.alert = self.alert.max(given.alert);
        }
    }
}

/// An account whose question is on its way, until it is answered: nobody waits for ever if its task ends.
struct Asking<'a> {
    shared: &'a Shared,
    account: &'a Account,
    answered: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let mut uses = self.account.uses();
            uses.asking &= !uses.belongs_to(self.shared.id());
            drop(uses);
            self.account.answered.notify_waiters();
        }
    }
}
