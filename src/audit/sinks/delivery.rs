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

/// Records that a sink refused for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::audit) struct Rejections {
    /// How many.
    pub(in crate::audit) records: u64,
    /// How many of them are only counted: the file of rejected records has no room for them.
    pub(in crate::audit) not_kept: u64,
}

/// How a delivery ended.
#[derive(Debug)]
pub(in crate::audit) enum Delivery {
    /// All lines are done.
    Done {
        /// Those that the sink refused for good.
        rejected: Rejections,
    },
    /// All lines are sent, but it is not known how many have arrived.
    Sent {
        /// The last lines, of this delivery and those before, that are to be delivered again if this process ends.
        unconfirmed: u64,
    },
    /// Some lines are done.
    Partly {
        /// Whole lines, which are to be delivered again.
        rest: Bytes,
        /// Those that are done because the sink refused them for good.
        rejected: Rejections,
        /// Why the rest is not done.
        failure: Failure,
    },
    /// All lines are to be delivered again.
    Failed(Failure),
}
