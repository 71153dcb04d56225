//! `GET /v1/launch-check`: the launch checklist of the policy file, as `bartizan ready` makes it.
//!
//! It reads the policy again with its files, runs its tests, verifies its record and looks at everything in the registry, so it is made
//! on a thread of its own, one at a time, and is given again while it is young. However often somebody asks, it takes at most a tenth
//! of one core.

use std::borrow::Cow;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde_json::Value;
use tokio::sync::watch;

use super::view;
use crate::refusal::{Reason, Refusal, Stage};
use crate::runtime::InForce;
use crate::stages::auth::client;

/// How long an operator waits for it. The page waits a little longer.
const WAIT: Duration = Duration::from_secs(25);
/// How long a checklist is given again, at least. Errors are not: somebody is at work on what is wrong.
const YOUNG: Duration = Duration::from_secs(30);
/// Whatever came of it is given again for that many times as long as it took to make.
const PAUSE: u32 = 9;

/// What a running node knows of itself, for the checklist.
#[derive(Debug, Default, Clone)]
pub(crate) struct NodeFacts {
    /// Digest of the policy in force.
    pub(crate) digest: String,
    /// The consumers that operators have added, and their plans.
    pub(crate) consumers: Vec<(String, Option<String>)>,
    /// Ids of the API keys that operators have made and that have no end.
    pub(crate) endless_keys: Vec<String>,
    /// Ids of the clients of the token service that were made at run time and that have no end.
    pub(crate) endless_clients: Vec<String>,
}

impl NodeFacts {
    /// What this node knows. It looks at everything in the registry, so it is not for the thread that accepts connections.
    fn of(in_force: &InForce, now: Timestamp) -> Self {
        let (policy, registry) = (&in_force.policy, in_force.registry());
        let consumers = registry.consumers();
        let added = consumers.iter().filter(|one| !policy.auth().directory.listed().contains_key(&one.name));
        let keys = registry.keys();
        let is_of_use = |state: &str| matches!(state, "active" | "not_yet");
        let keys = keys.iter().filter(|key| key.expires.is_none());
        let keys = keys.filter(|key| is_of_use(view::state_of(key, policy, registry, now)));
        let clients = registry.clients();
        let endless = clients.iter().filter(|one| one.end().is_none() && !client::has_ended(one, registry, now));
        Self {
            digest: policy.digest().to_string(),
            consumers: added.map(|one| (one.name.to_string(), one.plan.as_deref().map(str::to_owned))).collect(),
            endless_keys: keys.map(|key| key.id.to_string()).collect(),
            endless_clients: endless.map(|one| one.id.to_string()).collect(),
        }
    }
}

/// Makes the checklist of a policy file; it blocks. The error says why there is none.
pub(crate) type Checklist = fn(&Path, NodeFacts) -> Result<Value, String>;

/// Makes the checklist when somebody asks for it.
pub(crate) struct LaunchCheck {
    policy: PathBuf,
    make: Checklist,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Made>,
    /// Present: it is being made.
    underway: Option<watch::Receiver<Option<Made>>>,
}

#[derive(Clone)]
struct Made {
    /// Digest of the policy that was in force.
    digest: Arc<str>,
    result: Result<Arc<Value>, Failure>,
    /// When it was made, for waiting and for people.
    at: Instant,
    clock: Timestamp,
    took: Duration,
}

/// Why there is no checklist.
#[derive(Clone)]
enum Failure {
    /// The policy, or a test of it, has errors.
    Errors(String),
    /// It could not be made at all, which is in the log.
    Panic,
}

impl Made {
    /// How long it is given again to those who have this policy in force.
    fn kept(&self, digest: &str) -> Duration {
        let pause = self.took.saturating_mul(PAUSE);
        // One of another policy is of no use, but what it has cost counts.
        if self.result.is_ok() && *self.digest == *digest { YOUNG.max(pause) } else { pause }
    }

    fn is_young(&self, digest: &str, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < self.kept(digest)
    }

