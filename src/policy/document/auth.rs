//! `auth`, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::Deserializer;

use super::one_or_list;
use super::secret::secret;
use crate::policy::units::{Period, Rate};

/// How callers are authenticated.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Auth {
    /// Issuers of JWTs, by name.
    pub(crate) issuers: BTreeMap<String, Issuer>,
    /// Introspection endpoints (RFC 7662), by name, for tokens that are not a JWT of an issuer above.
    pub(crate) introspection: BTreeMap<String, Introspection>,
    /// Tokens of issuers and introspection endpoints.
    pub(crate) tokens: Tokens,
    /// API keys.
    pub(crate) api_keys: ApiKeys,
    /// DPoP proofs (RFC 9449), for tokens that are bound to a key.
    pub(crate) dpop: Dpop,
    /// Rate of invalid credentials per client address; more is refused with 429. Default: no limit.
    pub(crate) failed_attempts: Option<Rate>,
}

/// A claim name or JSON pointer, or a list of them.
#[derive(Debug)]
pub(crate) struct ClaimNames(pub(crate) Vec<String>);

/// A value that a claim must have, or a list of them.
#[derive(Debug)]
pub(crate) struct RequiredValues(pub(crate) Vec<String>);

/// An introspection endpoint (RFC 7662).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Introspection {
    /// URL of the endpoint. Required.
    pub(crate) endpoint: Option<String>,
    /// Client id of this proxy at the endpoint. Required.
    pub(crate) client_id: Option<String>,
    /// How this proxy authenticates to the endpoint.
    #[schemars(extend("enum" = ["basic", "post", "private_key_jwt"], "default" = "basic"))]
    pub(crate) client_auth: Option<String>,
    /// Client secret. Required for `basic` and `post`.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) client_secret: Option<SecretString>,
    /// PEM file of the private key, or a reference to the PEM itself. Required for `private_key_jwt`.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) private_key: Option<SecretString>,
    /// Id (`kid`) of the private key at the endpoint.
    pub(crate) key_id: Option<String>,
    /// Signature algorithm of the private key.
    #[schemars(extend("default" = "RS256"))]
    pub(crate) algorithm: Option<String>,
    /// PEM file of the authorities that issue the endpoint's certificate. Default: the system's.
    pub(crate) ca: Option<String>,
    /// Accepted audiences, of which `aud` must contain one. Default: any.
    pub(crate) audience: Vec<String>,
    /// How long an active response is cached.
    #[schemars(extend("default" = "10s"))]
    pub(crate) cache: Option<Period>,
    /// Most introspections at once, from 1 to 65535; more are refused with 503.
    #[schemars(extend("default" = 64))]
    pub(crate) concurrent: Option<u16>,
    /// Claim that identifies the consumer, or a list of claims. Default: the first of `client_id`, `azp`, `sub`.
    pub(crate) consumer_claim: Option<ClaimNames>,
    /// Claim that identifies the user that the consumer acts for, or a list of claims. Default: `sub`; equal to the consumer: none.
    pub(crate) user_claim: Option<ClaimNames>,
    /// Claim that holds the scopes, or a list of claims. Default: `scope`, otherwise `scp`.
    pub(crate) scope_claim: Option<ClaimNames>,
    /// Claim that holds names of roles, or a list of claims. Default: none.
    pub(crate) role_claim: Option<ClaimNames>,
    /// What a token grants: the scopes of either claim, or those that both have; a token that lacks one of them then grants
    /// nothing. Required with `role_claim`.
    #[schemars(extend("enum" = ["union", "intersect"]))]
    pub(crate) scopes_and_roles: Option<String>,
    /// Attributes for `where` of routes, each with the claim that holds it, or with a list of claims: text, a whole number, or a
    /// list of these. A token without the claim has no value, even if its consumer has one; with both, the value must be in both.
    pub(crate) attributes: BTreeMap<String, ClaimNames>,
    /// Headers in which the upstream gets claims, each with a claim or a list of claims: text, a whole number, `true`, `false`, or a list of
    /// these, separated by commas; all but visible ASCII, and `%` and `,`, is percent-encoded. Another value, or more than 4 KiB, refuses
    /// the token; a token without the claim forwards none. These headers of callers are dropped, whatever their credential. Default: none.
    pub(crate) forward_claims: BTreeMap<String, ClaimNames>,
    /// Plan of callers that are not listed under `consumers`. Default: they are refused.
    pub(crate) default_plan: Option<String>,
}

/// DPoP proofs (RFC 9449).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Dpop {
    /// How long a proof is valid, at most 10m. Proofs are remembered this long, at most 32768 per key.
    #[schemars(extend("default" = "60s"))]
    pub(crate) max_age: Option<Period>,
    /// Whether proofs must contain a nonce of this server.
    #[schemars(extend("default" = false))]
    pub(crate) nonce: Option<bool>,
    /// Accepted signature algorithms.
    #[schemars(extend("default" = ["ES256", "ES384", "EdDSA", "PS256", "RS256"]))]
    pub(crate) algorithms: Option<Vec<String>>,
}

