//! Credentials that are good for a policy as it is rehearsed: made with keys of the rehearsal, which stand in for those of the
//! issuers, and verified by the very code that verifies all others.
//!
//! What it makes is worth nothing anywhere else: its keys are new in every run, and are never written down.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

use crate::exchange::ClientCertificate;
use crate::policy::Policy;
use crate::policy::compile::StandIns;
use crate::stages::auth::api_key::Digest;
use crate::stages::auth::claims::Settings;
use crate::stages::auth::introspection::Given;
use crate::stages::auth::key_set::KeySet;
use crate::state::register::entry::{Change, Entry, Key, hex};

/// How long a token lives when nobody says, in seconds.
const LIFETIME: i64 = 300;
/// How long a certificate does, before and after now, in seconds.
const CERTIFICATE_LIFETIME: i64 = 24 * 3600;

/// Who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Persona {
    /// What is sent in a header.
    pub(crate) sends: Option<Sends>,
    /// What is shown when connecting: `sha256:` and a thumbprint, or a name in a certificate.
    pub(crate) shows: Option<Shows>,
}

/// A credential that goes in a header.
#[derive(Debug, Clone)]
pub(crate) enum Sends {
    /// A token of an issuer.
    Jwt(Claimed),
    /// A token that an introspection endpoint vouches for.
    Introspected(Claimed),
    /// An API key of the policy, by its id.
    Key(String),
    /// An API key that an operator makes while the policy is in force.
    Made {
        /// For this consumer.
        consumer: String,
        /// Narrows what its roles allow.
        scopes: Option<Vec<String>>,
    },
}

/// A client certificate.
#[derive(Debug, Clone)]
pub(crate) enum Shows {
    /// By its thumbprint.
    Thumbprint(Digest),
    /// By a name in it.
    Name(String),
}

/// What a token says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claimed {
    /// Issuer or endpoint, by its name in the policy.
    pub(crate) by: String,
    /// Who its bearer is.
    pub(crate) id: String,
    /// Its scopes.
    pub(crate) scopes: Vec<String>,
    /// Its roles, where the issuer has a claim for them.
    pub(crate) roles: Vec<String>,
    /// Claims in place of those it would have; `null` takes one out.
    pub(crate) claims: Map<String, Value>,
    /// How long ago it was issued, when somebody says.
    pub(crate) issued: Option<Duration>,
    /// When it ends.
    pub(crate) end: End,
    /// Whether it is bound to the certificate that is shown (RFC 8705).
    pub(crate) bound: bool,
}

/// When a token ends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum End {
    /// After the usual time.
    #[default]
    Usual,
    /// In so long.
    In(Duration),
    /// It did, so long ago.
    Ago(Duration),
}

/// A credential, ready to be sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credential {
    /// Name and value of the header it goes in.
    pub(crate) header: Option<(String, String)>,
    certificate: Option<Certificate>,
}

#[derive(Debug, Clone)]
struct Certificate {
    shows: Shows,
    made: Timestamp,
}

/// Signs as an issuer.
struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    set: Arc<KeySet>,
}

/// Makes credentials, and stands in for whoever would have made them.
pub(crate) struct Mint {
    env: BTreeMap<String, String>,
    /// What texts of API keys are made of.
    secret: [u8; 32],
    signers: RefCell<HashMap<String, Signer>>,
    /// What endpoints know, by token.
    active: Arc<Mutex<HashMap<String, Map<String, Value>>>>,
}

