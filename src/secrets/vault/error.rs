//! Why the vault gave no value, in words for operators.

use http::StatusCode;
use serde_json::Value;

use super::reference::SecretPath;
use crate::egress::{Answer, shown};

/// Most names of fields that a message lists.
const LISTED: usize = 10;

/// Why a request to the vault failed, or a secret is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VaultError {
    /// There is no answer, or not in time.
    Unreachable(String),
    /// It is sealed.
    Sealed,
    /// It answers that another server is to be asked.
    Redirects,
    /// The login may not do this (403).
    Denied,
    /// The login itself was refused, and why.
    Login(String),
    /// There is no such path (404).
    NotFound,
    /// The version was deleted or destroyed.
    Deleted(Option<u64>),
    /// A version was asked for, of an engine without versions.
    NoVersions,
    /// The secret has no such field; those it has.
    NoField(Vec<String>),
    /// The field is empty.
    Empty,
    /// The field is no text, or too long.
    NoText,
    /// The secret was not taken, because another field of it is of no use.
    Incomplete,
    /// A write came too late: somebody else has changed the secret since it was read.
    Changed,
    /// An answer that the vault should not give.
    Unexpected(String),
}

impl VaultError {
    /// What an answer that is no success means.
    pub(super) fn of(answer: &Answer) -> Self {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = body.pointer("/errors/0").and_then(Value::as_str).map(shown).unwrap_or_default();
        match answer.status {
            StatusCode::FORBIDDEN => Self::Denied,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::SERVICE_UNAVAILABLE if said.contains("sealed") => Self::Sealed,
            StatusCode::BAD_REQUEST if said.contains("check-and-set parameter did not match") => Self::Changed,
            status if status.is_redirection() => Self::Redirects,
            status if said.is_empty() => Self::Unexpected(format!("it answers {}", status.as_u16())),
            status => Self::Unexpected(format!("it answers {}: {said}", status.as_u16())),
        }
    }

    /// An answer that was not understood.
    pub(super) fn garbage() -> Self {
        Self::Unexpected("its answer is not one of a vault".to_owned())
    }

    /// What is wrong with a secret.
    pub(crate) fn message(&self, secret: &SecretPath, field: &str) -> String {
        match self {
            Self::Denied => format!("the vault does not let this login read `{secret}` (403)"),
            Self::NotFound => format!("the vault has no secret `{secret}`"),
            Self::Deleted(Some(version)) => format!("version {version} of the secret `{secret}` was deleted"),
            Self::Deleted(None) => format!("the secret `{secret}` was deleted"),
            Self::NoVersions => {
                format!("`{}` is in a key-value engine of version 1, which has no versions", secret.path)
            }
            Self::NoField(_) => format!("the secret `{secret}` has no field `{field}`"),
            Self::Empty => format!("the field `{field}` of the secret `{secret}` is empty"),
            Self::NoText => format!("the field `{field}` of the secret `{secret}` is no text of at most 1 MiB"),
            Self::Incomplete => format!("the secret `{secret}` was not taken, because another field of it is missing"),
            other => format!("`{secret}` could not be read: {}", other.why()),
        }
    }

    /// What is wrong, whatever was asked for.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Unreachable(why) => format!("the vault does not answer: {why}"),
            Self::Sealed => "the vault is sealed".to_owned(),
            Self::Redirects => "the vault answers that another server is to be asked".to_owned(),
            Self::Denied => "the vault does not permit it (403)".to_owned(),
            Self::Login(why) => format!("the login to the vault failed: {why}"),
            Self::NotFound => "the vault has no such path (404)".to_owned(),
            Self::Deleted(_) => "it was deleted".to_owned(),
            Self::NoVersions => "the engine has no versions".to_owned(),
            Self::NoField(_) => "a field is missing".to_owned(),
            Self::Empty => "a field is empty".to_owned(),
            Self::NoText => "a field is no text of at most 1 MiB".to_owned(),
            Self::Incomplete => "another field of it is missing".to_owned(),
            Self::Changed => "somebody else has changed the secret at the same time".to_owned(),
            Self::Unexpected(why) => format!("the vault: {why}"),
        }
    }

    /// What is wrong with writing to a secret, and what to do about it.
    pub(crate) fn write_message(&self, secret: &SecretPath) -> String {
        let (mount, rest) = secret.path.split_once('/').unwrap_or((&secret.path, ""));
        match self {
            Self::Denied => format!(
                "the vault does not let this login read and write `{secret}` (403); give it a policy with `path \
                 \"{mount}/data/{rest}\" {{ capabilities = [\"create\", \"read\", \"update\"] }}`; without `data/` in an engine of \
                 version 1"
            ),
            other => format!("`{secret}` could not be written: {}", other.why()),
        }
    }

    /// What to do about it.
    pub(crate) fn help(&self, secret: &SecretPath) -> Option<String> {
        let (mount, rest) = secret.path.split_once('/').unwrap_or((&secret.path, ""));
        Some(match self {
            Self::Denied => format!(
                "give the login a policy with `path \"{mount}/data/{rest}\" {{ capabilities = [\"read\"] }}`; without `data/` in \
                 an engine of version 1"
            ),
            Self::NotFound => format!("list what there is: `vault kv list {mount}`"),
            Self::Deleted(_) => format!("write it again, or get it back: `vault kv undelete {}`", secret.path),
            Self::NoVersions => "leave out `@VERSION`".to_owned(),
            Self::NoField(names) if names.is_empty() => "the secret is empty".to_owned(),
            Self::NoField(names) => {
                let names: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{}`", shown(name))).collect();
                format!("it has {}", names.join(", "))
            }
            Self::Sealed => "unseal it: `vault operator unseal`".to_owned(),
            Self::Redirects => "write the `address` of the active server, or of what forwards to it".to_owned(),
            Self::Unreachable(_) => "check `secrets.vault.address`, `ca` and `egress`".to_owned(),
            Self::Login(_) => "check `secrets.vault.login`".to_owned(),
            Self::Empty | Self::NoText | Self::Incomplete | Self::Changed | Self::Unexpected(_) => return None,
        })
    }
}
