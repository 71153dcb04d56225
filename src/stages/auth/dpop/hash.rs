//! Hashes of proofs and nonces.

/// Returns the first 16 bytes of a hash.
pub(super) fn truncated(hash: &[u8]) -> [u8; 16] {
    hash.first_chunk().copied().unwrap_or_default()
}
