//! What a store keeps: consumers, API keys and clients made at run time, invitations, grants, suspensions, revocations, and
//! the signing keys of the token service. Each is a JSON object under its kind and its id.
//!
//! Data only: [`super`] and authentication decide what they mean for a request.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub(crate) use super::client::{Client, ClientCredential, ClientKey, ClientSecret};
pub(crate) use super::digest::{Digest, hex};
use super::revocation_key::RevocationTarget;
use crate::exchange::CertificateName;
use crate::exchange::networks::Networks;

/// Separates a consumer's name from the id of its grant; no name contains it.
const SEPARATOR: char = '\u{1f}';

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A consumer that the policy file does not list.
    Consumer,
    /// An API key.
    Key,
    /// A client of the token service.
    Client,
    /// Scopes that a consumer has for a limited time.
    Grant,
    /// A consumer whose requests are all refused for a time.
    Suspension,
    /// Credentials that are not accepted any more.
    Revocation,
    /// A key that signs tokens of the token service.
    SigningKey,
    /// A consumer that may claim a credential, once.
    Invitation,
}

impl Kind {
    /// All kinds. Stores are read in this order, so that a key's consumer is loaded before the key.
    pub(crate) const ALL: [Self; 8] = [
        Self::Consumer,
        Self::Key,
        Self::Client,
        Self::Grant,
        Self::Suspension,
        Self::Revocation,
        Self::SigningKey,
        Self::Invitation,
    ];

    /// The name used in stores.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Key => "key",
            Self::Client => "client",
            Self::Grant => "grant",
            Self::Suspension => "suspension",
            Self::Revocation => "revocation",
            Self::SigningKey => "signing_key",
            Self::Invitation => "invitation",
        }
    }

    /// Returns the kind with this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// An external identity that maps to a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Identity {
    /// An identity at an issuer.
    Issuer {
        /// Name of the issuer in the policy.
        issuer: Box<str>,
        /// Value of its `consumer_claim`.
        id: Box<str>,
    },
    /// Thumbprint of a client certificate: SHA-256 of its DER.
    Certificate(#[serde(with = "hex")] Digest),
    /// A name in a client certificate. A wildcard covers the DNS names with one label in its place.
    CertificateSan(CertificateName),
}

/// A consumer created at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Consumer {
    /// Its name.
    pub(crate) name: Box<str>,
    /// Upper bound on the rights of its credentials; absent: no bound.
    pub(crate) roles: Option<Vec<Box<str>>>,
    /// Its plan.
    pub(crate) plan: Option<Box<str>>,
    /// The organization that it belongs to.
    #[serde(default)]
    pub(crate) organization: Option<Box<str>>,
    /// Networks that its credentials are good from; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Networks>,
    /// What is its own: names, and the values of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attributes: BTreeMap<Box<str>, Box<[Box<str>]>>,
    /// External identities that map to this consumer.
    #[serde(default)]
    pub(crate) identities: Vec<Identity>,
    /// Free text for operators.
    pub(crate) note: Option<Box<str>>,
    /// When it was created.
    pub(crate) created: Timestamp,
    /// The operator who created it.
    pub(crate) created_by: Box<str>,
}

/// An API key created at run time. The key itself is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    /// Its id, which is part of the key.
    pub(crate) id: Box<str>,
    /// The consumer that owns the key.
    pub(crate) consumer: Box<str>,
    /// SHA-256 of the key.
    #[serde(with = "hex")]
    pub(crate) sha256: Digest,
    /// Restricts what the consumer's roles allow.
    pub(crate) scopes: Option<Vec<Box<str>>>,
    /// Networks that it is good from, within those of its consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Networks>,
    /// The key is refused before this instant.
    pub(crate) not_before: Option<Timestamp>,
    /// The key is refused from this instant on.
    pub(crate) expires: Option<Timestamp>,
    /// The key that it was rotated to.
    pub(crate) replaced_by: Option<Box<str>>,
    /// Free text for operators.
    pub(crate) note: Option<Box<str>>,
    /// When it was created.
    pub(crate) created: Timestamp,
    /// The operator who created it; `schedule` if none did.
    pub(crate) created_by: Box<str>,
    /// Present: it was made on schedule, for a consumer that reads it from a vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rotation: Option<Rotation>,
    /// An operator has set its end after it was made: its owner cannot replace it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ends_for_good: bool,
}

