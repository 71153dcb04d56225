//! Decides whether a request comes from the client that it names (RFC 6749 §2.3).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::attributes::ClaimedAttributes;
use super::caller::{Caller, Consumer, Verified};
use super::claims::{Confirmation, refuse};
use super::client::{Client, ClientCredential, Presented};
use super::dpop::ProofError;
use super::key_set::KeySet;
use super::token::{Presented as PresentedToken, Token};
use super::{Authentication, certificate, failed_attempts, standing};
use crate::exchange::Request;
use crate::refusal::{Reason, Refusal};
use crate::state::registry::UnusualUse;
use crate::state::registry::entry::{Digest, hex};

/// Longest lifetime of an assertion, in seconds.
const MAX_ASSERTION: i64 = 3600;
/// Tolerated clock skew of assertions, in seconds.
const SKEW: i64 = 30;
/// Longest `jti`, in bytes.
const MAX_JTI: usize = 256;
/// Accepted `typ` of assertions, in lower case; the first is that of draft-ietf-oauth-rfc7523bis.
const TYPES: [&str; 2] = ["client-authentication+jwt", "jwt"];

/// A client that has proven its identity.
pub(crate) struct KnownClient {
    pub(crate) client: Arc<Client>,
    issued: Option<i64>,
    /// Thumbprint of the certificate that its tokens are bound to.
    pub(crate) certificate: Option<Digest>,
    /// The digest of the secret that it has sent.
    pub(crate) secret: Option<Digest>,
}

impl Authentication {
    /// Decides whether an address may try to authenticate a client or to use a grant.
    pub(crate) fn permit_attempt(&self, request: &Request<'_>) -> Result<(), Refusal> {
        match &self.rules.failures {
            Some(failures) => failures.permit(&self.ledger, request.client(), request.tick),
            None => Ok(()),
        }
    }

    /// Whether the store of signing keys and revocations has been read, and is in reach unless the policy says otherwise.
    pub(crate) fn is_store_available(&self) -> bool {
        self.store_available().is_ok()
    }

    /// The client with this id, of the policy or made at run time.
    ///
    /// # Errors
    /// Its consumer has a plan that the policy does not have.
    pub(crate) fn client_named(&self, id: &str) -> Result<Option<Arc<Client>>, Refusal> {
        if let Some(listed) = self.rules.clients.get(id) {
            return Ok(Some(Arc::clone(listed)));
        }
        let Some(stored) = self.registry.client(id) else { return Ok(None) };
        // The policy may have had the consumer, and no longer has it.
        let Some(consumer) = self.rules.directory.named(&stored.consumer, &self.registry)? else { return Ok(None) };
        Ok(Some(Arc::new(Client::of_registry(&stored, consumer))))
    }

    /// The clients of a consumer, by id.
    pub(crate) fn clients_of(&self, consumer: &Arc<Consumer>) -> Vec<Arc<Client>> {
        let listed = self.rules.clients.values().filter(|client| client.consumer.name() == consumer.name()).cloned();
        let made = self.registry.clients_of(consumer.name()).into_iter();
        let made = made.filter(|stored| !self.rules.clients.contains_key(&stored.id));
        let made = made.map(|stored| Arc::new(Client::of_registry(&stored, Arc::clone(consumer))));
        let mut clients: Vec<_> = listed.chain(made).collect();
        clients.sort_by(|one, other| one.id.cmp(&other.id));
        clients
    }

