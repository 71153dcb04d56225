//! Checkpoints: what is signed.
//!
//! A checkpoint is a line of the chain that signs, with Ed25519 (RFC 8032), this text. Each of its lines ends with a line feed;
//! what is absent is `-`:
//! ```text
//! bartizan checkpoint 1
//! stream NAME
//! sequence NUMBER OF THIS LINE
//! previous HASH OF THE LINE BEFORE
//! checkpoint HASH OF THE CHECKPOINT BEFORE
//! time TIMESTAMP OF THIS LINE
//! key ID OF THE KEY
//! next KEY OF THE CHECKPOINTS THAT FOLLOW
//! ```
//! The hash of the line before stands for everything in the stream up to there. Every value is as the line writes it.

/// The values of the text.
#[derive(Clone, Copy)]
pub(super) struct CheckpointText<'a> {
    /// `bartizan.stream`.
    pub(super) stream: &'a str,
    /// `event.sequence` of the checkpoint.
    pub(super) sequence: u64,
    /// `event.hash` of the line before.
    pub(super) previous: Option<&'a str>,
    /// `event.hash` of the checkpoint before.
    pub(super) checkpoint: Option<&'a str>,
    /// `@timestamp`.
    pub(super) time: &'a str,
    /// Id of the key.
    pub(super) key: &'a str,
    /// The next public key, in Base64.
    pub(super) next_key: Option<&'a str>,
}

impl CheckpointText<'_> {
    /// The text that is signed.
    pub(super) fn text(&self) -> String {
        let Self { stream, sequence, previous, checkpoint, time, key, next_key } = *self;
        let or_dash = |value: Option<&str>| value.unwrap_or("-").to_owned();
        format!(
            "bartizan checkpoint 1\nstream {stream}\nsequence {sequence}\nprevious {}\ncheckpoint {}\ntime {time}\nkey {key}\nnext {}\n",
            or_dash(previous),
            or_dash(checkpoint),
            or_dash(next_key),
        )
    }
}