impl Key {
    /// How long one is kept after its end that was replaced.
    const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
}

/// What a key that is made on schedule has besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rotation {
    /// The id of the rotation in the policy: its keys follow each other.
    pub(crate) of: Box<str>,
    /// Counts the keys of a rotation: of two nodes that make the next key, one succeeds.
    pub(crate) number: u64,
    /// Since when the vault has it; absent: only the process that made it knows it.
    pub(crate) delivered: Option<Timestamp>,
    /// An operator wants the next one at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked: Option<AskedRotation>,
    /// Its end is on record.
    #[serde(default)]
    pub(crate) ended: bool,
}

/// What an operator wants of the next key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskedRotation {
    /// The operator.
    pub(crate) by: Box<str>,
    /// When the keys before end, in place of what the policy says.
    pub(crate) end: Option<Timestamp>,
}

/// Scopes that a consumer has for a time, beyond its roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Its id, among the grants of its consumer.
    pub(crate) id: Box<str>,
    /// The consumer that has the scopes.
    pub(crate) consumer: Box<str>,
    /// The scopes.
    pub(crate) scopes: Vec<Box<str>>,
    /// When it ends.
    pub(crate) until: Timestamp,
    /// Why.
    pub(crate) reason: Option<Box<str>>,
    /// When it was created.
    pub(crate) created: Timestamp,
    /// The operator who created it.
    pub(crate) created_by: Box<str>,
}

/// A consumer whose requests are all refused for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suspension {
    /// The suspended consumer.
    pub(crate) consumer: Box<str>,
    /// When it ends; absent: when an operator lifts it.
    pub(crate) until: Option<Timestamp>,
    /// Why.
    pub(crate) reason: Option<Box<str>>,
    /// When it was created.
    pub(crate) created: Timestamp,
    /// The operator who created it.
    pub(crate) created_by: Box<str>,
}

/// Credentials that are not accepted any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revocation {
    /// What is revoked.
    pub(crate) target: RevocationTarget,
    /// Restricts it to credentials issued before this instant.
    pub(crate) issued_before: Option<Timestamp>,
    /// When it ends, because everything it names has expired; absent: when an operator lifts it.
    pub(crate) expires: Option<Timestamp>,
    /// Why.
    pub(crate) reason: Option<Box<str>>,
    /// When it was created.
    pub(crate) created: Timestamp,
    /// The operator who created it.
    pub(crate) created_by: Box<str>,
}

/// A key that signs tokens of the token service. All nodes sign with the newest that is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SigningKey {
    /// Counts the keys of a store: of two nodes that make the next key, one succeeds.
    pub(crate) number: u64,
    /// Its `kid`: the thumbprint of its public key (RFC 7638).
    pub(crate) kid: Box<str>,
    /// Its algorithm, by the name of RFC 7518.
    pub(crate) algorithm: Box<str>,
    /// The public key, as a JWK (RFC 7517).
    pub(crate) public: serde_json::Value,
    /// The private key, PKCS #8, sealed; in Base64.
    pub(crate) sealed: Box<str>,
    /// Which seal it was sealed with.
    pub(crate) seal: Box<str>,
    /// Tokens are signed with it from this instant on; it is published before.
    pub(crate) active: Timestamp,
    /// Its tokens have all expired by then; absent while it signs.
    pub(crate) until: Option<Timestamp>,
    /// When it was created.
    pub(crate) created: Timestamp,
    /// The operator who created it; `schedule` if none did.
    pub(crate) created_by: Box<str>,
}