/// An issuer of JWTs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Issuer {
    /// Exact value of the `iss` claim. `{tid}` in it stands for each of `tenants`. Required.
    pub(crate) issuer: Option<String>,
    /// Values of the claim in braces, which a token must have, too: its `iss` and the claim name the same tenant. Its consumers are
    /// `TENANT/ID`. Without `jwks`, each tenant's keys are discovered. Required with braces in `issuer`.
    pub(crate) tenants: Option<Vec<String>>,
    /// Accepted audiences, of which `audience_claim` must contain one. Required.
    pub(crate) audience: Vec<String>,
    /// Claim that holds the audience, or a list of claims. Default: `aud`.
    pub(crate) audience_claim: Option<ClaimNames>,
    /// Claims that tokens must have, each with a value or a list of values: text, a whole number, `true` or `false`. A claim that is a
    /// list must have one of them. Default: none.
    pub(crate) require: BTreeMap<String, RequiredValues>,
    /// URL or file of a JWKS. Without `jwks`, `public_key` and `secret`, the keys are discovered from the metadata.
    pub(crate) jwks: Option<String>,
    /// PEM file of the issuer's public key.
    pub(crate) public_key: Option<String>,
    /// How long keys are used after they were last fetched, if the issuer is not available.
    #[schemars(extend("default" = "24h"))]
    pub(crate) stale_for: Option<Period>,
    /// PEM file of the authorities that issue the certificates of its metadata and `jwks`. Default: the system's.
    pub(crate) ca: Option<String>,
    /// Shared secret instead of public keys, only for HS256, HS384 and HS512.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) secret: Option<SecretString>,
    /// Accepted values of the `alg` header, such as `RS256` or `ES256`. Required.
    pub(crate) algorithms: Vec<String>,
    /// `at+jwt` accepts only tokens of this `typ` (RFC 9068). Default: `at+jwt`, `JWT` or none.
    #[serde(rename = "type")]
    pub(crate) token_type: Option<String>,
    /// Longest accepted lifetime (`exp` minus `iat`). Default: no limit.
    pub(crate) max_lifetime: Option<Period>,
    /// Tolerated clock difference, at most 5m.
    #[schemars(extend("default" = "30s"))]
    pub(crate) clock_skew: Option<Period>,
    /// Claim that identifies the consumer, or a list of claims. Default: the first of `client_id`, `azp`, `sub`.
    pub(crate) consumer_claim: Option<ClaimNames>,
    /// Claim that identifies the user that the consumer acts for, or a list of claims. Default: `sub`; equal to the consumer: none.
    pub(crate) user_claim: Option<ClaimNames>,
    /// Claim that holds the scopes, or a list of claims. Default: `scope`, otherwise `scp`.
    pub(crate) scope_claim: Option<ClaimNames>,
    /// Claim that holds names of roles, or a list of claims. Default: none.
    pub(crate) role_claim: Option<ClaimNames>,
    /// What a token grants: the scopes of either claim, or those that both have; a token that lacks one of them then grants
    /// nothing. Required with `role_claim`.
    #[schemars(extend("enum" = ["union", "intersect"]))]
    pub(crate) scopes_and_roles: Option<String>,
    /// Attributes for `where` of routes, each with the claim that holds it, or with a list of claims: text, a whole number, or a
    /// list of these. A token without the claim has no value, even if its consumer has one; with both, the value must be in both.
    pub(crate) attributes: BTreeMap<String, ClaimNames>,
    /// Headers in which the upstream gets claims, each with a claim or a list of claims: text, a whole number, `true`, `false`, or a list of
    /// these, separated by commas; all but visible ASCII, and `%` and `,`, is percent-encoded. Another value, or more than 4 KiB, refuses
    /// the token; a token without the claim forwards none. These headers of callers are dropped, whatever their credential. Default: none.
    pub(crate) forward_claims: BTreeMap<String, ClaimNames>,
    /// Plan of callers that are not listed under `consumers`. Default: they are refused.
    pub(crate) default_plan: Option<String>,
}

/// Tokens of issuers and introspection endpoints.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tokens {
    /// Where requests carry tokens. Two in one request are refused. A token in a cookie is taken from requests that may change
    /// something only if `Sec-Fetch-Site` or `Origin` says that a page of this origin sent them, or one that `cors` allows with
    /// `credentials`.
    #[schemars(extend("default" = ["authorization"]))]
    pub(crate) from: Option<Vec<TokenLocation>>,
}

/// A place of a token in a request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenLocation {
    /// `Authorization: Bearer …`, or `DPoP …`.
    Authorization,
    /// The cookie with this name.
    Cookie(String),
    /// This header, with the token alone.
    Header(String),
}

/// API keys. They are in one place of requests: `header`, `authorization` or `query`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ApiKeys {
    /// Header that carries the key.
    #[schemars(extend("default" = "x-api-key"))]
    pub(crate) header: Option<String>,
    /// Scheme that the key follows in `Authorization`, such as `ApiKey`.
    pub(crate) authorization: Option<String>,
    /// Query parameter that carries the key. It ends in the logs of others.
    pub(crate) query: Option<String>,
    /// Longest lifetime of a key, since `created` or `not_before`. Default: no limit.
    pub(crate) max_key_age: Option<Period>,
}

impl<'de> Deserialize<'de> for ClaimNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_list::read(deserializer, "a claim such as `sub` or `/realm_access/roles`, or a list of claims").map(Self)
    }
}

impl<'de> Deserialize<'de> for RequiredValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_list::read(deserializer, "a value such as `access` or `true`, or a list of values").map(Self)
    }
}
