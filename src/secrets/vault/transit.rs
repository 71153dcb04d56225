//! Keys of the transit engine, which sign without leaving the vault.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::connection::success;
use super::error::VaultError;
use super::session::Session;
use super::state::Vault;
use super::transit_name::{KeyVersion, TransitName};
use super::vaults::blocking;

/// How long a signature may take: nothing is sealed meanwhile.
const DEADLINE: Duration = Duration::from_secs(2);

/// One version of an Ed25519 key.
#[derive(Clone)]
pub(crate) struct TransitKey {
    vault: Arc<Vault>,
    name: TransitName,
    version: KeyVersion,
}

impl fmt::Debug for TransitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransitKey({}, version {})", self.name, self.version.number)
    }
}

impl TransitKey {
    /// The latest version of a key; while the vault does not answer, the last one that is known.
    pub(crate) fn new(vault: &Arc<Vault>, name: &TransitName) -> Result<Self, String> {
        let asked = blocking(Self::latest(vault, name)).and_then(|asked| asked.map_err(|error| error.why()));
        let version = asked.or_else(|why| vault.known_version(name).ok_or(why))?;
        vault.remember_version(name, &version);
        Ok(Self { vault: Arc::clone(vault), name: name.clone(), version })
    }

    /// Notes that a key has another version than the one in use.
    pub(crate) async fn look_for_another(vault: &Vault, name: &TransitName) {
        if let Ok(latest) = Self::latest(vault, name).await {
            vault.remember_version(name, &latest);
        }
    }

    /// The public key in Base64, 32 bytes.
    pub(crate) fn public(&self) -> &str {
        &self.version.public
    }

    async fn latest(vault: &Vault, name: &TransitName) -> Result<KeyVersion, VaultError> {
        let session = vault.session();
        let answer = success(&session.get(&format!("{}/keys/{}", name.mount, name.key), "").await?)?;
        if answer.pointer("/data/type").and_then(Value::as_str) != Some("ed25519") {
            return Err(VaultError::Unexpected("the key is not of the type `ed25519`".to_owned()));
        }
        let number = answer.pointer("/data/latest_version").and_then(Value::as_u64).ok_or_else(VaultError::garbage)?;
        let public = answer.pointer(&format!("/data/keys/{number}/public_key")).and_then(Value::as_str);
        let public = public.ok_or_else(VaultError::garbage)?.into();
        Ok(KeyVersion { number, public })
    }

    /// Lets the vault sign a message with this version. Waits for it, but not long.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let work = async {
            let late = |_| VaultError::Unreachable(format!("no signature within {DEADLINE:?}"));
            tokio::time::timeout(DEADLINE, self.signature(&self.vault.session(), message)).await.map_err(late)?
        };
        blocking(work)?.map_err(|error| error.why())
    }

    async fn signature(&self, session: &Session, message: &[u8]) -> Result<Vec<u8>, VaultError> {
        let body = json!({"input": STANDARD.encode(message), "key_version": self.version.number});
        let answer = session.post(&format!("{}/sign/{}", self.name.mount, self.name.key), &body).await?;
        let text = answer.pointer("/data/signature").and_then(Value::as_str).and_then(|text| text.rsplit(':').next());
        text.and_then(|text| STANDARD.decode(text).ok()).ok_or_else(VaultError::garbage)
    }
}
