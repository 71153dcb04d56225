//! Reads secrets of key-value engines.
//!
//! Which of the two APIs an engine has is asked as the vault's own command line does. A token that may not ask gets by: what the
//! policy says, or else the API with versions and then the one without.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::connection::success;
use super::error::VaultError;
use super::kept::Fetched;
use super::reference::SecretPath;
use super::session::Session;
use super::settings::KvVersion;
use crate::egress::Answer;

/// Where a key-value engine is mounted, and its API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Ends with `/`.
    pub(super) path: Box<str>,
    pub(super) version: KvVersion,
}

/// The mounts that are known.
#[derive(Default)]
pub(super) struct Mounts(Mutex<Vec<Mount>>);

impl Mounts {
    fn of(&self, path: &str) -> Option<Mount> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|mount| path.starts_with(&*mount.path)).cloned()
    }

    fn add(&self, mount: &Mount) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(mount) {
            known.push(mount.clone());
        }
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Reads a secret.
pub(super) async fn read(session: &Session, mounts: &Mounts, secret: &SecretPath) -> Result<Fetched, VaultError> {
    let read = match mount(session, mounts, secret).await? {
        Some(mount) => from(session, secret, &mount).await,
        None => guess(session, secret).await,
    };
    if read.is_err() {
        // It may have been mounted anew, or upgraded.
        mounts.clear();
    }
    read
}

/// Where the engine of a secret is mounted. `None`: the token may not ask.
pub(super) async fn mount(
    session: &Session,
    mounts: &Mounts,
    secret: &SecretPath,
) -> Result<Option<Mount>, VaultError> {
    match mounts.of(&secret.path) {
        Some(mount) => Ok(Some(mount)),
        None => find(session, mounts, secret).await,
    }
}

/// The mount of a secret whose token may not ask: the first segment of the path.
pub(super) fn first_segment(secret: &SecretPath, version: KvVersion) -> Mount {
    let path = secret.path.split_once('/').map(|(mount, _)| format!("{mount}/")).unwrap_or_default();
    Mount { path: path.into(), version }
}

/// Asks where the engine of a secret is mounted. `None`: the token may not ask.
async fn find(session: &Session, mounts: &Mounts, secret: &SecretPath) -> Result<Option<Mount>, VaultError> {
    if let Some(version) = session.settings().kv {
        return Ok(Some(first_segment(secret, version)));
    }
    let answer = session.get(&format!("sys/internal/ui/mounts/{}", secret.path), "").await?;
    if matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
        return Ok(None);
    }
    let answer = success(&answer)?;
    let text = |pointer| answer.pointer(pointer).and_then(Value::as_str);
    let path = text("/data/path").filter(|path| secret.path.starts_with(*path)).ok_or_else(VaultError::garbage)?;
    let version = if text("/data/options/version") == Some("2") { KvVersion::Two } else { KvVersion::One };
    let mount = Mount { path: path.into(), version };
    mounts.add(&mount);
    Ok(Some(mount))
}

/// Tries both APIs, with the first segment of the path as the mount.
async fn guess(session: &Session, secret: &SecretPath) -> Result<Fetched, VaultError> {
    match from(session, secret, &first_segment(secret, KvVersion::Two)).await {
        Err(VaultError::Denied | VaultError::NotFound) if secret.version.is_none() => {}
        other => return other,
    }
    match from(session, secret, &first_segment(secret, KvVersion::One)).await {
        // The current API is the more likely one.
        Err(VaultError::NotFound) => Err(VaultError::Denied),
        other => other,
    }
}

async fn from(session: &Session, secret: &SecretPath, mount: &Mount) -> Result<Fetched, VaultError> {
    let answer = success(&answer(session, secret, mount).await?)?;
    let data = match mount.version {
        KvVersion::One => answer.get("data"),
        KvVersion::Two => answer.pointer("/data/data"),
    };
    let data = data.and_then(Value::as_object).ok_or_else(VaultError::garbage)?;
    let version = answer.pointer("/data/metadata/version").and_then(Value::as_u64);
    Ok(Fetched { fields: fields(data), version: version.filter(|_| mount.version == KvVersion::Two) })
}

/// Asks a known engine for a secret. The answer is a success.
pub(super) async fn answer(session: &Session, secret: &SecretPath, mount: &Mount) -> Result<Answer, VaultError> {
    let rest = secret.path.strip_prefix(&*mount.path).unwrap_or_default();
    let answer = match (mount.version, secret.version) {
        (KvVersion::One, Some(_)) => return Err(VaultError::NoVersions),
        (KvVersion::One, None) => session.get(&secret.path, "").await?,
        (KvVersion::Two, version) => {
            let query = version.map(|version| format!("?version={version}")).unwrap_or_default();
            session.get(&format!("{}data/{rest}", mount.path), &query).await?
        }
    };
    if answer.status.is_success() {
        return Ok(answer);
    }
    if mount.version == KvVersion::Two && answer.status == StatusCode::NOT_FOUND {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if let Some(version) = body.pointer("/data/metadata/version") {
            return Err(VaultError::Deleted(version.as_u64()));
        }
    }
    Err(VaultError::of(&answer))
}

/// The fields that are text or a number.
fn fields(data: &Map<String, Value>) -> BTreeMap<String, Option<SecretString>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(SecretString::from(text.as_str())),
        Value::Number(number) => Some(SecretString::from(number.to_string())),
        _ => None,
    };
    data.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}
