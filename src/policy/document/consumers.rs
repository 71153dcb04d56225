//! `consumers`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::token_service::Client;

/// A consumer: who holds a credential.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Consumer {
    /// Roles that limit what any credential of the consumer may do.
    pub(crate) roles: Option<Vec<String>>,
    /// Plan with the rate limits. Default: none, with a warning.
    pub(crate) plan: Option<String>,
    /// Organization that it belongs to: a plan with `count_by: organization` counts its consumers together.
    pub(crate) organization: Option<String>,
    /// External identities of the consumer.
    pub(crate) identities: Vec<Identity>,
    /// API keys of the consumer, by their digests.
    pub(crate) keys: Vec<Key>,
    /// Clients of the token service that belong to the consumer.
    pub(crate) clients: Vec<Client>,
}

/// An external identity: `issuer` and `id`, `certificate`, or `certificate_san`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Identity {
    /// Name of an issuer or an introspection endpoint under `auth`.
    pub(crate) issuer: Option<String>,
    /// Value of the `consumer_claim` of the issuer.
    pub(crate) id: Option<String>,
    /// Thumbprint of a client certificate: `sha256:` and 64 hexadecimal digits.
    pub(crate) certificate: Option<String>,
    /// Name in a client certificate: `dns:`, `uri:` or `email:` and the name; without a kind, a DNS name. A first label
    /// `*` stands for any one label.
    pub(crate) certificate_san: Option<String>,
}

/// An API key, by its digest.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Key {
    /// Id of the key, for the audit record. Required.
    pub(crate) id: Option<String>,
    /// SHA-256 digest of the key: 64 hexadecimal digits. Required.
    pub sha256: Option<String>,
    /// When the key was created (RFC 3339). Needed for `max_key_age` without `not_before`.
    pub(crate) created: Option<String>,
    /// When the key expires (RFC 3339). Default: never.
    pub(crate) expires: Option<String>,
    /// When the key becomes valid (RFC 3339). Default: at once.
    pub(crate) not_before: Option<String>,
    /// Scopes that narrow what the consumer's roles allow. Default: all of them.
    pub(crate) scopes: Option<Vec<String>>,
}
