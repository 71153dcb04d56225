//! The JSON bodies of operators' requests. They are read strictly; an error names the JSON pointer where it is known.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use crate::exchange::networks::Networks;
use crate::refusal::{Members, Reason, Refusal, Stage, Violation};
use crate::state::registry::entry::{Identity, InvitedCredential, hex};

/// A consumer. In a PATCH, absent members keep their values.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Consumer {
    pub(super) name: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) roles: Member<Vec<Box<str>>>,
    #[serde(deserialize_with = "given")]
    pub(super) plan: Member<Box<str>>,
    #[serde(deserialize_with = "given")]
    pub(super) organization: Member<Box<str>>,
    #[serde(deserialize_with = "given")]
    pub(super) from: Member<Networks>,
    #[serde(deserialize_with = "given")]
    pub(super) attributes: Member<BTreeMap<Box<str>, Vec<Box<str>>>>,
    #[serde(deserialize_with = "given")]
    pub(super) identities: Member<Vec<IdentityInput>>,
    #[serde(deserialize_with = "given")]
    pub(super) note: Member<Box<str>>,
}

/// An external identity.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct IdentityInput {
    issuer: Option<Box<str>>,
    id: Option<Box<str>>,
    certificate: Option<String>,
    certificate_san: Option<Box<str>>,
}

impl IdentityInput {
    pub(super) fn compile(self, pointer: &str) -> Result<Identity, Refusal> {
        match (self.issuer, self.id, self.certificate, self.certificate_san) {
            (Some(issuer), Some(id), None, None) => Ok(Identity::Issuer { issuer, id }),
            (None, None, Some(thumbprint), None) => thumbprint
                .strip_prefix("sha256:")
                .and_then(hex::decode)
                .map(Identity::Certificate)
                .ok_or_else(|| wrong(pointer, "a thumbprint must be `sha256:` and 64 hexadecimal digits")),
            (None, None, None, Some(name)) => {
                name.parse().map(Identity::CertificateSan).map_err(|help: &'static str| wrong(pointer, help))
            }
            _ => Err(wrong(pointer, "use `issuer` and `id`, or `certificate`, or `certificate_san`")),
        }
    }
}

/// An API key.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) scopes: Member<Vec<Box<str>>>,
    #[serde(deserialize_with = "given")]
    pub(super) from: Member<Networks>,
    #[serde(deserialize_with = "given")]
    pub(super) not_before: Member<Moment>,
    #[serde(deserialize_with = "given")]
    pub(super) expires: Member<Moment>,
    #[serde(deserialize_with = "given")]
    pub(super) note: Member<Box<str>>,
    pub(super) sha256: Option<String>,
    /// Accepts scopes that no route or role has.
    pub(super) force: bool,
    /// For a rotation: how long the old key stays valid.
    pub(super) overlap: Option<Moment>,
}

/// An invitation.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Invitation {
    /// What can be claimed; default: an API key.
    pub(super) credential: Option<InvitedCredential>,
    /// Until when it can be claimed; default: 24h.
    pub(super) expires: Option<Moment>,
    /// Narrows what the credential may do.
    pub(super) scopes: Option<Vec<Box<str>>>,
    /// Where it can be claimed, and the credential used; default: where the consumer may.
    pub(super) from: Option<Networks>,
    /// How long the credential is valid after the claim, as a duration; null: it does not expire. Default: 90d; of an API key no longer
    /// than the policy's `max_key_age`.
    #[serde(deserialize_with = "given")]
    pub(super) key_lifetime: Member<String>,
    /// The URL that the partner calls, for the hand-over sheet.
    pub(super) url: Option<String>,
    pub(super) note: Option<Box<str>>,
    /// Accepts scopes that no route or role has.
    pub(super) force: bool,
}

/// A rotation that the schedule makes at once.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ScheduledRotation {
    /// How long the key before stays valid, or until when; default: as the policy says.
    pub(super) overlap: Option<Moment>,
}