impl Mint {
    /// One with new keys, and with variables for the policy. Errors: the system has no randomness.
    pub(crate) fn new(env: BTreeMap<String, String>) -> Result<Self, String> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|Unspecified| "the system has no random bytes".to_owned())?;
        Ok(Self { env, secret, signers: RefCell::default(), active: Arc::default() })
    }

    /// Makes the credential of a persona, at this time. The error says why there can be none.
    pub(crate) fn credential(&self, policy: &Policy, persona: &Persona, now: Timestamp) -> Result<Credential, String> {
        let header = match &persona.sends {
            None => None,
            Some(Sends::Key(id)) => Some((policy.auth().key_header().to_string(), self.key_text(id))),
            Some(Sends::Made { consumer, scopes }) => {
                let key = self.made(consumer, scopes.as_deref(), now);
                let header = (policy.auth().key_header().to_string(), self.key_text(&key.id));
                policy.auth().directory().register().learn(Change::Put(Entry::Key(key)));
                Some(header)
            }
            Some(Sends::Jwt(claimed)) => {
                let issuer = policy.auth().issuers().find(|issuer| issuer.name() == claimed.by);
                let issuer = issuer.ok_or_else(|| format!("there is no issuer `{}`", claimed.by))?;
                let claims = claims(issuer.settings(), claimed, persona.shows.as_ref(), now)?;
                Some(("authorization".to_owned(), format!("Bearer {}", self.sign(&claimed.by, &claims)?)))
            }
            Some(Sends::Introspected(claimed)) => {
                let mut endpoints = policy.auth().introspection().iter();
                let endpoint = endpoints.find(|endpoint| *endpoint.settings().name == *claimed.by);
                let endpoint =
                    endpoint.ok_or_else(|| format!("there is no introspection endpoint `{}`", claimed.by))?;
                let claims = claims(endpoint.settings(), claimed, persona.shows.as_ref(), now)?;
                Some(("authorization".to_owned(), format!("Bearer {}", self.opaque(&claimed.by, claims))))
            }
        };
        let certificate = persona.shows.clone().map(|shows| Certificate { shows, made: now });
        Ok(Credential { header, certificate })
    }

    fn sign(&self, issuer: &str, claims: &Map<String, Value>) -> Result<String, String> {
        let signers = self.signers.borrow();
        let signer = signers.get(issuer).ok_or_else(|| format!("there is no key for issuer `{issuer}`"))?;
        jsonwebtoken::encode(&Header::new(signer.algorithm), claims, &signer.key)
            .map_err(|error| format!("a token of `{issuer}` cannot be signed: {error}"))
    }

    /// A token that says nothing, and what its endpoint will say of it.
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
            not_before: None,
            expires: None,
            replaced_by: None,
            note: None,
            created: now,
            created_by: "rehearsal".into(),
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

    fn issuer(&self, name: &str, algorithms: &[Algorithm]) -> Option<Arc<KeySet>> {
        if !self.signers.borrow().contains_key(name) {
            self.signers.borrow_mut().insert(name.to_owned(), signer(algorithms)?);
        }
        self.signers.borrow().get(name).map(|signer| Arc::clone(&signer.set))
    }

    fn api_key(&self, id: &str) -> Option<Digest> {
        Digest::try_from(digest(&SHA256, self.key_text(id).as_bytes()).as_ref()).ok()
    }

    fn endpoint(&self, name: &str) -> Option<Given> {
        let (name, active) = (name.to_owned(), Arc::clone(&self.active));
        Some(Arc::new(move |token| {
            active.lock().unwrap_or_else(PoisonError::into_inner).get(&format!("{name} {token}")).cloned()
        }))
    }
}

impl Credential {
    /// What is shown when connecting, where the policy has a listener that asks for it.
    pub(crate) fn certificate(&self, policy: &Policy) -> Option<Box<ClientCertificate>> {
        let Certificate { shows, made } = self.certificate.as_ref()?;
        let mut listeners = policy.listeners().iter();
        let (listener, trust) =
            listeners.find_map(|listener| Some((listener.address, listener.tls.as_ref()?.trust.as_ref()?)))?;
        let names: Box<[Box<str>]> = match shows {
            Shows::Name(name) => Box::new([name.as_str().into()]),
            Shows::Thumbprint(_) => Box::default(),
        };
        Some(Box::new(ClientCertificate {
            thumbprint: shows.thumbprint(),
            names,
            not_before: made.as_second().saturating_sub(CERTIFICATE_LIFETIME),
            not_after: made.as_second().saturating_add(CERTIFICATE_LIFETIME),
            chain: Box::default(),
            listener,
            trusted_by: trust.identity,
        }))
    }
}

