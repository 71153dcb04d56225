//! What is verified, and what is wrong where it does not hold.

use crate::audit::checkpoint_key::PublicKey;

/// What is verified.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// The keys that checkpoints may be signed with. Without any, signatures are not verified.
    pub(crate) keys: Vec<PublicKey>,
    /// The checkpoint with this hash must be there.
    pub(crate) expect: Option<String>,
    /// The first line of every stream must be there, and every stream that another follows.
    pub(crate) complete: bool,
    /// Streams may begin in the middle, as in a part of what was collected from several nodes, and lack their checkpoints.
    pub(crate) partial: bool,
    /// Every line must be covered by a signature.
    pub(crate) strict: bool,
}

/// Why a record is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Break {
    /// What is wrong, in one sentence. It may quote the record: clean it before it is shown.
    pub(crate) message: String,
    /// It is this many lines before the one that was verified last.
    pub(crate) back: u64,
}

impl Break {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), back: 0 }
    }
}
