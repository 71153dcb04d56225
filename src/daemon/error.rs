//! Why a daemon did not start, or a reload changed nothing.

use std::fmt;

use crate::policy::diagnostic::Problems;

/// Why a daemon did not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The policy has errors.
    Policy(Problems),
    /// Something could not be opened or bound.
    System(String),
}

impl StartError {
    /// The error as problems of a policy.
    pub(super) fn into_problems(self) -> Problems {
        match self {
            Self::Policy(problems) => problems,
            Self::System(message) => {
                let mut problems = Problems::new();
                problems.error(None, message);
                problems
            }
        }
    }
}

impl From<String> for StartError {
    fn from(message: String) -> Self {
        Self::System(message)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(_) => f.write_str("the policy has errors"),
            Self::System(message) => f.write_str(message),
        }
    }
}