impl SigningKey {
    /// Returns whether its tokens may still be accepted.
    pub(crate) fn is_accepted(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A consumer that may claim a credential, once. The code of the invitation is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Invitation {
    /// Its id, which is part of the code.
    pub(crate) id: Box<str>,
    /// The consumer that the credential is for.
    pub(crate) consumer: Box<str>,
    /// The plan of the consumer when it was invited. A claim is refused under another one: the partner was promised this one.
    pub(crate) plan: Option<Box<str>>,
    /// What can be claimed.
    pub(crate) credential: InvitedCredential,
    /// SHA-256 of the code.
    #[serde(with = "hex")]
    pub(crate) sha256: Digest,
    /// Restricts what the consumer's roles allow the credential.
    pub(crate) scopes: Option<Vec<Box<str>>>,
    /// Networks that it can be claimed from, and that the credential is good from, within those of its consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Networks>,
    /// How long the credential is valid after the claim, in seconds; absent: it does not expire.
    pub(crate) lifetime: Option<i64>,
    /// It cannot be claimed from this instant on.
    pub(crate) expires: Timestamp,
    /// Present: it was claimed.
    pub(crate) claimed: Option<Claim>,
    /// Present: an operator has withdrawn it.
    pub(crate) withdrawn: Option<Timestamp>,
    /// Free text for operators.
    pub(crate) note: Option<Box<str>>,
    /// When it was created.
    pub(crate) created: Timestamp,
    /// The operator who created it.
    pub(crate) created_by: Box<str>,
}

/// What an invitation can be claimed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InvitedCredential {
    /// An API key.
    ApiKey,
    /// A client of the token service with a secret that is made for it.
    ClientSecret,
    /// A client of the token service that signs assertions: it sends its public key (RFC 7523).
    PrivateKeyJwt,
    /// A client of the token service that connects with a certificate, which it sends (RFC 8705 §2).
    Certificate,
    /// What a later version has written: it cannot be claimed here, but it can be listed, withdrawn and removed.
    #[serde(untagged)]
    Later(serde_json::Value),
}

impl InvitedCredential {
    /// Whether it is a client of the token service.
    pub(crate) fn is_client(&self) -> bool {
        matches!(self, Self::ClientSecret | Self::PrivateKeyJwt | Self::Certificate)
    }
}

/// How an invitation was claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// When.
    pub(crate) at: Timestamp,
    /// The client's address.
    pub(crate) address: IpAddr,
    /// The id of the credential that was made.
    pub(crate) credential: Box<str>,
}

impl Invitation {
    /// How long it is kept after it can no longer be claimed, so that it can be distinguished from an unknown one, and operators see
    /// what became of it.
    const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

    /// What became of it: `open`, `claimed`, `withdrawn` or `expired`.
    pub(crate) fn state(&self, now: Timestamp) -> &'static str {
        match (&self.claimed, self.withdrawn) {
            (Some(_), _) => "claimed",
            (None, Some(_)) => "withdrawn",
            (None, None) if self.expires <= now => "expired",
            (None, None) => "open",
        }
    }

    /// When it could not be claimed any more, or will not be.
    pub(crate) fn end(&self) -> Timestamp {
        self.claimed.as_ref().map(|claim| claim.at).or(self.withdrawn).unwrap_or(self.expires)
    }
}

/// When a key was last used, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastUse {
    /// When, to the second.
    pub(crate) at: Timestamp,
    /// The client's address.
    pub(crate) address: IpAddr,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// See [`Consumer`].
    Consumer(Consumer),
    /// See [`Key`].
    Key(Key),
    /// See [`Client`].
    Client(Client),
    /// See [`Grant`].
    Grant(Grant),
    /// See [`Suspension`].
    Suspension(Suspension),
    /// See [`Revocation`].
    Revocation(Revocation),
    /// See [`SigningKey`].
    SigningKey(SigningKey),
    /// See [`Invitation`].
    Invitation(Invitation),
}

