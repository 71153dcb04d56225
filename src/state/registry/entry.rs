//! What a store keeps: consumers made at run time, API keys, grants, suspensions, revocations. Each is a JSON object under
//! its kind and its id.
//!
//! Words only: what they mean for a request is decided in [`super`] and by authentication.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use super::digest::{Digest, hex};
use super::revocation_key::Target;

/// Between a consumer's name and the id of one of its grants: no name holds it.
const JOINT: char = '\u{1f}';

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A consumer that the policy file does not list.
    Consumer,
    /// An API key.
    Key,
    /// Scopes that a consumer has for a time.
    Grant,
    /// A consumer that may do nothing for a time.
    Suspension,
    /// Credentials that are not accepted any more.
    Revocation,
}

impl Kind {
    /// All of them; stores are read in this order, so that a key's consumer is there before the key.
    pub(crate) const ALL: [Self; 5] = [Self::Consumer, Self::Key, Self::Grant, Self::Suspension, Self::Revocation];

    /// As stores name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Key => "key",
            Self::Grant => "grant",
            Self::Suspension => "suspension",
            Self::Revocation => "revocation",
        }
    }

    /// The kind of a name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// An outside identity that is a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Identity {
    /// What an issuer calls it.
    Issuer {
        /// Name of the issuer in the policy.
        issuer: Box<str>,
        /// Value of its `consumer_claim`.
        id: Box<str>,
    },
    /// Thumbprint of a client certificate: SHA-256 of its DER.
    Certificate(#[serde(with = "hex")] Digest),
    /// A name in a client certificate (DNS name, URI or email address of its subjectAltName).
    CertificateSan(Box<str>),
}

/// A consumer made at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Consumer {
    /// Its name.
    pub(crate) name: Box<str>,
    /// Ceiling of what any credential of it can do; absent: no ceiling.
    pub(crate) roles: Option<Vec<Box<str>>>,
    /// Its plan.
    pub(crate) plan: Option<Box<str>>,
    /// Which outside identities are this consumer.
    #[serde(default)]
    pub(crate) identities: Vec<Identity>,
    /// For people.
    pub(crate) note: Option<Box<str>>,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// Who made it.
    pub(crate) created_by: Box<str>,
}

/// An API key made at run time; the key itself is kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    /// Its id, which is part of the key.
    pub(crate) id: Box<str>,
    /// Whose it is.
    pub(crate) consumer: Box<str>,
    /// SHA-256 of the key.
    #[serde(with = "hex")]
    pub(crate) sha256: Digest,
    /// Narrows what the consumer's roles allow.
    pub(crate) scopes: Option<Vec<Box<str>>>,
    /// Before then it is refused.
    pub(crate) not_before: Option<Timestamp>,
    /// From then on it is refused.
    pub(crate) expires: Option<Timestamp>,
    /// The key that it was rotated to.
    pub(crate) replaced_by: Option<Box<str>>,
    /// For people.
    pub(crate) note: Option<Box<str>>,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// Who made it.
    pub(crate) created_by: Box<str>,
}

/// Scopes that a consumer has for a time, beyond its roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Its id, among the grants of its consumer.
    pub(crate) id: Box<str>,
    /// Who has them.
    pub(crate) consumer: Box<str>,
    /// The scopes.
    pub(crate) scopes: Vec<Box<str>>,
    /// When it ends.
    pub(crate) until: Timestamp,
    /// Why.
    pub(crate) reason: Option<Box<str>>,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// Who made it.
    pub(crate) created_by: Box<str>,
}

/// A consumer that may do nothing for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suspension {
    /// Who.
    pub(crate) consumer: Box<str>,
    /// When it ends; absent: when it is taken back.
    pub(crate) until: Option<Timestamp>,
    /// Why.
    pub(crate) reason: Option<Box<str>>,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// Who made it.
    pub(crate) created_by: Box<str>,
}

/// Credentials that are not accepted any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revocation {
    /// Which.
    pub(crate) target: Target,
    /// Only those issued before then.
    pub(crate) issued_before: Option<Timestamp>,
    /// When it ends, everything it names having ended by itself; absent: when it is taken back.
    pub(crate) expires: Option<Timestamp>,
    /// Why.
    pub(crate) reason: Option<Box<str>>,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// Who made it.
    pub(crate) created_by: Box<str>,
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
    /// See [`Grant`].
    Grant(Grant),
    /// See [`Suspension`].
    Suspension(Suspension),
    /// See [`Revocation`].
    Revocation(Revocation),
}

impl Entry {
    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Consumer(_) => Kind::Consumer,
            Self::Key(_) => Kind::Key,
            Self::Grant(_) => Kind::Grant,
            Self::Suspension(_) => Kind::Suspension,
            Self::Revocation(_) => Kind::Revocation,
        }
    }

    /// What it is kept under, among its kind.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Consumer(consumer) => consumer.name.to_string(),
            Self::Key(key) => key.id.to_string(),
            Self::Grant(grant) => grant_id(&grant.consumer, &grant.id),
            Self::Suspension(suspension) => suspension.consumer.to_string(),
            Self::Revocation(revocation) => revocation.target.id(),
        }
    }

    /// As JSON.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let encoded = match self {
            Self::Consumer(entry) => serde_json::to_vec(entry),
            Self::Key(entry) => serde_json::to_vec(entry),
            Self::Grant(entry) => serde_json::to_vec(entry),
            Self::Suspension(entry) => serde_json::to_vec(entry),
            Self::Revocation(entry) => serde_json::to_vec(entry),
        };
        // Plain structs with text keys: there is nothing in them that JSON cannot hold.
        encoded.unwrap_or_default()
    }

    /// From JSON. The error says what is wrong.
    pub(crate) fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Consumer => Self::Consumer(serde_json::from_slice(bytes)?),
            Kind::Key => Self::Key(serde_json::from_slice(bytes)?),
            Kind::Grant => Self::Grant(serde_json::from_slice(bytes)?),
            Kind::Suspension => Self::Suspension(serde_json::from_slice(bytes)?),
            Kind::Revocation => Self::Revocation(serde_json::from_slice(bytes)?),
        })
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self, now: Timestamp) -> bool {
        let end = match self {
            Self::Grant(grant) => Some(grant.until),
            Self::Suspension(suspension) => suspension.until,
            Self::Revocation(revocation) => revocation.expires,
            // An expired key is told apart from one that never was.
            Self::Key(_) | Self::Consumer(_) => None,
        };
        end.is_some_and(|end| end <= now)
    }
}

/// What a grant is kept under.
pub(crate) fn grant_id(consumer: &str, id: &str) -> String {
    format!("{consumer}{JOINT}{id}")
}

/// One change of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Keep this entry, in place of the one with its id.
    Put(Entry),
    /// Keep this entry; there must be none with its id, on whatever node it was made.
    Create(Entry),
    /// Forget the entry with this id.
    Remove(Kind, String),
}
