//! Clients of the token service that were made at run time, by claiming an invitation.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::digest::{Digest, hex};
use crate::exchange::networks::Networks;

/// A client that the policy file does not list. Nothing secret is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    /// Its id.
    pub(crate) id: Box<str>,
    /// The consumer that owns it.
    pub(crate) consumer: Box<str>,
    /// What it proves its identity by.
    pub(crate) credential: ClientCredential,
    /// Restricts what the consumer's roles allow.
    pub(crate) scopes: Option<Vec<Box<str>>>,
    /// Networks that it and its tokens are good from, within those of its consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Networks>,
    /// The client is refused from this instant on. Absent: it does not expire, or each of its secrets expires by itself.
    pub(crate) expires: Option<Timestamp>,
    /// When its certificate was issued (`notBefore`); absent: it has none, or was made before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issued: Option<Timestamp>,
    /// Free text for operators.
    pub(crate) note: Option<Box<str>>,
    /// When it was created.
    pub(crate) created: Timestamp,
    /// Who created it.
    pub(crate) created_by: Box<str>,
}

impl Client {
    /// How long one is kept after its end, so that it can be distinguished from an unknown one.
    pub(super) const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

    /// When it ends, if it does: at its own end, or with the last of its secrets.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        let of_secrets = match &self.credential {
            ClientCredential::Secrets(secrets) => {
                let ends: Option<Vec<_>> = secrets.iter().map(|secret| secret.expires).collect();
                ends.and_then(|ends| ends.into_iter().max())
            }
            _ => None,
        };
        self.expires.or(of_secrets)
    }
}

/// What a client proves its identity by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientCredential {
    /// Secrets, the newest last, of which two are good at most: those that were replaced are remembered for a time.
    Secrets(Vec<ClientSecret>),
    /// The public key of the assertions that it signs.
    Key(ClientKey),
    /// Thumbprint of its certificate: SHA-256 of its DER.
    Certificate(#[serde(with = "hex")] Digest),
    /// What a later version has written. Here, nobody can authenticate as the client, but it can be listed, revoked and removed.
    #[serde(untagged)]
    Later(serde_json::Value),
}

/// A secret of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientSecret {
    /// SHA-256 of the secret.
    #[serde(with = "hex")]
    pub(crate) sha256: Digest,
    /// When it was created.
    pub(crate) created: Timestamp,
    /// It is refused from this instant on.
    pub(crate) expires: Option<Timestamp>,
}

/// The public key of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientKey {
    /// The key, as a JWK (RFC 7517) without private members.
    pub(crate) jwk: serde_json::Value,
    /// Its thumbprint (RFC 7638), in base64url.
    pub(crate) thumbprint: Box<str>,
}
