//! Compressed bodies of requests.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// A body as gzip (RFC 1952): fast rather than small.
///
/// # Errors
/// The encoder fails.
pub(crate) fn gzipped(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
