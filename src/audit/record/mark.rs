//! What the sealer itself puts on record, beside the requests.

use jiff::Timestamp;

/// `event.action` of the first line of a stream that follows another.
pub(in crate::audit) const CHAIN_STARTED: &str = "chain_started";
/// `event.action` of a line that says how many records were dropped before it.
pub(in crate::audit) const RECORDS_DROPPED: &str = "records_dropped";
/// `event.action` of a signature over everything before it.
pub(in crate::audit) const CHECKPOINT: &str = "checkpoint";

/// `event.reason` of the last checkpoint of a process.
pub(in crate::audit) const STOPPED: &str = "stopped";
/// `event.reason` of the checkpoint that names the next key.
pub(in crate::audit) const KEY_CHANGED: &str = "key_changed";

/// A line of the sealer. Words need no escaping.
pub(in crate::audit) struct Mark<'a> {
    pub(in crate::audit) at: Timestamp,
    pub(in crate::audit) id: &'a str,
    pub(in crate::audit) kind: MarkKind<'a>,
}

/// What it says.
pub(in crate::audit) enum MarkKind<'a> {
    /// Another stream was kept here before this one.
    Started { follows: &'a Follows },
    /// This many records were dropped, because they could not be kept.
    Dropped(u64),
    /// A signature.
    Checkpoint(CheckpointFacts<'a>),
}

/// The end of the stream that was kept at the same place before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::audit) struct Follows {
    /// Its name.
    pub(in crate::audit) stream: Box<str>,
    /// `event.sequence` of its last whole line.
    pub(in crate::audit) sequence: u64,
    /// Bytes of a line after it that was not written whole.
    pub(in crate::audit) torn: u64,
}

/// The members of a checkpoint. `checkpoint.rs` says what its signature is over.
pub(in crate::audit) struct CheckpointFacts<'a> {
    /// `event.hash` of the checkpoint before it in this stream.
    pub(in crate::audit) previous: Option<&'a str>,
    /// Id of the key.
    pub(in crate::audit) key: &'a str,
    /// Longest time from a line to the checkpoint that covers it, in seconds.
    pub(in crate::audit) every: u64,
    /// The public key of the checkpoints that follow, in Base64.
    pub(in crate::audit) next_key: Option<&'a str>,
    /// Why it was made, if not because it was time.
    pub(in crate::audit) reason: Option<&'a str>,
    /// In Base64.
    pub(in crate::audit) signature: &'a str,
}

impl MarkKind<'_> {
    /// Its `event.action`.
    pub(super) fn action(&self) -> &'static str {
        match self {
            Self::Started { .. } => CHAIN_STARTED,
            Self::Dropped(_) => RECORDS_DROPPED,
            Self::Checkpoint(_) => CHECKPOINT,
        }
    }

    /// Its `event.reason`.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Checkpoint(facts) => facts.reason,
            Self::Started { .. } | Self::Dropped(_) => None,
        }
    }
}
