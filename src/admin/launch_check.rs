//! `GET /v1/launch-check`: the launch checklist of the policy file, as `bartizan ready` makes it.
//!
//! It reads the policy again with its files, runs its tests and verifies its record, so it is made on a thread of its own, one at a
//! time, and is given again while it is young. However often somebody asks, it takes at most a tenth of one core.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use super::view;
use crate::refusal::{Reason, Refusal, Stage};
use crate::runtime::InForce;

/// How long an operator waits for it. The page waits a little longer.
const WAIT: Duration = Duration::from_secs(25);
/// How long it is given again, at least; and that many times as long as it took to make.
const YOUNG: Duration = Duration::from_secs(30);
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
    /// What this node knows.
    fn of(in_force: &InForce, now: Timestamp) -> Self {
        let (policy, registry) = (&in_force.policy, in_force.registry());
        let consumers = registry.consumers();
        let added = consumers.iter().filter(|one| !policy.auth().directory.listed().contains_key(&one.name));
        let keys = registry.keys();
        let is_of_use = |state: &str| matches!(state, "active" | "not_yet");
        let keys = keys.iter().filter(|key| key.expires.is_none());
        let keys = keys.filter(|key| is_of_use(view::state_of(key, policy, registry, now)));
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let clients = view::clients(&in_force.auth, now);
        let endless = clients.iter().filter(|one| text(one, "expires").is_none() && text(one, "created_by").is_some());
        let endless = endless.filter(|one| text(one, "state").is_some_and(|state| is_of_use(&state)));
        Self {
            digest: policy.digest().to_string(),
            consumers: added.map(|one| (one.name.to_string(), one.plan.as_deref().map(str::to_owned))).collect(),
            endless_keys: keys.map(|key| key.id.to_string()).collect(),
            endless_clients: endless.filter_map(|one| text(one, "id")).collect(),
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
    digest: String,
    result: Result<Arc<Value>, String>,
    at: Instant,
    took: Duration,
}

impl Made {
    /// Whether it can be given again.
    fn is_young(&self, digest: &str, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        let pause = self.took.saturating_mul(PAUSE);
        // One of another policy is of no use, but what it has cost counts.
        age < pause || (*self.digest == *digest && age < YOUNG)
    }
}

impl LaunchCheck {
    pub(crate) fn new(policy: PathBuf, make: Checklist) -> Self {
        Self { policy, make, state: Mutex::default() }
    }

    /// The checklist: a young one, or one that is made now.
    ///
    /// # Errors
    /// The policy file has errors, or it takes too long.
    pub(super) async fn answer(self: &Arc<Self>, in_force: &InForce) -> Result<Arc<Value>, Refusal> {
        let mut underway = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let digest = in_force.policy.digest();
            match (&state.underway, &state.last) {
                (Some(underway), _) => underway.clone(),
                (None, Some(last)) if last.is_young(digest, Instant::now()) => return given(last),
                (None, _) => {
                    let underway = self.begin(NodeFacts::of(in_force, Timestamp::now()))?;
                    state.underway.insert(underway).clone()
                }
            }
        };
        let made = tokio::time::timeout(WAIT, underway.wait_for(Option::is_some)).await;
        match made {
            Ok(Ok(made)) => made.as_ref().map_or_else(|| Err(failed()), given),
            Ok(Err(_)) => {
                self.state.lock().unwrap_or_else(PoisonError::into_inner).underway = None;
                Err(failed())
            }
            Err(_) => Err(busy("the checklist is still being made; ask again, or use `bartizan ready`")),
        }
    }

    /// Begins to make it.
    fn begin(self: &Arc<Self>, node: NodeFacts) -> Result<watch::Receiver<Option<Made>>, Refusal> {
        let (sender, receiver) = watch::channel(None);
        let this = Arc::clone(self);
        let make = move || {
            let (begun, digest) = (Instant::now(), node.digest.clone());
            let result = (this.make)(&this.policy, node).map(Arc::new);
            let made = Made { digest, result, at: Instant::now(), took: begun.elapsed() };
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

fn given(made: &Made) -> Result<Arc<Value>, Refusal> {
    made.result.clone().map_err(|why| Refusal::new(Stage::Request, Reason::Conflict, why))
}

fn busy(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Request, Reason::Overloaded, detail)
}

/// Its thread has ended without a result: it has panicked, which is in the log.
fn failed() -> Refusal {
    busy("the checklist could not be made; see the log, or use `bartizan ready`")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader of the page costs a tenth of a core at most, and a policy that changes makes no difference to that.
    #[test]
    fn it_is_made_again_when_it_is_old_and_has_rested() {
        let at = Instant::now();
        let made = |took: u64| Made {
            digest: "one".to_owned(),
            result: Err(String::new()),
            at,
            took: Duration::from_secs(took),
        };
        for (took, digest, age, young) in [
            (0, "one", 29, true),
            (0, "one", 30, false),
            (0, "other", 0, false),
            (1, "other", 8, true),
            (1, "other", 9, false),
            (10, "one", 89, true),
            (10, "one", 90, false),
        ] {
            let got = made(took).is_young(digest, at + Duration::from_secs(age));
            assert_eq!(got, young, "took {took} s, {age} s ago, {digest}");
        }
    }
}
