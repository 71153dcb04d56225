//! `token_service`, and the clients of consumers, as written.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::secret::{Secret, secret};
use crate::policy::units::{Period, Rate};

/// The OAuth 2.0 token service for the clients of `consumers`. Needs a `store`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TokenService {
    /// Its issuer identifier (RFC 8414): an https URL without query. Its host is where it answers, at `/oauth/token` and others. Required.
    pub(crate) issuer: Option<String>,
    /// The audiences of its access tokens. Required.
    pub(crate) audience: Vec<String>,
    /// Access tokens.
    pub(crate) access_token: AccessToken,
    /// Refresh tokens. Default: none are given.
    pub(crate) refresh_token: Option<RefreshToken>,
    /// The keys that sign access tokens.
    pub(crate) keys: SigningKeys,
    /// Rate of requests per client address at each endpoint; more are refused with 429. Default: no limit.
    pub(crate) rate: Option<Rate>,
}

/// Access tokens of the token service: JWTs (RFC 9068).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessToken {
    /// How long one is valid, from 1m to 24h.
    #[schemars(extend("default" = "10m"))]
    pub(crate) lifetime: Option<Period>,
    /// How it is signed.
    #[schemars(extend("enum" = ["ES256", "ES384"], "default" = "ES256"))]
    pub(crate) algorithm: Option<String>,
}

/// Refresh tokens of the token service. Each can be used once; the response has the next one. A client can begin 1000 grants at
/// once, and then one a minute on each node; responses beyond that have no refresh token.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RefreshToken {
    /// How long a grant can be refreshed in all.
    #[schemars(extend("default" = "30d"))]
    pub(crate) lifetime: Option<Period>,
    /// How long it can be refreshed after it was last used.
    #[schemars(extend("default" = "7d"))]
    pub(crate) idle: Option<Period>,
    /// How long the token before gives the same response again, for clients that did not get it; at most 5m. Used later, it ends the grant.
    #[schemars(extend("default" = "10s"))]
    pub(crate) grace: Option<Period>,
}

/// The keys that sign access tokens. They are made by the process, and kept in the store.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SigningKeys {
    /// How long a key signs, at least 1h. The next one is published 10m before.
    #[schemars(extend("default" = "30d"))]
    pub(crate) rotate: Option<Period>,
    /// A secret of at least 32 characters that encrypts them in the store, and that refresh tokens are derived from. Required with
    /// Redis; the same on all nodes. Default: a file in the folder of the store.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) seal: Option<SecretString>,
    /// Further seals. What they sealed is opened, and refresh tokens that were derived from them are taken; a new signing key is made
    /// for `seal`. With several nodes, first write the next seal here on all of them, then exchange it with `seal`. Remove the former
    /// one once refresh tokens of its time have expired.
    #[schemars(with = "Vec<String>")]
    pub(crate) seal_before: Vec<Secret>,
}

/// A client of the token service: `id` with `secret_sha256`, `jwks` or `certificate`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Client {
    /// Client id (RFC 6749 §2.2). Two entries of one consumer may have the same, with a secret each. Required.
    pub(crate) id: Option<String>,
    /// SHA-256 digest of the client secret: 64 hexadecimal digits.
    pub(crate) secret_sha256: Option<String>,
    /// JWKS file with the public keys of the client, which signs assertions (`private_key_jwt`, RFC 7523).
    pub(crate) jwks: Option<String>,
    /// Thumbprint of the client's certificate: `sha256:` and 64 hexadecimal digits (RFC 8705). Its tokens are bound to it.
    pub(crate) certificate: Option<String>,
    /// When the secret was created (RFC 3339), for revocations of what was issued before a time.
    pub(crate) created: Option<String>,
    /// When the secret expires (RFC 3339). Default: never.
    pub(crate) expires: Option<String>,
    /// Whether its tokens must be bound to a key by a DPoP proof (RFC 9449).
    #[schemars(extend("default" = false))]
    pub(crate) dpop: Option<bool>,
    /// Issuers under `auth` whose tokens it may exchange for tokens of the token service (RFC 8693). Default: none.
    pub(crate) exchange: Vec<String>,
    /// Whether it may ask about tokens of other clients (RFC 7662).
    #[schemars(extend("default" = false))]
    pub(crate) introspect: Option<bool>,
}
