//! What the token service asks about other credentials of a request: the DPoP key that a token is to be bound to, and a token
//! that is to be exchanged.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::cache::TokenCache;
use super::caller::Caller;
use super::certificate;
use super::claims::{Confirmation, OWN_ISSUER, refuse};
use super::token::{Presented, Token, malformed, name};
use super::{Authentication, Underway};
use crate::exchange::Request;
use crate::refusal::{Reason, Refusal};
use crate::state::registry::revocation_key::RevocationKey;

/// A token that may be exchanged.
pub(crate) struct Subject {
    pub(crate) caller: Arc<Caller>,
    /// The name of its issuer in the policy.
    pub(crate) issuer: Box<str>,
    /// The scopes that it has itself: grants of its consumer end by themselves.
    pub(crate) scopes: Vec<Box<str>>,
    /// What it is bound to, which its bearer has shown.
    pub(crate) confirmation: Confirmation,
    /// What ends it, but not its consumer: the keys of operators' revocations.
    pub(crate) revocation_keys: Vec<RevocationKey>,
    /// When it expires, in seconds since 1970.
    pub(crate) expires: i64,
}

/// A token of the token service, with the signature of one of its keys. Whether it is valid now is not decided.
pub(crate) struct OwnToken {
    /// All claims but `iss`.
    pub(crate) claims: Map<String, Value>,
    /// What identifies it for revocation.
    pub(crate) name: String,
    /// `exp`, in seconds since 1970.
    pub(crate) expires: Option<i64>,
    /// `iat`, in seconds since 1970.
    pub(crate) issued: Option<i64>,
}

impl OwnToken {
    /// A claim that is text.
    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// The client that it was given to.
    pub(crate) fn client(&self) -> Option<&str> {
        self.text("client_id")
    }
}

impl Authentication {
    /// Reads a token of the token service, for the service itself.
    ///
    /// # Errors
    /// It is none, or its signature is wrong.
    pub(crate) async fn own_token(&self, text: &str, now: Timestamp) -> Result<OwnToken, Refusal> {
        let Presented::Jwt(token) = Token::read(text) else { return Err(malformed()) };
        let issuer = token.iss().and_then(|iss| self.rules.issuers.get(iss)).filter(|one| one.name() == OWN_ISSUER);
        let issuer = issuer.ok_or_else(malformed)?;
        issuer.verify(&token, &self.keys, now).await?;
        let number = |claim: &str| token.claims.get(claim).and_then(Value::as_i64);
        let (expires, issued) = (number("exp"), number("iat"));
        Ok(OwnToken { name: name(text).to_owned(), claims: token.claims, expires, issued })
    }

    /// The thumbprint of the key that a request proves to possess (RFC 9449 §5); none if it sends no proof.
    pub(crate) async fn proven_key(&self, request: &Request<'_>, client: &str) -> Result<Option<Box<str>>, Refusal> {
        if !request.headers.contains_key("dpop") {
            return Ok(None);
        }
        let proven = self.dpop.check_unbound(request, &format!("client {client}"));
        let (used, thumbprint) = proven.map_err(|error| self.refuse_proof(error, request.now()))?;
        self.claim(&used, request.now()).await?;
        Ok(Some(thumbprint.into()))
    }

    /// Verifies a token that is to be exchanged (RFC 8693 §2.1): a JWT of one of these issuers, valid now, whose bearer has what
    /// it is bound to.
    pub(crate) async fn subject(
        &self,
        token: &str,
        issuers: &[Box<str>],
        proven: Option<&str>,
        request: &Request<'_>,
        cache: &TokenCache,
    ) -> Result<Subject, Refusal> {
        let invalid = |detail: &'static str| refuse(Reason::InvalidGrant, detail);
        let named = match Token::read(token) {
            Presented::Jwt(read) => read.iss().and_then(|iss| self.rules.issuers.get(iss)),
            Presented::Opaque | Presented::Ambiguous => None,
        };
        let Some(issuer) = named.filter(|issuer| issuers.iter().any(|name| **name == *issuer.name())) else {
            return Err(invalid("the subject token is not of an issuer whose tokens this client may exchange"));
        };
        let mut holder = None;
        let mut underway = Underway {
            request,
            locations: &self.rules.locations,
            cache,
            holder: &mut holder,
            attempt: None,
            again: false,
        };
        let known = Box::pin(self.verify(token, &mut underway)).await;
        let (caller, times, _) = known.map_err(|refusal| match refusal.reason() {
            Reason::IdentityUnavailable | Reason::Overloaded | Reason::LimitsUnavailable => refusal,
            _ => invalid("the subject token is not valid").cause(format!(
                "issuer {}: {}",
                issuer.name(),
                refusal.detail()
            )),
        })?;
        let confirmation = caller.confirmation().clone();
        let unshown = || invalid("the subject token is bound to a key or a certificate that was not shown");
        if confirmation.key.is_some() && confirmation.key.as_deref() != proven {
            return Err(unshown());
        }
        if let Some(thumbprint) = &confirmation.certificate {
            let shown = request.certificate().filter(|shown| shown.thumbprint == *thumbprint).ok_or_else(unshown)?;
            certificate::check(shown, &self.rules.trusts, request.now())?;
        }
        let scopes = caller.granted().to_vec();
        let (caller, _) = self
            .check_standing(caller, request, true)
            .map_err(|refusal| invalid("the subject token is not valid").cause(refusal.detail().to_owned()))?;
        let consumer = [RevocationKey::consumer(caller.consumer()), RevocationKey::all()];
        let keys = caller.revocation_keys().iter().filter(|key| !consumer.contains(key));
        let (issuer, revocation_keys) = (issuer.name().into(), keys.copied().collect());
        Ok(Subject { caller, issuer, scopes, confirmation, revocation_keys, expires: times.expires })
    }
}
