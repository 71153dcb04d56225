//! `secrets.watch`: reads the files of the policy in force again and again, off the threads that serve.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::watch_rounds::{Looked, Rounds, Verdict};
use crate::policy::Policy;
use crate::policy::watch::digest_again;
use crate::secrets::inputs::Input;

/// When files that are changing are looked at again.
const SOON: Duration = Duration::from_millis(200);
/// Longest pause while a change cannot be put in force yet.
const WAITING: Duration = Duration::from_secs(5);
/// How long all files may take before the log says so.
const SLOW: Duration = Duration::from_secs(30);

/// The watch over the files of the policy in force.
#[derive(Default)]
pub(super) struct FileWatch {
    /// Absent: nothing is watched.
    watched: Option<Watched>,
    /// What is being read: one look at a time, however long it takes.
    looking: Option<JoinHandle<Looked>>,
    pub(super) rounds: Rounds,
    /// The log has said that the policy file waits for a reload.
    told: bool,
}

struct Watched {
    inputs: Arc<[Input]>,
    every: Duration,
    with_policy: bool,
    due: Instant,
}

impl FileWatch {
    /// Watches the files of this policy from now on.
    pub(super) fn follow(&mut self, policy: &Policy) {
        *self = Self::default();
        self.watched = policy.watch.as_ref().map(|watch| Watched {
            inputs: policy.inputs.clone().into(),
            every: watch.every,
            with_policy: watch.policy,
            due: Instant::now() + watch.every,
        });
    }

    /// Waits for the next look at the files. Never returns while nothing is watched. Cancel-safe.
    pub(super) async fn look(&mut self) -> Looked {
        loop {
            let Some(Watched { inputs, due, .. }) = &self.watched else { return std::future::pending().await };
            let Some(looking) = &mut self.looking else {
                tokio::time::sleep_until(*due).await;
                let inputs = Arc::clone(inputs);
                self.looking = Some(tokio::task::spawn_blocking(move || look(&inputs)));
                continue;
            };
            match tokio::time::timeout_at(*due + SLOW, &mut *looking).await {
                Ok(looked) => {
                    self.looking = None;
                    self.next_in(|watched| watched.every);
                    match looked {
                        Ok(looked) => return looked,
                        Err(error) => tracing::error!(%error, "the watched files could not be read"),
                    }
                }
                Err(_) => {
                    tracing::warn!("the watched files take longer than {SLOW:?} to read");
                    self.next_in(|_| SLOW);
                }
            }
        }
    }

    /// Judges a look. The caller reloads if it has to.
    pub(super) fn judge(&mut self, looked: &Looked) -> Verdict {
        let Some(Watched { inputs, with_policy, .. }) = &self.watched else { return Verdict::Nothing };
        let verdict = self.rounds.judge(inputs, *with_policy, looked);
        let is_other = |input: &Input| {
            input.kind.is_policy() && matches!(looked.get(&input.name), Some(Ok(digest)) if *digest != input.digest)
        };
        if !with_policy && !self.told && inputs.iter().any(is_other) {
            self.told = true;
            tracing::info!("the policy has changed, and waits for a reload: `secrets.watch` is not for its own files");
        }
        if verdict == Verdict::LookAgain {
            self.next_in(|watched| watched.every.min(SOON));
        }
        verdict
    }

    /// Notes that a change could not be put in force, and why. Returns whether it is time to report it.
    pub(super) fn failed(&mut self, why: &str) -> bool {
        let due = self.rounds.failed(why);
        if self.rounds.is_waiting() {
            self.next_in(|watched| watched.every.min(WAITING));
        }
        due
    }

    fn next_in(&mut self, pause: impl Fn(&Watched) -> Duration) {
        if let Some(watched) = &mut self.watched {
            watched.due = Instant::now() + pause(watched);
        }
    }
}

fn look(inputs: &[Input]) -> Looked {
    let one = |input: &Input| {
        let found = digest_again(input)?;
        Some((input.name.clone(), found.map_err(|error| error.to_string().into())))
    };
    inputs.iter().filter_map(one).collect()
}
