//! Checks what a credential is bound to: a key, by a DPoP proof (RFC 9449), or a client certificate (RFC 8705).
//!
//! Checked on every request, also for cached credentials.

use std::sync::Arc;

use jiff::Timestamp;

use super::caller::{Caller, Consumer};
use super::claims::{self, refuse};
use super::credential::Scheme;
use super::dpop::{BoundToken, ProofError, UsedProof};
use super::{Authentication, certificate};
use crate::exchange::{ClientCertificate, Request};
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::state::registry::entry::{Identity, hex};

impl Authentication {
    /// Returns the consumer that the certificate belongs to, by thumbprint or name. A certificate of two consumers is refused.
    pub(super) fn consumer_of(&self, shown: &ClientCertificate) -> Result<Option<Arc<Consumer>>, Refusal> {
        let directory = &self.rules.directory;
        let mut found = directory.identified(&Identity::Certificate(shown.thumbprint), &self.registry)?;
        for name in &shown.names {
            for consumer in directory.certified(name, &self.registry)? {
                match &found {
                    Some(other) if other.name() != consumer.name() => {
                        let detail = "the client certificate belongs to two consumers";
                        return Err(refuse(Reason::InvalidCertificate, detail).cause(format!(
                            "{} and {}",
                            other.name(),
                            consumer.name()
                        )));
                    }
                    _ => found = Some(consumer),
                }
            }
        }
        Ok(found)
    }

    /// Returns whether a certificate that was sent with another credential is the caller's own. One of another consumer is
    /// refused.
    pub(super) fn certificate_beside(
        &self,
        shown: &ClientCertificate,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        let Some(consumer) = self.consumer_of(shown)? else { return Ok(false) };
        certificate::check(shown, &self.rules.trusts, now)?;
        if consumer.name() == caller.consumer() {
            return Ok(true);
        }
        Err(Refusal::new(
            Stage::Auth,
            Reason::MalformedRequest,
            "the client certificate and the credential belong to different consumers; send one of them",
        ))
    }

    /// Decides whether the sender of a bound token possesses what it is bound to, and used the right scheme.
    pub(super) async fn confirm(
        &self,
        caller: &Caller,
        sent: Option<(Scheme, &[u8])>,
        request: &Request<'_>,
    ) -> Result<(), Refusal> {
        let Some((scheme, token)) = sent else { return Ok(()) };
        let confirmation = caller.confirmation();
        if let Some(thumbprint) = &confirmation.certificate {
            let shown = request.certificate().filter(|shown| shown.thumbprint == *thumbprint);
            let shown = shown.ok_or_else(|| {
                refuse(
                    Reason::InvalidToken,
                    "the token is bound to a client certificate; connect with that certificate",
                )
            })?;
            certificate::check(shown, &self.rules.trusts, request.now())?;
        }
        match (&confirmation.key, scheme) {
            (None, Scheme::Bearer) => Ok(()),
            (None, Scheme::Dpop) => Err(claims::invalid("the token is not bound to a key; send it as a bearer token")),
            // RFC 9449 §7.2: otherwise a stolen token could be sent without a proof.
            (Some(_), Scheme::Bearer) => Err(refuse(
                Reason::InvalidDpopProof,
                "the token is bound to a key; send it as `Authorization: DPoP …` with a proof",
            )),
            (Some(jkt), Scheme::Dpop) => {
                let proven = self.dpop.check(request, BoundToken { token, jkt });
                let used = proven.map_err(|error| self.refuse_proof(error, request.now()))?;
                self.claim(&used, request.now()).await
            }
        }
    }

    /// Claims a proof in the store, so that it is good on one node only.
    pub(super) async fn claim(&self, used: &UsedProof, now: Timestamp) -> Result<(), Refusal> {
        let what = format!("dpop:{}", hex::encode(&used.replay_key));
        match self.registry.claim(&what, used.lifetime).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.refuse_proof(ProofError::Replayed, now)),
            // Only this node's memory of proofs then protects against replays.
            Err(_) if self.rules.serve_stale => Ok(()),
            Err(error) => Err(refuse(Reason::IdentityUnavailable, "proofs cannot be checked now; try again shortly")
                .cause(format!("the proof could not be claimed in the store: {error}"))),
        }
    }

    pub(super) fn refuse_proof(&self, error: ProofError, now: Timestamp) -> Refusal {
        let invalid = |detail| refuse(Reason::InvalidDpopProof, detail);
        match error {
            ProofError::Missing => invalid("send a proof of possession in the `DPoP` header"),
            ProofError::Several => invalid("the request has more than one `DPoP` header; send exactly one"),
            ProofError::Invalid(detail) => invalid(detail),
            ProofError::Replayed => invalid("the proof was used before; make a new one for every request"),
            ProofError::NonceNeeded => {
                refuse(Reason::UseDpopNonce, "make the proof with the `nonce` of the `DPoP-Nonce` header")
                    .dpop_nonce(self.dpop.next_nonce(now))
            }
            // Not 401: the token is valid, and the client would discard it and retry at once with a new one.
            ProofError::TooMany { wait } => refuse(
                Reason::RateLimited,
                format!("the key made more proofs than this node remembers for one key; wait {wait} s"),
            )
            .members(Members { retry_after: Some(wait), ..Members::default() }),
            ProofError::Full => refuse(Reason::IdentityUnavailable, "proofs cannot be checked now; try again shortly")
                .cause("the memory for DPoP proofs is full, and all of them are still valid"),
        }
    }
}