    /// What somebody is given who has this policy in force.
    fn given(&self, digest: &str) -> Result<Value, Refusal> {
        let again = self.clock.saturating_add(self.kept(digest)).unwrap_or(Timestamp::MAX);
        // Nobody reads fractions of a second.
        let again = again.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil)).unwrap_or(again);
        let is_before = *self.digest != *digest;
        match &self.result {
            Ok(checklist) => {
                let mut checklist = Value::clone(checklist);
                if let Value::Object(members) = &mut checklist {
                    members.insert("again".to_owned(), again.to_string().into());
                    members.insert("of_policy_before".to_owned(), is_before.into());
                }
                Ok(checklist)
            }
            Err(Failure::Errors(why)) => {
                let of = if is_before { " of the policy before" } else { "" };
                let why = format!("{why} (so it was at the last look{of}; the next one is possible from {again} on)");
                Err(Refusal::new(Stage::Request, Reason::Conflict, why))
            }
            Err(Failure::Panic) => Err(failed(&format!("; the next one is possible from {again} on"))),
        }
    }
}

impl LaunchCheck {
    pub(crate) fn new(policy: PathBuf, make: Checklist) -> Self {
        Self { policy, make, state: Mutex::default() }
    }

    /// The checklist: a young one, or one that is made now. It says from when on it is made anew, and whether it is of the policy that
    /// was in force before.
    ///
    /// # Errors
    /// The policy file has errors, or it takes too long.
    pub(super) async fn answer(self: &Arc<Self>, in_force: &Arc<InForce>) -> Result<Value, Refusal> {
        let of = Arc::clone(in_force);
        self.of(in_force.policy.digest(), move || NodeFacts::of(&of, Timestamp::now())).await
    }

    /// The same for a node that has the policy with this digest in force; `look` finds out what it knows, on the thread of the check.
    async fn of(
        self: &Arc<Self>,
        digest: &Arc<str>,
        look: impl FnOnce() -> NodeFacts + Send + 'static,
    ) -> Result<Value, Refusal> {
        let given = |made: &Made| made.given(digest);
        let mut underway = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match (&state.underway, &state.last) {
                (Some(underway), _) => underway.clone(),
                (None, Some(last)) if last.is_young(digest, Instant::now()) => return given(last),
                (None, _) => {
                    let underway = self.begin(Arc::clone(digest), look)?;
                    state.underway.insert(underway).clone()
                }
            }
        };
        let made = tokio::time::timeout(WAIT, underway.wait_for(Option::is_some)).await;
        match made {
            Ok(made) => made.ok().and_then(|made| made.as_ref().map(given)).unwrap_or_else(|| Err(failed(""))),
            Err(_) => Err(busy("the checklist is still being made; ask again, or use `bartizan ready`")),
        }
    }

    /// Begins to make it.
    fn begin(
        self: &Arc<Self>,
        digest: Arc<str>,
        look: impl FnOnce() -> NodeFacts + Send + 'static,
    ) -> Result<watch::Receiver<Option<Made>>, Refusal> {
        let (sender, receiver) = watch::channel(None);
        let this = Arc::clone(self);
        let make = move || {
            let begun = Instant::now();
            // What it has cost counts, and the next one begins after it, however it ends.
            let result = panic::catch_unwind(AssertUnwindSafe(|| (this.make)(&this.policy, look())));
            let result = result.map_err(|_| Failure::Panic).and_then(|made| made.map_err(Failure::Errors));
            let (at, clock, took) = (Instant::now(), Timestamp::now(), begun.elapsed());
            let made = Made { digest, result: result.map(Arc::new), at, clock, took };
            let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
            *state = State { last: Some(made.clone()), underway: None };
            // Those who waited may have left.
            let _ = sender.send(Some(made));
        };
        let thread = thread::Builder::new().name("launch-check".to_owned()).spawn(make);
        thread
            .map(|_| receiver)
            .map_err(|error| busy("no thread can be started now; try again").cause(error.to_string()))
    }
}

fn busy(detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Stage::Request, Reason::Overloaded, detail)
}

