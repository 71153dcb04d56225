//! Makes credentials for rehearsing a policy. They are signed with keys of the rehearsal, which stand in for those of
//! the issuers, and verified by the same code as all others.
//!
//! They are worthless anywhere else: the keys are new in every run, and are never stored.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::persona::{HeaderCredential, Persona, ShownCertificate, TokenClaims, claims};
use super::proof::Prover;
use super::request::RehearsalRequest;
use crate::exchange::ClientCertificate;
use crate::policy::Policy;
use crate::policy::compile::StandIns;
use crate::runtime::InForce;
use crate::stages::auth::api_key::Digest;
use crate::stages::auth::claims::Settings;
use crate::stages::auth::introspection::{EndpointStandIn, Introspection};
use crate::stages::auth::key_set::KeySet;
use crate::state::registry::entry::{Change, Entry, Key, hex};

/// How long a certificate is valid before and after now, in seconds.
const CERTIFICATE_LIFETIME: i64 = 24 * 3600;

/// The `typ` of access tokens (RFC 9068 §2.1), for issuers that must write it.
const ACCESS_TOKEN: &str = "at+jwt";

/// A credential, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    sent: Option<SentCredential>,
    shown: Option<ShownCertificate>,
    made: Timestamp,
}

#[derive(Debug, Clone)]
enum SentCredential {
    Key(String),
    /// A token, and the key it is bound to.
    Token(String, Option<Rc<Prover>>),
}

/// Signs as an issuer.
struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    set: Arc<KeySet>,
}

/// Makes credentials, and replaces the issuers, introspection endpoints and key owners of the policy.
pub(crate) struct Mint {
    env: BTreeMap<String, String>,
    /// Absent: the vault is asked.
    secrets: Option<BTreeMap<String, String>>,
    /// The secret that the texts of API keys are derived from.
    secret: [u8; 32],
    signers: RefCell<HashMap<String, Signer>>,
    /// The claims that introspection endpoints return, by endpoint and token.
    active: Arc<Mutex<HashMap<String, Map<String, Value>>>>,
}

impl Mint {
    /// Creates a mint with new keys, and with environment variables and secrets for the policy; without secrets, the vault is
    /// asked. Fails if the system has no random bytes.
    pub(crate) fn new(
        env: BTreeMap<String, String>,
        secrets: Option<BTreeMap<String, String>>,
    ) -> Result<Self, String> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|Unspecified| "the system has no random bytes".to_owned())?;
        Ok(Self { env, secrets, secret, signers: RefCell::default(), active: Arc::default() })
    }

    /// Makes the credential of a persona at this time. The error says why that is impossible.
    pub(crate) fn credential(
        &self,
        in_force: &InForce,
        persona: &Persona,
        now: Timestamp,
    ) -> Result<Credential, String> {
        let auth = in_force.auth.rules();
        let shown = persona.shows.as_ref();
        let sent = match &persona.sends {
            None => None,
            Some(HeaderCredential::Key(id)) => Some(SentCredential::Key(self.key_text(id))),
            Some(HeaderCredential::Made { consumer, scopes }) => {
                let key = self.made(consumer, scopes.as_deref(), now);
                let text = self.key_text(&key.id);
                in_force.registry().learn(Change::Put(Entry::Key(key)));
                Some(SentCredential::Key(text))
            }
            Some(HeaderCredential::Jwt(claimed)) => {
                let (issuer, id) = auth.issuer_of(&claimed.by, &claimed.id).ok_or_else(|| {
                    let TokenClaims { by, id, .. } = claimed;
                    format!(
                        "there is no issuer `{by}` with a tenant for `{id}`; an id is `TENANT/ID` where it has tenants"
                    )
                })?;
                let claimed = TokenClaims { id: id.to_owned(), ..claimed.clone() };
                Some(token(issuer.settings(), &claimed, shown, now, |claims| self.sign(issuer.settings(), &claims))?)
            }
            Some(HeaderCredential::Introspected(claimed)) => {
                let mut endpoints = auth.introspection.iter().map(Introspection::settings);
                let settings = endpoints.find(|settings| *settings.name == *claimed.by);
                let settings =
                    settings.ok_or_else(|| format!("there is no introspection endpoint `{}`", claimed.by))?;
                Some(token(settings, claimed, shown, now, |claims| Ok(self.opaque(&claimed.by, claims)))?)
            }
        };
        Ok(Credential { sent, shown: persona.shows.clone(), made: now })
    }

    fn sign(&self, settings: &Settings, claims: &Map<String, Value>) -> Result<String, String> {
        let (signers, issuer) = (self.signers.borrow(), &*settings.name);
        let signer = signers.get(issuer).ok_or_else(|| format!("there is no key for issuer `{issuer}`"))?;
        let mut header = Header::new(signer.algorithm);
        if settings.typed {
            header.typ = Some(ACCESS_TOKEN.to_owned());
        }
        jsonwebtoken::encode(&header, claims, &signer.key)
            .map_err(|error| format!("a token of `{issuer}` cannot be signed: {error}"))
    }

    /// Makes an opaque token, and registers the claims that its endpoint will return.
    fn opaque(&self, endpoint: &str, claims: Map<String, Value>) -> String {
        let token = uuid::Uuid::now_v7().simple().to_string();
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.insert(format!("{endpoint} {token}"), claims);
        token
    }

    fn made(&self, consumer: &str, scopes: Option<&[String]>, now: Timestamp) -> Key {
        let id = format!("rehearsed-{}", uuid::Uuid::now_v7().simple());
        Key {
            sha256: self.api_key(&id).unwrap_or_default(),
            id: id.into(),
            consumer: consumer.into(),
            scopes: scopes.map(|scopes| scopes.iter().map(|scope| Box::from(scope.as_str())).collect()),
            from: None,
            not_before: None,
            expires: None,
            replaced_by: None,
            note: None,
            created: now,
            created_by: "rehearsal".into(),
            rotation: None,
            ends_for_good: false,
        }
    }

    /// The text of the API key with this id.
    fn key_text(&self, id: &str) -> String {
        hex::encode(digest(&SHA256, &[&self.secret[..], id.as_bytes()].concat()).as_ref())
    }
}