impl Shows {
    /// Reads one as a policy writes identities. The error says what is wrong.
    pub(crate) fn read(written: &str) -> Result<Self, &'static str> {
        match written.strip_prefix("sha256:") {
            Some(digits) => hex::decode(digits).map(Self::Thumbprint).ok_or("a thumbprint is `sha256:` and 64 digits"),
            None if written.is_empty() => Err("the name of a certificate is not empty"),
            // DNS names know no case; what has a scheme or an @ is none.
            None if written.contains([':', '@']) => Ok(Self::Name(written.to_owned())),
            None => Ok(Self::Name(written.to_ascii_lowercase())),
        }
    }

    /// Of a certificate that is known by a name, one that is made of it.
    fn thumbprint(&self) -> Digest {
        match self {
            Self::Thumbprint(thumbprint) => *thumbprint,
            Self::Name(name) => Digest::try_from(digest(&SHA256, name.as_bytes()).as_ref()).unwrap_or_default(),
        }
    }
}

/// What a token of this issuer says.
fn claims(
    settings: &Settings,
    claimed: &Claimed,
    shows: Option<&Shows>,
    now: Timestamp,
) -> Result<Map<String, Value>, String> {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let now = now.as_second();
    // Nobody who does not ask for it gets a token that lives too long, or ends before it begins.
    let lifetime = settings.max_lifetime.unwrap_or(i64::MAX);
    let usual = LIFETIME.min(lifetime);
    let issued = claimed.issued.map(|ago| now.saturating_sub(seconds(ago)));
    let (issued, end) = match claimed.end {
        End::In(left) => (issued.unwrap_or(now), now.saturating_add(seconds(left))),
        End::Ago(past) => {
            let end = now.saturating_sub(seconds(past));
            (issued.unwrap_or(end.saturating_sub(usual)), end)
        }
        End::Usual => {
            let issued = issued.unwrap_or(now);
            (issued, issued.saturating_add(lifetime).min(now.saturating_add(usual)))
        }
    };
    let consumer = settings.consumer_claim.as_deref().unwrap_or("client_id");
    let scope = settings.scope_claim.as_deref().unwrap_or("scope");
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say("iss", json!(settings.iss));
    say("sub", json!(claimed.id));
    say("iat", json!(issued));
    say("exp", json!(end));
    say("jti", json!(uuid::Uuid::now_v7().to_string()));
    say(consumer, json!(claimed.id));
    say(scope, json!(claimed.scopes.join(" ")));
    if let Some(audience) = settings.audience.first() {
        say("aud", json!(audience));
    }
    match &settings.role_claim {
        Some(claim) if !claimed.roles.is_empty() => drop(say(claim, json!(claimed.roles))),
        None if !claimed.roles.is_empty() => {
            return Err(format!("tokens of `{}` have no roles: it has no `role_claim`", settings.name));
        }
        _ => {}
    }
    if let Some(shows) = shows.filter(|_| claimed.bound) {
        say("cnf", json!({"x5t#S256": URL_SAFE_NO_PAD.encode(shows.thumbprint())}));
    }
    for (name, value) in &claimed.claims {
        match value {
            Value::Null => drop(claims.remove(name)),
            value => drop(claims.insert(name.clone(), value.clone())),
        }
    }
    Ok(claims)
}

/// A new key for one of these algorithms: the one that is quickest to make.
fn signer(algorithms: &[Algorithm]) -> Option<Signer> {
    const QUICK: [Algorithm; 6] =
        [Algorithm::EdDSA, Algorithm::ES256, Algorithm::ES384, Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    let quick = QUICK.iter().find(|quick| algorithms.contains(quick));
    let algorithm = *quick.or(algorithms.first())?;
    let (public, key) = match algorithm.family() {
        AlgorithmFamily::Hmac => {
            // RFC 7518 §3.2: as long as the longest hash.
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
