//! DPoP proofs (RFC 9449): decides whether the sender of a request possesses the key that its token is bound to.
//!
//! This does not identify the caller: the token has already been verified, and proofs are checked against its `cnf.jkt`. A
//! proof is valid for one request, once, and for a short time. The rules are those of RFC 9449 §4.3: the cheap ones first,
//! then the signature, and replays last, so that only the holder of a bound key can fill the memory of replays.
//!
//! That memory belongs to one process. Nodes that share a store also claim each proof there, so that it is valid on one node
//! only. Without a store, a proof can be replayed on another node or after a restart until it is too old; nonces prevent
//! both, because each process signs them with a key of its own (§8).

mod error;
mod hash;
pub(super) mod jwk;
mod nonces;
mod proof;
mod replays;
mod target;

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde_json::Value;
use subtle::ConstantTimeEq;

pub(crate) use self::error::ProofError;
use self::error::invalid;
pub(crate) use self::nonces::Nonces;
use self::proof::Proof;
pub(crate) use self::replays::Replays;
use self::replays::replay_key;
use crate::exchange::Request;

/// The header that carries proofs (RFC 9449 §4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Longest `jti`, in bytes.
const MAX_JTI: usize = 256;
/// How proofs are checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How long a proof is valid after its `iat`, in seconds (RFC 9449 §11.1).
    pub(crate) max_age: i64,
    /// Tolerated difference of clocks, in seconds.
    pub(crate) skew: i64,
    /// Whether a proof must have a nonce that we issued (RFC 9449 §9).
    pub(crate) nonce: bool,
    /// The accepted algorithms. Symmetric ones are ignored.
    pub(crate) algorithms: Vec<Algorithm>,
}

/// An access token that is bound to a key.
#[derive(Clone, Copy)]
pub(crate) struct BoundToken<'a> {
    /// The token, as sent.
    pub(crate) token: &'a [u8],
    /// Thumbprint of its key: its `cnf.jkt` (RFC 9449 §6.1).
    pub(crate) jkt: &'a str,
}

/// A valid proof, which is now used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsedProof {
    /// Identifies it, so that a replay is recognised.
    pub(crate) replay_key: [u8; 16],
    /// How long any node would still accept it.
    pub(crate) lifetime: Duration,
}

/// Checks proofs under one policy.
#[derive(Debug)]
pub(crate) struct Dpop {
    settings: Settings,
    /// Outlives the policy.
    replays: Arc<Replays>,
    /// Outlives the policy.
    nonces: Arc<Nonces>,
}

impl Dpop {
    /// Removes symmetric algorithms from the settings (RFC 9449 §4.3, rule 5).
    pub(crate) fn new(mut settings: Settings, replays: Arc<Replays>, nonces: Arc<Nonces>) -> Self {
        settings.algorithms.retain(|algorithm| algorithm.family() != AlgorithmFamily::Hmac);
        Self { settings, replays, nonces }
    }

    /// Issues the nonce for the next proof.
    pub(super) fn next_nonce(&self, now: Timestamp) -> HeaderValue {
        self.nonces.issue(now)
    }

    /// Decides whether the request's `DPoP` header proves that its sender possesses the token's key (RFC 9449 §4.3).
    ///
    /// A valid proof is remembered on this node and cannot be used again. The caller claims it on the other nodes.
    pub(crate) fn check(&self, request: &Request<'_>, bound: BoundToken<'_>) -> Result<UsedProof, ProofError> {
        self.verify(request, Some(bound), None).map(|(used, _)| used)
    }

    /// The same for a request for a token (RFC 9449 §5): there is none yet. Also returns the thumbprint of the key that the
    /// token is to be bound to. The proof counts as one of its `owner`: keys can be made at will.
    pub(super) fn check_unbound(&self, request: &Request<'_>, owner: &str) -> Result<(UsedProof, String), ProofError> {
        self.verify(request, None, Some(owner))
    }

    /// Remembers an id of its owner until it has expired, so that it is used once; the same for a JWT of a client.
    pub(super) fn claim_id(&self, owner: &str, id: &str, until: i64, now: Timestamp) -> Result<UsedProof, ProofError> {
        let (replay_key, now) = (replay_key(owner, id), now.as_second());
        self.replays.claim(owner, replay_key, until, now)?;
        // A node whose clock is behind accepts it for longer, by at most the clock skew.
        let left = until.saturating_sub(now).saturating_add(1).saturating_add(self.settings.skew);
        Ok(UsedProof { replay_key, lifetime: Duration::from_secs(u64::try_from(left).unwrap_or(1)) })
    }

