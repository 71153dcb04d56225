//! Who callers are, as written: the types of `auth` and `consumers`.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::secret;
use crate::policy::units::{Period, Rate};

/// How callers are authenticated.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Auth {
    /// Name → issuer of JWTs.
    pub(crate) issuers: BTreeMap<String, Issuer>,
    /// Name → introspection endpoint.
    pub(crate) introspection: BTreeMap<String, Introspection>,
    /// API keys.
    pub(crate) api_keys: ApiKeys,
    /// Proofs of possession.
    pub(crate) dpop: Dpop,
    /// Failed attempts per client address.
    pub(crate) failed_attempts: Option<Rate>,
}

/// A claim name or JSON pointer, or a list of them.
#[derive(Debug)]
pub(crate) struct ClaimNames(pub(crate) Vec<String>);

/// An introspection endpoint (RFC 7662).
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Introspection {
    /// Its URL.
    pub(crate) endpoint: Option<String>,
    /// Client ID of the proxy.
    pub(crate) client_id: Option<String>,
    /// `basic`, `post` or `private_key_jwt`.
    pub(crate) client_auth: Option<String>,
    /// For `basic` and `post`.
    #[serde(deserialize_with = "secret")]
    pub(crate) client_secret: Option<SecretString>,
    /// For `private_key_jwt`: a PEM file, or (through a reference) the PEM itself.
    #[serde(deserialize_with = "secret")]
    pub(crate) private_key: Option<SecretString>,
    /// Name of that key, for the endpoint.
    pub(crate) key_id: Option<String>,
    /// The algorithm that signs assertions.
    pub(crate) algorithm: Option<String>,
    /// PEM file of the authorities that vouch for the endpoint; default: the system's.
    pub(crate) ca: Option<String>,
    /// One of them must be in `aud`.
    pub(crate) audience: Vec<String>,
    /// How long an active response is cached.
    pub(crate) cache: Option<Period>,
    /// Name the consumer.
    pub(crate) consumer_claim: Option<ClaimNames>,
    /// Hold the scopes.
    pub(crate) scope_claim: Option<ClaimNames>,
    /// Hold role names.
    pub(crate) role_claim: Option<ClaimNames>,
    /// Plan of callers not listed under `consumers`.
    pub(crate) default_plan: Option<String>,
}

/// Proofs of possession (RFC 9449).
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Dpop {
    /// How long a proof is valid.
    pub(crate) max_age: Option<Period>,
    /// Whether proofs must contain a nonce of this proxy.
    pub(crate) nonce: Option<bool>,
    /// Accepted algorithms of proofs.
    pub(crate) algorithms: Option<Vec<String>>,
}

/// An issuer of JWTs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Issuer {
    /// Exact value of `iss`.
    pub(crate) issuer: Option<String>,
    /// One of them must be in `aud`.
    pub(crate) audience: Vec<String>,
    /// URL or file of a JWKS. Without this, `public_key` and `secret`, the keys are discovered.
    pub(crate) jwks: Option<String>,
    /// PEM file.
    pub(crate) public_key: Option<String>,
    /// How long keys that cannot be fetched again are still used.
    pub(crate) stale_for: Option<Period>,
    /// PEM file of the authorities that vouch for the URLs of its metadata and keys; default: the system's.
    pub(crate) ca: Option<String>,
    /// Shared secret, for HS* only.
    #[serde(deserialize_with = "secret")]
    pub(crate) secret: Option<SecretString>,
    /// Accepted `alg` values.
    pub(crate) algorithms: Vec<String>,
    /// `at+jwt`: the only accepted `typ`.
    #[serde(rename = "type")]
    pub(crate) token_type: Option<String>,
    /// Longest accepted `exp - iat`.
    pub(crate) max_lifetime: Option<Period>,
    /// Tolerated clock skew.
    pub(crate) clock_skew: Option<Period>,
    /// Name the consumer.
    pub(crate) consumer_claim: Option<ClaimNames>,
    /// Hold the scopes.
    pub(crate) scope_claim: Option<ClaimNames>,
    /// Hold role names.
    pub(crate) role_claim: Option<ClaimNames>,
    /// Plan of callers not listed under `consumers`.
    pub(crate) default_plan: Option<String>,
}

/// API keys.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ApiKeys {
    /// Header that carries them.
    pub(crate) header: Option<String>,
    /// Longest lifetime of a key.
    pub(crate) max_key_age: Option<Period>,
}

/// A consumer.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Consumer {
    /// Ceiling of what any credential of this consumer can do.
    pub(crate) roles: Option<Vec<String>>,
    /// Its plan.
    pub(crate) plan: Option<String>,
    /// External identities of this consumer.
    pub(crate) identities: Vec<Identity>,
    /// Its API keys, by digest.
    pub(crate) keys: Vec<Key>,
}

/// An external identity.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Identity {
    /// Name of an issuer or an introspection endpoint under `auth`.
    pub(crate) issuer: Option<String>,
    /// Value of the issuer's `consumer_claim`.
    pub(crate) id: Option<String>,
    /// Thumbprint of a client certificate: `sha256:` and 64 hexadecimal digits.
    pub(crate) certificate: Option<String>,
    /// A name in a client certificate.
    pub(crate) certificate_san: Option<String>,
}

/// An API key, by digest.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Key {
    /// Name of the key, for the record.
    pub(crate) id: Option<String>,
    /// SHA-256 of the key, 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// RFC 3339 time at which it was made.
    pub(crate) created: Option<String>,
    /// RFC 3339 time from which it is refused.
    pub(crate) expires: Option<String>,
    /// RFC 3339 time before which it is refused.
    pub(crate) not_before: Option<String>,
    /// Narrows what the consumer's roles allow.
    pub(crate) scopes: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for ClaimNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrList;
        impl<'de> Visitor<'de> for OneOrList {
            type Value = ClaimNames;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a claim such as `sub` or `/realm_access/roles`, or a list of claims")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<ClaimNames, E> {
                Ok(ClaimNames(vec![name.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<ClaimNames, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq)).map(ClaimNames)
            }
        }
        deserializer.deserialize_any(OneOrList)
    }
}
