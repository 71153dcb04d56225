//! How a delivery ended.

use std::time::Duration;

use bytes::Bytes;

/// How long to wait where only an operator can help.
const OPERATOR_WAIT: Duration = Duration::from_secs(30);

/// Why lines are to be delivered again.
#[derive(Debug)]
pub(in crate::audit) struct Failure {
    /// For operators: what is wrong and, if it helps, what to change.
    pub(in crate::audit) why: String,
    /// How long the sink asks to wait.
    pub(in crate::audit) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), retry_after: None }
    }

    /// One that only an operator can mend.
    pub(super) fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), retry_after: Some(OPERATOR_WAIT) }
    }
}

/// How a delivery ended.
#[derive(Debug)]
pub(in crate::audit) enum Delivery {
    /// All lines are done.
    Done {
        /// How many of them the sink refused for good.
        rejected: u64,
    },
    /// Some lines are done.
    Partly {
        /// Whole lines, which are to be delivered again.
        rest: Bytes,
        /// How many of those that are done the sink refused for good.
        rejected: u64,
        /// Why the rest is not done.
        failure: Failure,
    },
    /// All lines are to be delivered again.
    Failed(Failure),
}