impl StandIns for Mint {
    fn env(&self) -> BTreeMap<String, String> {
        self.env.clone()
    }

    fn secrets(&self) -> Option<BTreeMap<String, String>> {
        self.secrets.clone()
    }

    fn issuer(&self, name: &str, algorithms: &[Algorithm]) -> Option<Arc<KeySet>> {
        if !self.signers.borrow().contains_key(name) {
            self.signers.borrow_mut().insert(name.to_owned(), signer(algorithms)?);
        }
        self.signers.borrow().get(name).map(|signer| Arc::clone(&signer.set))
    }

    fn api_key(&self, id: &str) -> Option<Digest> {
        Digest::try_from(digest(&SHA256, self.key_text(id).as_bytes()).as_ref()).ok()
    }

    fn endpoint(&self, name: &str) -> Option<EndpointStandIn> {
        let (name, active) = (name.to_owned(), Arc::clone(&self.active));
        Some(Arc::new(move |token| {
            active.lock().unwrap_or_else(PoisonError::into_inner).get(&format!("{name} {token}")).cloned()
        }))
    }
}

/// Makes a token, with the DPoP key it is bound to, if any.
fn token(
    settings: &Settings,
    claimed: &TokenClaims,
    shown: Option<&ShownCertificate>,
    now: Timestamp,
    make: impl FnOnce(Map<String, Value>) -> Result<String, String>,
) -> Result<SentCredential, String> {
    let prover = match claimed.dpop {
        true => Some(Rc::new(Prover::new().ok_or("the system has no random bytes")?)),
        false => None,
    };
    let mut confirmation = Map::new();
    if let Some(shown) = shown.filter(|_| claimed.bound) {
        confirmation.insert("x5t#S256".to_owned(), json!(URL_SAFE_NO_PAD.encode(shown.thumbprint())));
    }
    if let Some(prover) = &prover {
        confirmation.insert("jkt".to_owned(), json!(prover.thumbprint()));
    }
    Ok(SentCredential::Token(make(claims(settings, claimed, confirmation, now)?)?, prover))
}

