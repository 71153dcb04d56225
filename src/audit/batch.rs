//! Lines on their way.

use bytes::Bytes;

/// Whole lines on their way to the sealer or a sink.
#[derive(Clone, Default)]
pub(super) struct Batch {
    /// The lines, each with its line break.
    pub(super) lines: Bytes,
    /// Number of records in `lines`.
    pub(super) records: u64,
}
