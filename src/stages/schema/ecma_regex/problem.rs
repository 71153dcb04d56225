//! What is wrong with a pattern.

/// Why a pattern cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatternProblem {
    /// The character of the pattern where it is, from 0.
    at: usize,
    message: String,
}

impl PatternProblem {
    pub(super) fn at(at: usize, message: String) -> Self {
        Self { at, message }
    }
}

impl std::fmt::Display for PatternProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the pattern is wrong at character {}: {}", self.at + 1, self.message)
    }
}