impl Credential {
    /// Adds the credential to a request that is otherwise complete, at this time.
    pub(crate) fn add_to(
        &self,
        in_force: &InForce,
        request: &mut RehearsalRequest,
        at: Timestamp,
    ) -> Result<(), String> {
        let policy = &in_force.policy;
        let locations = &policy.auth().locations;
        request.certificate = self.certificate(policy);
        match &self.sent {
            None => {}
            Some(SentCredential::Key(text)) => request.send_key(locations, text),
            Some(SentCredential::Token(text, None)) => request.send_token(locations, text),
            Some(SentCredential::Token(..)) if !locations.has_bearer() => {
                return Err(
                    "tokens that are bound to a key come in `Authorization`, which `auth.tokens.from` does not list"
                        .to_owned(),
                );
            }
            Some(SentCredential::Token(text, Some(prover))) => {
                // A nonce that is not required does no harm.
                let nonce = in_force.auth.dpop_nonce(at);
                let proof =
                    prover.proof(request, request.is_secure(policy), text, nonce.to_str().unwrap_or_default(), at)?;
                request.headers.push(("dpop".to_owned(), proof));
                request.headers.push(("authorization".to_owned(), format!("DPoP {text}")));
            }
        }
        Ok(())
    }

    /// The client certificate, if a listener of the policy asks for one.
    fn certificate(&self, policy: &Policy) -> Option<Box<ClientCertificate>> {
        let shown = self.shown.as_ref()?;
        let mut listeners = policy.listeners().iter();
        let (listener, trust) = listeners.find_map(|listener| {
            let forwarded = listener.forwarded_certificates.as_ref().map(|forwarded| &forwarded.trust);
            let own = listener.tls.as_ref().and_then(|tls| tls.trust.as_ref());
            Some((listener.address, own.or(forwarded)?))
        })?;
        let names: Box<[_]> = match shown {
            ShownCertificate::Name(name) => Box::new([name.clone()]),
            ShownCertificate::Thumbprint(_) => Box::default(),
        };
        Some(Box::new(ClientCertificate {
            thumbprint: shown.thumbprint(),
            names,
            not_before: self.made.as_second().saturating_sub(CERTIFICATE_LIFETIME),
            not_after: self.made.as_second().saturating_add(CERTIFICATE_LIFETIME),
            chain: Box::default(),
            listener,
            trusted_by: trust.identity,
        }))
    }
}

/// Makes a new key for one of these algorithms: the one whose key is quickest to generate.
fn signer(algorithms: &[Algorithm]) -> Option<Signer> {
    const QUICK: [Algorithm; 6] =
        [Algorithm::EdDSA, Algorithm::ES256, Algorithm::ES384, Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    let quick = QUICK.iter().find(|quick| algorithms.contains(quick));
    let algorithm = *quick.or(algorithms.first())?;
    let (public, key) = match algorithm.family() {
        AlgorithmFamily::Hmac => {
            // RFC 7518 §3.2: at least as long as the hash output; 64 bytes suit the longest.
            let mut secret = [0; 64];
            aws_lc_rs::rand::fill(&mut secret).ok()?;
            let set = Arc::new(KeySet::from_secret(&secret));
            return Some(Signer { algorithm, key: EncodingKey::from_secret(&secret), set });
        }
        AlgorithmFamily::Ed => {
            let pair = Ed25519KeyPair::generate().ok()?;
            let private = pair.to_pkcs8v1().ok()?;
            let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
            (pem("PUBLIC KEY", public.as_ref()), EncodingKey::from_ed_der(private.as_ref()))
        }
        AlgorithmFamily::Ec => {
            let curve = match algorithm {
                Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
                _ => &ECDSA_P256_SHA256_FIXED_SIGNING,
            };
            let pair = EcdsaKeyPair::generate(curve).ok()?;
            let private = pair.to_pkcs8v1().ok()?;
            let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
            (pem("PUBLIC KEY", public.as_ref()), EncodingKey::from_ec_der(private.as_ref()))
        }
        _ => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
            let private: Pkcs8V1Der<'_> = pair.as_der().ok()?;
            let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
            let key = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).ok()?;
            (pem("PUBLIC KEY", public.as_ref()), key)
        }
    };
    Some(Signer { algorithm, key, set: Arc::new(KeySet::from_pem(&public).ok()?) })
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_of_the_language_can_be_signed_for() {
        for name in
            ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"]
        {
            let algorithm = name.parse::<Algorithm>().unwrap();
            let Signer { algorithm: chosen, key, set } = signer(&[algorithm]).unwrap();
            let signature = jsonwebtoken::crypto::sign(b"message", &key, chosen).unwrap();
            assert_eq!(chosen, algorithm);
            assert!(set.keys().iter().any(|key| key.verifies("message", &signature, algorithm)), "{name}");
            assert!(!set.keys().iter().any(|key| key.verifies("another", &signature, algorithm)), "{name}");
        }
    }
}