/// It has panicked, which is in the log. `more`: when it is made again, if that is known.
fn failed(more: &str) -> Refusal {
    busy(format!("the checklist could not be made; see the log, or use `bartizan ready`{more}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use serde_json::json;

    use super::*;

    fn made(result: Result<Value, Failure>, took: u64) -> Made {
        Made {
            digest: "one".into(),
            result: result.map(Arc::new),
            at: Instant::now(),
            clock: "2026-11-28T12:00:00.2Z".parse().unwrap(),
            took: Duration::from_secs(took),
        }
    }

    /// A reader of the page costs a tenth of a core at most, and a policy that changes makes no difference to that. What is wrong is not
    /// said for longer than that.
    #[test]
    fn it_is_made_again_when_it_is_old_and_has_rested() {
        let errors = || Err(Failure::Errors("wrong".to_owned()));
        for (result, took, digest, age) in [
            (Ok(json!({})), 0, "one", 30),
            (Ok(json!({})), 0, "other", 0),
            (Ok(json!({})), 1, "other", 9),
            (Ok(json!({})), 10, "one", 90),
            (errors(), 0, "one", 0),
            (errors(), 1, "one", 9),
            (errors(), 10, "other", 90),
            (Err(Failure::Panic), 2, "one", 18),
        ] {
            let made = made(result, took);
            let at = |seconds| made.is_young(digest, made.at + Duration::from_secs(seconds));
            assert!((age == 0 || at(age - 1)) && !at(age), "took {took} s, {digest}");
        }
    }

    #[test]
    fn it_says_from_when_on_it_is_made_anew_and_of_which_policy_it_is() {
        let good = made(Ok(json!({"ready": true})), 4);
        let given = good.given("one").unwrap();
        assert_eq!(given, json!({"ready": true, "again": "2026-11-28T12:00:37Z", "of_policy_before": false}));
        let given = good.given("other").unwrap();
        assert_eq!(given, json!({"ready": true, "again": "2026-11-28T12:00:37Z", "of_policy_before": true}));
        let bad = made(Err(Failure::Errors("line 7 is wrong".to_owned())), 1);
        for (digest, says) in [("one", "at the last look; "), ("other", "of the policy before; ")] {
            let refused = bad.given(digest).unwrap_err();
            let detail = refused.detail();
            assert!(refused.reason() == Reason::Conflict && detail.starts_with("line 7 is wrong"), "{detail}");
            assert!(detail.contains(says) && detail.contains("from 2026-11-28T12:00:10Z on"), "{detail}");
        }
        let panicked = made(Err(Failure::Panic), 1).given("one").unwrap_err();
        assert!(panicked.detail().contains("from 2026-11-28T12:00:10Z on"), "{}", panicked.detail());
    }

    /// The thread that accepts connections and answers `/healthz` only starts the thread that does the work, also for what is in the
    /// registry.
    #[tokio::test]
    async fn all_of_the_work_is_done_on_the_thread_of_the_check_and_once_for_all_who_ask() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        fn make(_: &Path, NodeFacts { digest, .. }: NodeFacts) -> Result<Value, String> {
            assert_eq!(thread::current().name(), Some("launch-check"));
            MADE.fetch_add(1, Ordering::Relaxed);
            Ok(json!({"digest": digest}))
        }
        let check = Arc::new(LaunchCheck::new(PathBuf::new(), make));
        let (go, wait) = mpsc::channel::<()>();
        let mut wait = Some(wait);
        let asks = |_| {
            let (check, wait) = (Arc::clone(&check), wait.take());
            let look = move || {
                assert_eq!(thread::current().name(), Some("launch-check"));
                let _ = wait.map(|wait| wait.recv());
                NodeFacts { digest: "one".to_owned(), ..NodeFacts::default() }
            };
            tokio::spawn(async move { check.of(&"one".into(), look).await })
        };
        let all: Vec<_> = (0..100).map(asks).collect();
        // All of them ask, and none waits for what is looked at.
        tokio::task::yield_now().await;
        assert!(all.iter().all(|one| !one.is_finished()));
        go.send(()).unwrap();
        for one in all {
            assert_eq!(one.await.unwrap().unwrap()["digest"], "one");
        }
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
    }

    /// One that panics counts as any other: what it has cost is rested for, and the next one is the only one.
    #[tokio::test]
    async fn one_that_panics_is_answered_and_rested_for() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        fn make(_: &Path, _: NodeFacts) -> Result<Value, String> {
            MADE.fetch_add(1, Ordering::Relaxed);
            // Long enough that the rest is longer than what follows takes.
            let (_keep, never) = mpsc::channel::<()>();
            let _ = never.recv_timeout(Duration::from_secs(1));
            panic!("a checklist that cannot be made")
        }
        let check = Arc::new(LaunchCheck::new(PathBuf::new(), make));
        for _ in 0..2 {
            let refused = check.of(&"one".into(), NodeFacts::default).await.unwrap_err();
            assert!(refused.reason() == Reason::Overloaded && refused.detail().contains("see the log"));
            assert!(check.state.lock().unwrap().underway.is_none());
        }
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
    }
}
