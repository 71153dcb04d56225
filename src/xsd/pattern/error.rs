//! Why a pattern cannot be used.

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatternError {
    /// Where, in characters from 1.
    pub(crate) column: usize,
    /// What is wrong, in plain words.
    pub(crate) message: String,
}

impl PatternError {
    pub(super) fn too_large() -> Self {
        let message =
            "the pattern is too large: its repetitions and classes multiply, or those of all patterns together";
        Self { column: 1, message: message.to_owned() }
    }
}
