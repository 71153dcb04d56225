//! Certificates and revocation lists of listeners that are invalid or expire soon: a daily warning in the log.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use crate::policy::Policy;

/// How often a warning is repeated.
const AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// Remembers what the log has warned of, so that each warning is repeated once a day.
#[derive(Debug, Default)]
pub(crate) struct CertificateReminder {
    warned: HashMap<String, Timestamp>,
}

impl CertificateReminder {
    /// Logs the warnings that are due, and those of `more` that are. Those that the policy was loaded with have been logged by then: see
    /// [`Self::after_load`].
    pub(crate) fn warn(&mut self, policy: &Policy, more: impl Iterator<Item = String>, now: Timestamp) {
        let problems = policy.validities().filter_map(|validity| validity.problem(now));
        for problem in self.due(problems.chain(more), now) {
            tracing::warn!("{problem}");
        }
    }

    /// For a policy that was just loaded: its compiler has reported what is wrong now.
    pub(crate) fn after_load(policy: &Policy, now: Timestamp) -> Self {
        Self { warned: policy.validities().filter_map(|one| Some((one.problem(now)?, now))).collect() }
    }

    fn due(&mut self, problems: impl Iterator<Item = String>, now: Timestamp) -> Vec<String> {
        let before = std::mem::take(&mut self.warned);
        let mut due = Vec::new();
        for problem in problems {
            // `abs`: setting the clock back must not silence a warning for more than a day.
            let warned = before.get(&problem).filter(|warned| now.duration_since(**warned).abs() < AGAIN);
            if self.warned.insert(problem.clone(), *warned.unwrap_or(&now)).is_none() && warned.is_none() {
                due.push(problem);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_repeated_once_a_day_and_a_new_one_comes_at_once() {
        let mut reminder = CertificateReminder::default();
        for (hour, problems, due) in [
            (0, vec!["a expires soon"], vec!["a expires soon"]),
            (1, vec!["a expires soon", "b expired", "b expired"], vec!["b expired"]),
            (23, vec!["a expires soon", "b expired"], vec![]),
            (24, vec!["a expired", "b expired"], vec!["a expired"]),
            (25, vec!["a expired", "b expired"], vec!["b expired"]),
        ] {
            let now = Timestamp::from_second(1_800_000_000 + hour * 3600).unwrap();
            assert_eq!(reminder.due(problems.into_iter().map(str::to_owned), now), due, "after {hour} h");
        }
    }
}
