//! The sinks that a policy names.

use std::path::PathBuf;

/// The configuration of one sink. Sinks with equal configurations are carried over when the policy is reloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SinkConfig {
    /// Standard output.
    Stdout {
        /// JSON if absent; otherwise readable lines, in colour if true.
        readable: Option<bool>,
    },
    /// A file that is appended to.
    File {
        /// Its path; its folder must exist.
        path: PathBuf,
    },
}

impl std::fmt::Display for SinkConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout { .. } => f.write_str("stdout"),
            Self::File { path } => path.display().fmt(f),
        }
    }
}
