//! Writes one field of a secret, and leaves the others as they are.
//!
//! An engine with versions takes a write only if the secret is still the one that was read (check and set), so that of two who
//! write at once, one succeeds. An engine without versions has no such thing: the last one counts.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::error::VaultError;
use super::kv::{self, Mount, Raw};
use super::reference::{SecretPath, VaultReference};
use super::session::Session;
use super::settings::KvVersion;
use super::state::Vault;

/// How long reading, and how long writing may take, logins included.
const DEADLINE: Duration = Duration::from_secs(15);

/// A secret as it was when it was read: what is written in its place keeps its other fields.
pub(crate) struct OpenedSecret {
    mount: Mount,
    fields: Map<String, Value>,
    /// The version that is replaced; 0: there is none yet.
    version: u64,
}

impl OpenedSecret {
    /// The value of a field, if it is text.
    pub(crate) fn value(&self, field: &str) -> Option<&str> {
        self.fields.get(field).and_then(Value::as_str).filter(|value| !value.is_empty())
    }
}

impl Vault {
    /// Reads a secret, to change it. One that does not exist, or was deleted, has no fields.
    ///
    /// # Errors
    /// The vault does not give it.
    pub(crate) async fn open_secret(&self, secret: &SecretPath) -> Result<OpenedSecret, VaultError> {
        in_time(self.open(&self.session(), secret)).await
    }

    /// Writes one field of a secret that was read.
    ///
    /// # Errors
    /// The vault does not take it, or somebody else has changed the secret since: [`VaultError::Changed`]. After any other error
    /// it may have been written all the same.
    pub(crate) async fn write_field(
        &self,
        reference: &VaultReference,
        opened: OpenedSecret,
        value: &SecretString,
    ) -> Result<(), VaultError> {
        let OpenedSecret { mount, mut fields, version } = opened;
        fields.insert(reference.field.to_string(), value.expose_secret().into());
        let path = &reference.secret.path;
        let (path, body) = match mount.version {
            KvVersion::One => (path.to_string(), Value::Object(fields)),
            KvVersion::Two => {
                let rest = path.strip_prefix(&*mount.path).unwrap_or_default();
                (format!("{}data/{rest}", mount.path), json!({"options": {"cas": version}, "data": fields}))
            }
        };
        let session = self.session();
        in_time(session.post(&path, &body)).await.map(|_| ())
    }

    async fn open(&self, session: &Session, secret: &SecretPath) -> Result<OpenedSecret, VaultError> {
        let opened =
            |mount: Mount, (fields, version): Raw| OpenedSecret { mount, fields, version: version.unwrap_or_default() };
        if let Some(mount) = kv::mount(session, &self.mounts, secret).await? {
            let read = current(session, secret, &mount).await;
            if read.is_err() {
                // It may have been mounted anew, or upgraded.
                self.mounts.clear();
            }
            return read.map(|read| opened(mount, read));
        }
        // The token may not ask which engine it is: the current API is the more likely one, unless the other has the secret.
        let two = kv::first_segment(secret, KvVersion::Two);
        let read = current(session, secret, &two).await;
        if !matches!(&read, Ok((_, Some(version))) if *version > 0) {
            let one = kv::first_segment(secret, KvVersion::One);
            if let Ok(read) = kv::raw(session, secret, &one).await {
                return Ok(opened(one, read));
            }
        }
        read.map(|read| opened(two, read))
    }
}

/// The fields of a secret and its version; none if there is no secret.
async fn current(session: &Session, secret: &SecretPath, mount: &Mount) -> Result<Raw, VaultError> {
    match kv::raw(session, secret, mount).await {
        Err(VaultError::NotFound) => Ok((Map::new(), None)),
        Err(VaultError::Deleted(version)) => Ok((Map::new(), version)),
        other => other,
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, VaultError>>) -> Result<T, VaultError> {
    let late = |_| VaultError::Unreachable(format!("no answer within {DEADLINE:?}"));
    tokio::time::timeout(DEADLINE, work).await.map_err(late)?
}