impl Entry {
    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Consumer(_) => Kind::Consumer,
            Self::Key(_) => Kind::Key,
            Self::Client(_) => Kind::Client,
            Self::Grant(_) => Kind::Grant,
            Self::Suspension(_) => Kind::Suspension,
            Self::Revocation(_) => Kind::Revocation,
            Self::SigningKey(_) => Kind::SigningKey,
            Self::Invitation(_) => Kind::Invitation,
        }
    }

    /// Returns the id it is stored under, unique among its kind.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Consumer(consumer) => consumer.name.to_string(),
            Self::Key(key) => key.id.to_string(),
            Self::Client(client) => client.id.to_string(),
            Self::Grant(grant) => grant_id(&grant.consumer, &grant.id),
            Self::Suspension(suspension) => suspension.consumer.to_string(),
            Self::Revocation(revocation) => revocation.target.id(),
            Self::SigningKey(key) => signing_key_id(key.number),
            Self::Invitation(invitation) => invitation.id.to_string(),
        }
    }

    /// Encodes it as JSON.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let encoded = match self {
            Self::Consumer(entry) => serde_json::to_vec(entry),
            Self::Key(entry) => serde_json::to_vec(entry),
            Self::Client(entry) => serde_json::to_vec(entry),
            Self::Grant(entry) => serde_json::to_vec(entry),
            Self::Suspension(entry) => serde_json::to_vec(entry),
            Self::Revocation(entry) => serde_json::to_vec(entry),
            Self::SigningKey(entry) => serde_json::to_vec(entry),
            Self::Invitation(entry) => serde_json::to_vec(entry),
        };
        // Plain structs with text keys: JSON can represent all of it.
        encoded.unwrap_or_default()
    }

    /// Decodes it from JSON.
    pub(crate) fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Consumer => Self::Consumer(serde_json::from_slice(bytes)?),
            Kind::Key => Self::Key(serde_json::from_slice(bytes)?),
            Kind::Client => Self::Client(serde_json::from_slice(bytes)?),
            Kind::Grant => Self::Grant(serde_json::from_slice(bytes)?),
            Kind::Suspension => Self::Suspension(serde_json::from_slice(bytes)?),
            Kind::Revocation => Self::Revocation(serde_json::from_slice(bytes)?),
            Kind::SigningKey => Self::SigningKey(serde_json::from_slice(bytes)?),
            Kind::Invitation => Self::Invitation(serde_json::from_slice(bytes)?),
        })
    }

    /// Returns whether it has expired.
    pub(crate) fn has_ended(&self, now: Timestamp) -> bool {
        let end = match self {
            Self::Grant(grant) => Some(grant.until),
            Self::Suspension(suspension) => suspension.until,
            Self::Revocation(revocation) => revocation.expires,
            Self::SigningKey(key) => key.until,
            Self::Invitation(invitation) => invitation.expires.checked_add(Invitation::KEPT).ok(),
            // Expired keys are kept, so that they can be distinguished from unknown ones; for a while, if there is a next one.
            Self::Key(Key { replaced_by: Some(_), rotation: None, expires: Some(end), .. }) => {
                end.checked_add(Key::KEPT).ok()
            }
            Self::Client(client) => client.end().and_then(|end| end.checked_add(Client::KEPT).ok()),
            Self::Key(_) | Self::Consumer(_) => None,
        };
        end.is_some_and(|end| end <= now)
    }
}

/// Returns the id a grant is stored under.
pub(crate) fn grant_id(consumer: &str, id: &str) -> String {
    format!("{consumer}{SEPARATOR}{id}")
}

/// Returns the id a signing key is stored under: ids are in the order of numbers.
pub(crate) fn signing_key_id(number: u64) -> String {
    format!("{number:020}")
}

/// One change of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Stores this entry, replacing the one with its id.
    Put(Entry),
    /// Stores this entry; fails if one with its id exists, created on any node.
    Create(Entry),
    /// Stores the second entry in place of the first, which has the same id; fails if another is there, from any node.
    Swap(Box<(Entry, Entry)>),
    /// Removes the entry with this id.
    Remove(Kind, String),
    /// Removes this entry, unless it has been replaced. Stores make it a [`Self::Remove`], or nothing.
    RemoveIf(Entry),
}

