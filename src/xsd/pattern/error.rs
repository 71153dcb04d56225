//! Why a pattern cannot be used.

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatternError {
    /// Where, in characters from 1.
    pub(crate) column: usize,
    /// What is wrong, in plain words.
    pub(crate) message: String,
}