    /// Authenticates a client that has presented itself in one of these ways: the first that is right counts. `holder` is the client that
    /// is refused although what it has shown is right or was: for the record. So is what is `unusual` about that.
    ///
    /// # Errors
    /// See [`Self::client`].
    pub(crate) async fn client_by_any(
        &self,
        request: &Request<'_>,
        presented: &[Presented<'_>],
        issuer: &str,
        holder: &mut Option<Arc<Caller>>,
        unusual: &mut Option<UnusualUse>,
    ) -> Result<KnownClient, Refusal> {
        let mut refused = None;
        for presented in presented {
            match self.client(request, *presented, issuer, holder, unusual).await {
                Err(refusal) if refusal.reason() == Reason::InvalidClient => refused = refused.or(Some(refusal)),
                decided => return decided,
            }
        }
        Err(refused.unwrap_or_else(|| wrong("send the credential of a client")))
    }

    /// Counts the attempt if it has failed.
    pub(crate) fn note_attempt(&self, request: &Request<'_>, refusal: &Refusal) {
        if let Some(failures) = self.rules.failures.as_ref().filter(|_| failed_attempts::is_failure(refusal)) {
            failures.note(&self.ledger, request.client(), request.tick);
        }
    }

    /// Authenticates a client; `issuer` is the identifier of the token service, the only audience of assertions.
    ///
    /// # Errors
    /// `invalid_client`, or the client may not get tokens now.
    async fn client(
        &self,
        request: &Request<'_>,
        presented: Presented<'_>,
        issuer: &str,
        holder: &mut Option<Arc<Caller>>,
        unusual: &mut Option<UnusualUse>,
    ) -> Result<KnownClient, Refusal> {
        self.store_available()?;
        let known = match presented {
            Presented::Secret { id, secret } => self.by_secret(id, secret, request.now(), holder, unusual)?,
            Presented::Assertion { id, assertion } => self.by_assertion(id, assertion, issuer, request.now()).await?,
            Presented::Id(id) => self.by_own_certificate(id, request)?,
        };
        let (client, now) = (&known.client, request.now());
        let standing = client.check_standing(&self.registry, &[], known.issued, now).and_then(|()| {
            let networks = client.consumer.networks().into_iter().chain(client.networks.as_deref());
            standing::check_networks(networks, request)
        });
        if let Err(refusal) = standing {
            *holder = Some(known.caller(self, Vec::new()));
            return Err(refusal);
        }
        Ok(known)
    }

    fn by_secret(
        &self,
        id: &str,
        secret: &str,
        now: Timestamp,
        holder: &mut Option<Arc<Caller>>,
        unusual: &mut Option<UnusualUse>,
    ) -> Result<KnownClient, Refusal> {
        let sent = digest(&SHA256, secret.as_bytes());
        let unknown = || wrong("the client is unknown, or its secret is wrong");
        let client = self.client_named(id)?.ok_or_else(unknown)?;
        let secrets = match &client.credential {
            ClientCredential::Secrets(secrets) => secrets.as_slice(),
            _ => &[],
        };
        let mut from = secrets.iter().skip_while(|secret| !bool::from(secret.sha256.ct_eq(sent.as_ref())));
        let found = from.next().ok_or_else(unknown)?;
        let (ended, next) = (found.expires.is_some_and(|end| end <= now), from.next().and_then(|next| next.created));
        let (issued, secret) = (found.created.map(Timestamp::as_second), Some(found.sha256));
        let known = KnownClient { client: Arc::clone(&client), issued, certificate: None, secret };
        if !ended {
            return Ok(known);
        }
        *holder = Some(known.caller(self, Vec::new()));
        *unusual = next.map(UnusualUse::Replaced);
        Err(match next {
            // A thief may have replaced the secret.
            Some(at) => refuse(
                Reason::InvalidClient,
                format!("the client secret was replaced at {at:.0}; if that was not you, tell the API's owner at once"),
            ),
            None => wrong("the client secret has expired; ask the API's owner for a new one"),
        })
    }

    fn by_own_certificate(&self, id: &str, request: &Request<'_>) -> Result<KnownClient, Refusal> {
        let shown = request.certificate();
        let (Some(shown), Some(client)) = (shown, self.client_named(id)?) else {
            return Err(wrong("send the credential of the client"));
        };
        let ClientCredential::Certificate(thumbprint) = client.credential else {
            return Err(wrong("send the credential of the client"));
        };
        if shown.thumbprint != thumbprint {
            return Err(wrong("the certificate of this connection is not that of the client"));
        }
        certificate::check(shown, &self.rules.trusts, request.now())?;
        let issued = Some(shown.not_before);
        Ok(KnownClient { client, issued, certificate: Some(thumbprint), secret: None })
    }

    /// RFC 7523 §3. The audience is the issuer and nothing else: an assertion that another server may use as well would let that
    /// server impersonate the client (draft-ietf-oauth-rfc7523bis).
    async fn by_assertion(
        &self,
        id: Option<&str>,
        assertion: &str,
        issuer: &str,
        now: Timestamp,
    ) -> Result<KnownClient, Refusal> {
        let PresentedToken::Jwt(token) = Token::read(assertion) else {
            return Err(wrong("the client assertion is not a JWT of three base64url parts"));
        };
        let claim = |name: &str| token.claims.get(name).and_then(Value::as_str);
        let named = claim("sub").filter(|sub| token.iss() == Some(sub) && id.is_none_or(|id| id == *sub));
        let named = named.ok_or_else(|| wrong("`iss` and `sub` of a client assertion are the client's id"))?;
        let unknown = || wrong("the client is unknown, or does not sign assertions");
        let client = self.client_named(named)?.ok_or_else(unknown)?;
        let keys = keys_of(&client)?.ok_or_else(unknown)?;
        let header = |name: &str| token.header.get(name).and_then(Value::as_str);
        let typ = token.header.get("typ").map(|typ| typ.as_str().unwrap_or_default().to_ascii_lowercase());
        if token.header.contains_key("crit") || typ.is_some_and(|typ| !TYPES.contains(&&*typ)) {
            return Err(wrong("the client assertion's `typ` or `crit` is not that of a client assertion"));
        }
        let algorithm = header("alg").and_then(|name| name.parse().ok());
        let algorithm = algorithm.ok_or_else(|| wrong("the client assertion's `alg` is not accepted here"))?;
        let candidates = keys.candidates(header("kid"), algorithm);
        if !candidates.iter().any(|key| key.verifies(token.message, token.signature, algorithm)) {
            return Err(wrong("the client assertion is signed with no key of the client"));
        }
        let only = match token.claims.get("aud") {
            Some(Value::Array(list)) if list.len() == 1 => list.first().and_then(Value::as_str),
            Some(value) => value.as_str(),
            None => None,
        };
        if only != Some(issuer) {
            return Err(wrong("the client assertion's `aud` is not the issuer of the token service, and that alone"));
        }
        let until = assertion_end(&token, now)?;
        let jti = claim("jti").filter(|jti| !jti.is_empty() && jti.len() <= MAX_JTI);
        let jti = jti.ok_or_else(|| wrong("the client assertion needs a `jti` of 1 to 256 bytes"))?;
        self.use_assertion(named, jti, until, now).await?;
        // A key that a client has registered is as old as the client, however young its assertions are.
        let signed = || token.claims.get("iat").and_then(Value::as_i64);
        let issued = client.created.map(Timestamp::as_second).or_else(signed);
        Ok(KnownClient { client, issued, certificate: None, secret: None })
    }

    /// Uses up the `jti` of an assertion of the client `named`, on all nodes.
    async fn use_assertion(&self, named: &str, jti: &str, until: i64, now: Timestamp) -> Result<(), Refusal> {
        const USED: &str = "the client assertion was used before; make a new one for every request";
        let used = self.dpop.claim_id(&format!("client {named}"), jti, until, now);
        let used = used.map_err(|error| match error {
            ProofError::Replayed => wrong(USED),
            error => self.refuse_proof(error, now),
        })?;
        let claimed = self.registry.claim(&format!("assertion:{}", hex::encode(&used.replay_key)), used.lifetime).await;
        match claimed {
            Ok(true) => Ok(()),
            Ok(false) => Err(wrong(USED)),
            Err(_) if self.rules.serve_stale => Ok(()),
            Err(error) => {
                let detail = "client assertions cannot be checked now; try again shortly";
                Err(refuse(Reason::IdentityUnavailable, detail).cause(error.to_string()))
            }
        }
    }
}

/// The keys that a client signs assertions with; none if it does not.
fn keys_of(client: &Client) -> Result<Option<Arc<KeySet>>, Refusal> {
    match &client.credential {
        ClientCredential::Keys(keys) => Ok(Some(Arc::clone(keys))),
        ClientCredential::Key(key) => {
            let set = KeySet::from_jwk(&key.jwk).map_err(|cause| unreadable(client, &cause))?;
            Ok(Some(Arc::new(set)))
        }
        ClientCredential::Secrets(_) | ClientCredential::Certificate(_) => Ok(None),
    }
}

/// The last second in which an assertion is valid; an error if it is not valid now.
fn assertion_end(token: &Token<'_>, now: Timestamp) -> Result<i64, Refusal> {
    let date = |name: &str| token.claims.get(name).map(|value| value.as_f64().unwrap_or(f64::NAN));
    let second = now.as_second() as f64;
    let Some(end) = date("exp").filter(|end| end.is_finite()) else {
        return Err(wrong("the client assertion has no expiry (`exp`)"));
    };
    let ahead = |name: &str| date(name).is_some_and(|at| at.is_nan() || at > second + SKEW as f64);
    if end + SKEW as f64 <= second || ahead("iat") || ahead("nbf") {
        return Err(wrong("the client assertion has expired, or is not valid yet"));
    }
    if end > second + (MAX_ASSERTION + SKEW) as f64 {
        return Err(wrong("the client assertion is valid for more than an hour"));
    }
    Ok(end as i64 + SKEW)
}

impl KnownClient {
    /// When its tokens must have expired, in seconds since 1970: it has ended by then.
    pub(crate) fn end(&self) -> Option<i64> {
        self.client.expires.map(Timestamp::as_second)
    }

    /// The caller that it is, for the record, with the scopes that it was granted.
    pub(crate) fn caller(&self, auth: &Authentication, granted: Vec<Box<str>>) -> Arc<Caller> {
        let consumer = &self.client.consumer;
        Arc::new(Caller::new(
            Arc::clone(consumer),
            consumer.account(&auth.ledger),
            Verified {
                kind: self.client.credential.kind(),
                id: Some(self.client.id.clone()),
                issuer: None,
                user: None,
                networks: self.client.networks.clone(),
                attributes: ClaimedAttributes::default(),
                forwarded: Box::default(),
                granted,
                revocation_keys: Vec::new(),
                issued: self.issued,
                confirmation: Confirmation::default(),
                usage: None,
            },
        ))
    }
}

/// Only if another program has changed the store.
fn unreadable(client: &Client, cause: &str) -> Refusal {
    refuse(Reason::IdentityUnavailable, "identity cannot be checked now; try again shortly")
        .cause(format!("the key of the client {}: {cause}", client.id))
}

fn wrong(detail: &'static str) -> Refusal {
    refuse(Reason::InvalidClient, detail)
}
