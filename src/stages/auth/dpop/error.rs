//! Why a DPoP proof is rejected.

/// Why a proof is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProofError {
    /// There is none, but the token requires one (RFC 9449 §7.1).
    Missing,
    /// There is more than one (RFC 9449 §4.3, rule 1).
    Several,
    /// It violates a rule of RFC 9449 §4.3; the text tells the caller which.
    Invalid(&'static str),
    /// It was used before (RFC 9449 §11.1).
    Replayed,
    /// It lacks a valid nonce; the response carries a new one (RFC 9449 §9).
    NonceNeeded,
    /// It is valid, but as many proofs of its key are remembered as one key may have.
    TooMany {
        /// Seconds until the first of them expires.
        wait: u64,
    },
    /// It is valid, but the memory is full of proofs that are still valid. A fault of this node, hence 503.
    Full,
}

pub(super) fn invalid<T>(detail: &'static str) -> Result<T, ProofError> {
    Err(ProofError::Invalid(detail))
}
