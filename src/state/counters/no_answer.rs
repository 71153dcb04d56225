//! Why a question had no answer.

/// A question had no answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) why: String,
    /// Whether a new connection is needed.
    pub(super) is_broken: bool,
}

impl NoAnswer {
    pub(super) fn timed_out() -> Self {
        Self { why: "it does not answer in time".to_owned(), is_broken: false }
    }
}
