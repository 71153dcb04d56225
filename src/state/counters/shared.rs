//! What the tasks of a store share: how a question is put, and what is made of its answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::breaker::Breaker;
use super::question::{Given, Question, SCRIPT};
use crate::error_text::without_codes;
use crate::state::ledger::{Account, Clock, Refused};
use crate::state::redis::{Client, Connection, StoreDeadlines, is_broken};

/// How long a block may be kept: what is left is returned then.
const LAPSE: u64 = 100_000_000;
/// How long a refusal holds without asking again, in nanoseconds.
const ASK_AGAIN: u64 = 1_000_000_000;
/// How long a question waits for a connection at most.
const CONNECTED: Duration = Duration::from_secs(1);

pub(super) struct Shared {
    /// Tells it from others of this process: a reload may name another store.
    pub(super) id: u64,
    pub(super) client: Client,
    pub(super) prefix: Box<str>,
    /// Digest of the script, by which servers know it.
    pub(super) digest: String,
    pub(super) deadlines: StoreDeadlines,
    pub(super) clock: Clock,
    /// The runtime of the tasks: the threads of requests do not live long enough.
    pub(super) runtime: Handle,
    pub(super) connection: watch::Sender<Option<Connection>>,
    /// Notified when the connection is of no use any more.
    pub(super) broken: Notify,
    pub(super) breaker: Breaker,
    /// How long a request waits for an answer, in nanoseconds: as the policy in force says.
    pub(super) timeout: AtomicU64,
    /// Whether eviction has been warned of.
    pub(super) warned: AtomicBool,
    /// This node among those that count.
    pub(super) node: String,
    /// Nodes that live, this one included.
    pub(super) nodes: AtomicU32,
    /// Questions that were answered in time, and those that were not.
    pub(super) answered: AtomicU64,
    pub(super) unanswered: AtomicU64,
    /// What was taken in advance, and what of it was returned.
    pub(super) taken: AtomicU64,
    pub(super) returned: AtomicU64,
    /// Accounts with something to return, in the order in which it lapses.
    pub(super) returning: Mutex<VecDeque<(u64, Weak<Account>)>>,
}

impl Shared {
    pub(super) fn nodes_key(&self) -> String {
        format!("{{{}}}:nodes", self.prefix)
    }

    /// Puts a question about an account that is marked as asking, and applies the answer. After the timeout the account waits
    /// no more, and whoever waits for the answer is notified; but what is given late is not lost.
    pub(super) async fn put(self: Arc<Self>, account: Arc<Account>, question: Question) {
        let mut asking = Asking { shared: &self, account: &account, answered: false };
        let mut answer = Box::pin(Arc::clone(&self).answer(question.clone()));
        let in_time = tokio::time::timeout(self.timeout(), &mut answer).await;
        match &in_time {
            Ok(Ok(given)) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.taken.fetch_add(given.iter().map(|given| u64::from(given.tokens)).sum(), Ordering::Relaxed);
                let returned = question.limits.iter().map(|asked| asked.owed.min(0).unsigned_abs()).sum();
                self.returned.fetch_add(returned, Ordering::Relaxed);
                self.closed(self.breaker.answered());
            }
            Ok(Err(error)) => self.failed(error),
            Err(_) => self.failed(&timed_out()),
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

    pub(super) fn closed(&self, given_up_before: bool) {
        if given_up_before {
            tracing::info!("the store answers again; all nodes count limits together");
        }
    }

    /// Asks the store.
    pub(super) async fn answer(self: Arc<Self>, question: Question) -> Result<Vec<Given>, RedisError> {
        let mut connection = self.connection.subscribe();
        let open = tokio::time::timeout(CONNECTED, connection.wait_for(Option::is_some)).await;
        let open = open.ok().and_then(Result::ok).and_then(|open| open.clone());
        let mut open = open.ok_or_else(|| RedisError::from(std::io::Error::from(std::io::ErrorKind::NotConnected)))?;
        let known = question.command(&self.prefix, "EVALSHA", &self.digest);
        match known.query_async::<Value>(&mut open).await {
            // A server that was restarted or promoted does not know the script.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let whole = question.command(&self.prefix, "EVAL", SCRIPT);
                question.answer(whole.query_async(&mut open).await?)
            }
            reply => question.answer(reply?),
        }
    }

    pub(super) fn failed(&self, error: &RedisError) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let given_up = self.breaker.failed();
        if given_up {
            let error = without_codes(&error.to_string());
            tracing::warn!(
                error,
                "the store does not answer about limits; each node follows `store.limits.on_failure`"
            );
        }
        // One late answer is no reason to connect again.
        if given_up || (is_broken(error) && !error.is_timeout()) {
            self.connection.send_replace(None);
            self.broken.notify_one();
        }
    }

    /// Applies an answer; without one, what the question has told is still to be told.
    pub(super) fn learn(&self, account: &Arc<Account>, question: &Question, answer: Option<&[Given]>) {
        let now = self.clock.tick(Instant::now());
        let mut uses = account.uses();
        if !uses.belongs_to(self.id) {
            return;
        }
        for (index, asked) in question.limits.iter().enumerate() {
            let used = uses.of(asked.id, now);
            let block = &mut used.block;
            block.limit = (asked.one, asked.burst);
            match answer.and_then(|answer| answer.get(index)) {
                // What was returned is not returned again: the store may have taken it back.
                None => block.owed += asked.owed.max(0),
                Some(given) => {
                    used.full_at = now.0.saturating_add(given.full_after);
                    if asked.want > 0 {
                        block.tokens = block.left(now).saturating_add(given.tokens);
                        block.lapses = now.0 + LAPSE;
                        block.next = asked.want.saturating_mul(2);
                        let is_empty = given.left < asked.need.max(1);
                        block.refused = (given.tokens < asked.want && given.wait > 0 && is_empty).then(|| Refused {
                            cost: asked.need.max(1),
                            until: now.0.saturating_add(given.wait),
                            ask_again: now.0.saturating_add(given.wait.min(ASK_AGAIN)),
                            window: asked.one.saturating_mul(asked.burst.into()),
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
        if !uses.belongs_to(self.id) {
            return;
        }
        for (asked, given) in question.limits.iter().zip(given) {
            let block = &mut uses.of(asked.id, now).block;
            block.limit = (asked.one, asked.burst);
            block.owed -= asked.owed.max(0) + i64::from(given.tokens);
            self.taken.fetch_add(given.tokens.into(), Ordering::Relaxed);
        }
        drop(uses);
        self.return_later(account);
    }

    /// Looks at an account again once its blocks have lapsed, if it has any.
    pub(super) fn return_later(&self, account: &Arc<Account>) {
        let mut uses = account.uses();
        if uses.belongs_to(self.id)
            && !uses.returning
            && uses.all().any(|used| used.block.tokens > 0 || used.block.owed != 0)
        {
            uses.returning = true;
            let lapses = self.clock.tick(Instant::now()).0 + LAPSE;
            self.returning.lock().unwrap_or_else(PoisonError::into_inner).push_back((lapses, Arc::downgrade(account)));
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
            uses.asking &= !uses.belongs_to(self.shared.id);
            drop(uses);
            self.account.answered.notify_waiters();
        }
    }
}

pub(super) fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
