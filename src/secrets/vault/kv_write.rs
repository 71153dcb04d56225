//! Writes one field of a secret, and leaves the others as they are.
//!
//! An engine with versions takes a write only if the secret is still the one that was read (check and set), so that of two who
//! write at once, one succeeds. An engine without versions has no such thing: the last one counts.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::error::VaultError;
use super::kv::{self, Mount};
use super::reference::{SecretPath, VaultReference};
use super::session::Session;
use super::settings::KvVersion;
use super::state::Vault;
use crate::egress::Answer;

/// How long reading, and how long writing may take, logins included.
const DEADLINE: Duration = Duration::from_secs(15);

/// The fields of a secret, each as the vault has written it: numbers of any size stay what they are.
type Fields = BTreeMap<String, Box<RawValue>>;

/// A secret as it was when it was read: what is written in its place keeps its other fields.
pub(crate) struct OpenedSecret {
    mount: Mount,
    fields: Fields,
    /// The version that is replaced; 0: there is none yet.
    version: u64,
}

impl OpenedSecret {
    /// The value of a field, if it is text.
    pub(crate) fn value(&self, field: &str) -> Option<SecretString> {
        let value = serde_json::from_str::<String>(self.fields.get(field)?.get()).ok()?;
        Some(value).filter(|value| !value.is_empty()).map(SecretString::from)
    }

    /// Path and body of the request that writes it with another value of one field.
    fn with(self, reference: &VaultReference, value: &SecretString) -> Result<(String, String), VaultError> {
        let Self { mount, mut fields, version } = self;
        let failed = |_| VaultError::Unexpected("the secret cannot be written as JSON".to_owned());
        fields.insert(reference.field.to_string(), to_raw_value(value.expose_secret()).map_err(failed)?);
        let path = &reference.secret.path;
        let data = to_raw_value(&fields).map_err(failed)?;
        Ok(match mount.version {
            KvVersion::One => (path.to_string(), data.get().to_owned()),
            KvVersion::Two => {
                let rest = path.strip_prefix(&*mount.path).unwrap_or_default();
                let options = json!({"cas": version});
                (format!("{}data/{rest}", mount.path), format!(r#"{{"options":{options},"data":{data}}}"#))
            }
        })
    }
}

/// An answer of an engine without versions.
#[derive(Deserialize)]
struct One {
    data: Fields,
}

/// An answer of an engine with versions.
#[derive(Deserialize)]
struct Two {
    data: Versioned,
}

#[derive(Deserialize)]
struct Versioned {
    data: Fields,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
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
        let (path, body) = opened.with(reference, value)?;
        let session = self.session();
        in_time(session.post_text(&path, &body)).await.map(|_| ())
    }

    async fn open(&self, session: &Session, secret: &SecretPath) -> Result<OpenedSecret, VaultError> {
        if let Some(mount) = kv::mount(session, &self.mounts, secret).await? {
            let opened = current(session, secret, &mount).await;
            if opened.is_err() {
                // It may have been mounted anew, or upgraded.
                self.mounts.clear();
            }
            return opened;
        }
        // The token may not ask which engine it is: the current API is the more likely one, unless the other has the secret.
        let opened = current(session, secret, &kv::first_segment(secret, KvVersion::Two)).await;
        if !opened.as_ref().is_ok_and(|opened| opened.version > 0) {
            let one = kv::first_segment(secret, KvVersion::One);
            match kv::answer(session, secret, &one).await {
                Ok(answer) => return read(one, &answer),
                Err(VaultError::NotFound | VaultError::Denied) => {}
                // It may have the secret: what is written to the other path would be found by nobody.
                Err(error) => return Err(error),
            }
        }
        opened
    }
}

/// A secret as it is now; without fields if there is none.
async fn current(session: &Session, secret: &SecretPath, mount: &Mount) -> Result<OpenedSecret, VaultError> {
    let none = |version| Ok(OpenedSecret { mount: mount.clone(), fields: Fields::new(), version });
    match kv::answer(session, secret, mount).await {
        Ok(answer) => read(mount.clone(), &answer),
        Err(VaultError::NotFound) => none(0),
        Err(VaultError::Deleted(version)) => none(version.unwrap_or_default()),
        Err(error) => Err(error),
    }
}

fn read(mount: Mount, answer: &Answer) -> Result<OpenedSecret, VaultError> {
    let read = match mount.version {
        KvVersion::One => serde_json::from_slice::<One>(&answer.body).map(|One { data }| (data, 0)),
        KvVersion::Two => {
            serde_json::from_slice::<Two>(&answer.body).map(|Two { data }| (data.data, data.metadata.version))
        }
    };
    let (fields, version) = read.map_err(|_| VaultError::garbage())?;
    Ok(OpenedSecret { mount, fields, version })
}

async fn in_time<T>(work: impl Future<Output = Result<T, VaultError>>) -> Result<T, VaultError> {
    let late = |_| VaultError::Unreachable(format!("no answer within {DEADLINE:?}"));
    tokio::time::timeout(DEADLINE, work).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn opened(version: KvVersion, body: &str) -> Result<OpenedSecret, VaultError> {
        let answer = Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.to_owned().into() };
        read(Mount { path: "kv/".into(), version }, &answer)
    }

    /// Somebody else's fields are not ours to round, to order or to clean up.
    #[test]
    fn what_is_written_differs_in_one_field() {
        let reference = VaultReference::parse("kv/partners/acme#key").unwrap();
        let others = r#""a":123456789012345678901234567890,"b":{"z":1.10,"a":[null,"\u00e9"]}"#;
        for (version, answer, path, start, end) in [
            (KvVersion::One, r#"{"data":{OTHERS}}"#, "kv/partners/acme", "", ""),
            (
                KvVersion::Two,
                r#"{"data":{"data":{OTHERS,"key":"old"},"metadata":{"version":7}}}"#,
                "kv/data/partners/acme",
                r#"{"options":{"cas":7},"data":"#,
                "}",
            ),
        ] {
            let opened = opened(version, &answer.replace("OTHERS", others)).unwrap();
            let old = opened.value("key").map(|value| value.expose_secret().to_owned());
            assert_eq!(old.as_deref(), (version == KvVersion::Two).then_some("old"));
            assert!(opened.value("a").is_none() && opened.value("none").is_none());
            let written = opened.with(&reference, &"n\"ew".into()).unwrap();
            assert_eq!(written, (path.to_owned(), format!(r#"{start}{{{others},"key":"n\"ew"}}{end}"#)));
        }
        for answer in [
            "",
            "[]",
            r#"{"data":[]}"#,
            r#"{"data":{"data":{}}}"#,
            r#"{"data":{"data":null,"metadata":{"version":1}}}"#,
        ] {
            assert!(opened(KvVersion::Two, answer).is_err(), "{answer}");
        }
    }
}