/// A suspension without an end, for tests of stores.
#[cfg(test)]
pub(super) fn suspension(consumer: &str, reason: &str) -> Entry {
    Entry::Suspension(Suspension {
        consumer: consumer.into(),
        until: None,
        reason: Some(reason.into()),
        created: Timestamp::UNIX_EPOCH,
        created_by: "admin".into(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_invitation_says_what_became_of_it_and_is_kept_for_a_time() {
        let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let open = Invitation {
            id: "acme-1".into(),
            consumer: "acme".into(),
            plan: None,
            credential: InvitedCredential::ApiKey,
            sha256: Digest::default(),
            scopes: None,
            from: None,
            lifetime: None,
            expires: at(24),
            claimed: None,
            withdrawn: None,
            note: None,
            created: at(0),
            created_by: "admin".into(),
        };
        let claim = Claim { at: at(1), address: Ipv4Addr::LOCALHOST.into(), credential: "acme-2".into() };
        let claimed = Invitation { claimed: Some(claim), ..open.clone() };
        let withdrawn = Invitation { withdrawn: Some(at(1)), ..open.clone() };
        let later = String::from_utf8(Entry::Invitation(open.clone()).encode()).unwrap();
        let later = later.replace("\"api_key\"", "\"passkey\"");
        let later = Entry::decode(Kind::Invitation, later.as_bytes()).unwrap();
        let expected = Invitation { credential: InvitedCredential::Later("passkey".into()), ..open.clone() };
        assert_eq!(later, Entry::Invitation(expected), "a store may be read by an earlier version");
        for (invitation, now, state, ended) in [
            (&open, at(23), "open", false),
            (&open, at(24), "expired", false),
            (&claimed, at(25), "claimed", false),
            (&withdrawn, at(2), "withdrawn", false),
            (&open, at(24 + 30 * 24 - 1), "expired", false),
            (&claimed, at(24 + 30 * 24), "claimed", true),
        ] {
            let entry = Entry::Invitation(invitation.clone());
            assert_eq!((invitation.state(now), entry.has_ended(now)), (state, ended), "{now}");
            assert_eq!(Entry::decode(Kind::Invitation, &entry.encode()).unwrap(), entry);
        }
    }

    #[test]
    fn a_client_of_a_later_version_is_read_and_kept_as_it_is() {
        let text = r#"{"id":"acme-1","consumer":"acme","credential":{"passkey":{"id":7}},"scopes":null,"expires":null,"note":null,"created":"1970-01-01T00:00:00Z","created_by":"admin"}"#;
        let client = Entry::decode(Kind::Client, text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(client.encode()).unwrap(), text);
    }

    /// A store changes and removes what is there only if it is what was read.
    #[test]
    fn an_invitation_of_a_later_version_is_written_as_it_is() {
        let text = r#"{"id":"acme-1","consumer":"acme","plan":null,"credential":"passkey","sha256":"0000000000000000000000000000000000000000000000000000000000000000","scopes":null,"lifetime":null,"expires":"1970-01-01T00:00:00Z","claimed":null,"withdrawn":null,"note":null,"created":"1970-01-01T00:00:00Z","created_by":"admin"}"#;
        let invitation = Entry::decode(Kind::Invitation, text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(invitation.encode()).unwrap(), text);
    }

    #[test]
    fn a_client_is_kept_for_a_time_after_its_last_secret() {
        let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let secret = |expires| ClientSecret { sha256: Digest::default(), created: at(0), expires };
        let client = |secrets| {
            let credential = ClientCredential::Secrets(secrets);
            let (id, consumer, created_by) = ("acme-1".into(), "acme".into(), "admin".into());
            let (scopes, from, issued, note) = (None, None, None, None);
            Client { id, consumer, credential, scopes, from, expires: None, issued, note, created: at(0), created_by }
        };
        let days = 90 * 24;
        for (secrets, now, ended) in [
            (vec![secret(Some(at(1))), secret(Some(at(2)))], at(days + 1), false),
            (vec![secret(Some(at(1))), secret(Some(at(2)))], at(days + 2), true),
            (vec![secret(Some(at(1))), secret(None)], at(days * 9), false),
        ] {
            assert_eq!(Entry::Client(client(secrets)).has_ended(now), ended, "{now}");
        }
    }
}