/// Temporary scopes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Grant {
    pub(super) scopes: Vec<Box<str>>,
    /// Accepts a consumer and scopes that are not known here.
    pub(super) force: bool,
    pub(super) until: Option<Moment>,
    pub(super) reason: Option<Box<str>>,
}

/// A rotation of the signing keys.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SigningKeyRotation {
    /// The new key signs at once, and the tokens of all others are refused.
    pub(super) now: bool,
    pub(super) reason: Option<Box<str>>,
}

/// The result of a revocation drill.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drill {
    /// Whether every node refused the credential in time, and kept refusing it.
    pub(super) passed: bool,
    /// Number of nodes.
    pub(super) nodes: u32,
    /// How soon they had to refuse it, in milliseconds.
    pub(super) within_ms: u32,
    /// When the last of them did, in milliseconds; absent: one did not.
    #[serde(default)]
    pub(super) refused_after_ms: Option<u32>,
}

/// Taking a server out of use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    /// Its URL, as the policy has it.
    pub(super) server: Box<str>,
    /// One of its addresses; absent: all of them.
    #[serde(default)]
    pub(super) address: Option<SocketAddr>,
    /// False takes it into use again.
    #[serde(default = "yes")]
    pub(super) drained: bool,
    #[serde(default)]
    pub(super) reason: Option<Box<str>>,
}

fn yes() -> bool {
    true
}

/// A suspension.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Suspension {
    /// Accepts a consumer that is not known here.
    pub(super) force: bool,
    pub(super) until: Option<Moment>,
    pub(super) reason: Option<Box<str>>,
}

/// A revocation.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Revocation {
    pub(super) token: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) jti: Option<Box<str>>,
    pub(super) subject: Option<Box<str>>,
    pub(super) consumer: Option<Box<str>>,
    pub(super) key: Option<Box<str>>,
    pub(super) certificate: Option<String>,
    pub(super) issuer: Option<Box<str>>,
    pub(super) all: Option<bool>,
    /// Accepts a key or consumer that is not known here.
    pub(super) force: bool,
    pub(super) issued_before: Option<Moment>,
    /// Accepts an `issued_before` in the future.
    pub(super) allow_future: Option<bool>,
    pub(super) expires: Option<Moment>,
    pub(super) reason: Option<Box<str>>,
}

/// A member that may be absent, null, or present.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Member<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> Member<T> {
    /// Returns the value, or `before` when the member is absent.
    pub(super) fn or(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Absent => before,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }
}

fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Member<T>, D::Error> {
    Option::deserialize(deserializer).map(|value| value.map_or(Member::Null, Member::Value))
}

/// A moment: an RFC 3339 time, or a duration from now such as `90d`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Moment(String);

impl Moment {
    /// Resolves it to a time.
    pub(super) fn at(&self, pointer: &str, now: Timestamp) -> Result<Timestamp, Refusal> {
        if let Ok(at) = self.0.parse() {
            return Ok(at);
        }
        let after = self.0.parse::<crate::policy::Period>().ok();
        let after = after.and_then(|period| SignedDuration::try_from(period.0).ok());
        after
            .and_then(|after| now.checked_add(after).ok())
            .ok_or_else(|| wrong(pointer, "use an RFC 3339 time, or a duration from now such as `90d` or `1h30m`"))
    }
}

/// Reads a body; an empty one is an empty object.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        let reason = if error.is_data() { Reason::SchemaViolation } else { Reason::MalformedBody };
        // Safe to quote: nothing in operators' own input is secret to them except a token, and serde quotes no strings
        // of the right type.
        Refusal::new(Stage::Schema, reason, format!("the body is invalid: {error}"))
    })
}

/// Refuses the request because of an error at this JSON pointer into the body.
pub(super) fn wrong(pointer: &str, detail: impl Into<String>) -> Refusal {
    let violation = Violation::new(pointer, detail.into());
    Refusal::new(Stage::Schema, Reason::SchemaViolation, "the request is invalid; see `errors`")
        .members(Members { errors: vec![violation], ..Members::default() })
}
