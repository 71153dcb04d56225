//! An answer of this process, in place of an upstream's.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// An answer of this process.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}