    fn verify(
        &self,
        request: &Request<'_>,
        bound: Option<BoundToken<'_>>,
        owner: Option<&str>,
    ) -> Result<(UsedProof, String), ProofError> {
        let now = request.now();
        let mut proofs = request.headers.get_all(DPOP).iter();
        let value = match (proofs.next(), proofs.next()) {
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Err(ProofError::Several),
            (None, _) => return Err(ProofError::Missing),
        };
        let proof = Proof::parse(value)?;
        let algorithm = self.algorithm(&proof)?;
        let (key, thumbprint) = proof.key(algorithm)?;
        let jti = proof.claim("jti").filter(|jti| !jti.is_empty() && jti.len() <= MAX_JTI);
        let jti = jti.ok_or(ProofError::Invalid("the DPoP proof's `jti` is not a string of 1 to 256 bytes"))?;
        proof.is_for(request, bound.map(|bound| bound.token))?;
        // Before the signature, so that nobody can make us verify with a large key of their choice.
        if bound.is_some_and(|bound| !bool::from(thumbprint.as_bytes().ct_eq(bound.jkt.as_bytes()))) {
            return invalid("the DPoP proof is signed with a different key than the token is bound to (`cnf.jkt`)");
        }
        let until = self.until(&proof, now)?;
        self.nonce(&proof, now)?;
        if !jsonwebtoken::crypto::verify(proof.signature, proof.message.as_bytes(), &key, algorithm).unwrap_or(false) {
            return invalid("the DPoP proof's signature is invalid");
        }
        let used = match owner {
            // Of the same key and id as a proof that comes with a token: neither is good for the other.
            Some(owner) => self.claim_id(owner, &format!("{thumbprint} {jti}"), until, now)?,
            None => self.claim_id(&thumbprint, jti, until, now)?,
        };
        Ok((used, thumbprint))
    }

    /// Returns the proof's algorithm, if it is accepted (RFC 9449 §4.3, rules 4 and 5).
    fn algorithm(&self, proof: &Proof<'_>) -> Result<Algorithm, ProofError> {
        let member = |name: &str| proof.header.get(name).and_then(Value::as_str);
        // A JWT of another kind, such as an ID token, is not a proof (RFC 8725 §3.11).
        if member("typ") != Some("dpop+jwt") {
            return invalid("the DPoP proof's `typ` is not `dpop+jwt`");
        }
        // RFC 7515 §4.1.11: a critical extension that is not supported invalidates the proof, and we support none.
        if proof.header.contains_key("crit") {
            return invalid("the DPoP proof requires an extension (`crit`) that is not supported");
        }
        let algorithm = member("alg").and_then(|name| match name {
            // RFC 9864 §2.2: this name also specifies the curve. No other curve of EdDSA is accepted here.
            "Ed25519" => Some(Algorithm::EdDSA),
            name => name.parse().ok(),
        });
        let accepted = algorithm.filter(|algorithm| self.settings.algorithms.contains(algorithm));
        accepted.ok_or(ProofError::Invalid("the DPoP proof's `alg` is not accepted here"))
    }

    /// Returns the last second in which the proof is valid; fails if it is not valid now (RFC 9449 §4.3, rule 11).
    fn until(&self, proof: &Proof<'_>, now: Timestamp) -> Result<i64, ProofError> {
        /// The year 10000: later dates are nonsense.
        const MOST: f64 = 253_402_300_800.0;
        let Settings { max_age, skew, .. } = self.settings;
        let issued = proof.claims.get("iat").and_then(Value::as_f64).filter(|seconds| (0.0..MOST).contains(seconds));
        let issued = issued.ok_or(ProofError::Invalid("the DPoP proof's `iat` is not a date in seconds"))? as i64;
        let until = issued.saturating_add(max_age).saturating_add(skew);
        match now.as_second() {
            now if issued > now.saturating_add(skew) => invalid("the DPoP proof's `iat` is ahead of the clock here"),
            now if until < now => invalid("the DPoP proof's `iat` is too long ago; make a new proof for each request"),
            _ => Ok(until),
        }
    }

    /// Checks the nonce (RFC 9449 §4.3, rule 10). One that is not required does no harm, but must be a string (§4.2).
    fn nonce(&self, proof: &Proof<'_>, now: Timestamp) -> Result<(), ProofError> {
        match proof.claims.get("nonce") {
            Some(Value::String(nonce)) if self.settings.nonce && self.nonces.accepts(nonce, now) => Ok(()),
            None | Some(Value::String(_)) if self.settings.nonce => Err(ProofError::NonceNeeded),
            None | Some(Value::String(_)) => Ok(()),
            Some(_) => invalid("the DPoP proof's `nonce` is not a string"),
        }
    }
}

#[cfg(test)]
mod tests;
