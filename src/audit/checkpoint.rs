//! Checkpoints: what is signed.
//!
//! A checkpoint is a line of the chain with a signature by Ed25519 (RFC 8032). Signed is [`text`] of the hash that the line has
//! with an empty signature: so the signature stands for everything in the line, and by `bartizan.previous` for everything in
//! the stream up to there. A stream that follows another covers the end of that one as well.

use super::chain::Hash;

/// The text that is signed; each of its two lines ends with a line feed.
pub(super) fn text(hash: &Hash) -> Vec<u8> {
    [b"bartizan checkpoint 1\n".as_slice(), hash, b"\n"].concat()
}
