//! `consumers`, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::Deserializer;

use super::one_or_list;
use super::token_service::Client;
use crate::policy::units::Period;

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
    /// Networks that its credentials are good from, all kinds of them, such as `203.0.113.0/24`. Default: any.
    pub(crate) from: Option<Vec<String>>,
    /// What is the consumer's, for `where` of routes: a name, and a value or a list of values.
    pub(crate) attributes: BTreeMap<String, AttributeValues>,
    /// External identities of the consumer.
    pub(crate) identities: Vec<Identity>,
    /// API keys of the consumer: by their digests, or made on schedule.
    pub(crate) keys: Vec<Key>,
    /// Clients of the token service that belong to the consumer. More are made when invitations are claimed.
    pub(crate) clients: Vec<Client>,
}

/// The value of an attribute, or a list of values.
#[derive(Debug)]
pub(crate) struct AttributeValues(pub(crate) Vec<String>);

/// An external identity: `issuer` and `id`, `certificate`, or `certificate_san`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Identity {
    /// Name of an issuer or an introspection endpoint under `auth`.
    pub(crate) issuer: Option<String>,
    /// Value of the `consumer_claim` of the issuer; after `TENANT/` if it has `tenants`.
    pub(crate) id: Option<String>,
    /// Thumbprint of a client certificate: `sha256:` and 64 hexadecimal digits.
    pub(crate) certificate: Option<String>,
    /// Name in a client certificate: `dns:`, `uri:` or `email:` and the name; without a kind, a DNS name. A first label
    /// `*` stands for any one label.
    pub(crate) certificate_san: Option<String>,
}

/// An API key: `sha256`, its digest; or `rotate`, and it is made here and delivered to a vault.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Key {
    /// Id of the key, for the audit record; keys that rotate are numbered: `ID-1`, `ID-2`. Required.
    pub(crate) id: Option<String>,
    /// SHA-256 digest of the key: 64 hexadecimal digits. Required without `rotate`.
    pub sha256: Option<String>,
    /// When the key was created (RFC 3339). Needed for `max_key_age` without `not_before`.
    pub(crate) created: Option<String>,
    /// When the key expires (RFC 3339). Default: never.
    pub(crate) expires: Option<String>,
    /// When the key becomes valid (RFC 3339). Default: at once.
    pub(crate) not_before: Option<String>,
    /// Scopes that narrow what the consumer's roles allow. Default: all of them.
    pub(crate) scopes: Option<Vec<String>>,
    /// Networks that the key is good from, within those of the consumer. Default: these.
    pub(crate) from: Option<Vec<String>>,
    /// Keys are made here on schedule, and written to the vault, where the consumer reads them. Needs `secrets.vault` and `store`.
    pub(crate) rotate: Option<KeyRotation>,
}

/// How the keys of a consumer are rotated. The first one is made at once.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeyRotation {
    /// How long after a key the next one is made: 1h to 400d. Required.
    pub(crate) every: Option<Period>,
    /// How long the key before is accepted once the next one is in the vault: at least 1m, and less than `every`. The consumer has to
    /// read the vault more often.
    #[schemars(extend("default" = "7d"))]
    pub(crate) overlap: Option<Period>,
    /// Where the consumer reads its key: `vault:MOUNT/PATH#FIELD`. Other fields of the secret stay as they are. Required.
    pub(crate) deliver: Option<String>,
}

impl<'de> Deserialize<'de> for AttributeValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_list::read(deserializer, "a value such as `t-17`, or a list of values").map(Self)
    }
}
