//! The secret that seals the signing keys in the store, and that refresh tokens are derived from.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::state::registry::entry::hex;
use crate::{error_text, open_file};

/// The file in the folder of a store.
const FILE: &str = "signing.seal";
/// Bytes of a secret that is made here.
const LENGTH: usize = 32;
/// Most bytes of the file.
const MAX_FILE: u64 = 4096;

/// Where the secret is.
#[derive(Debug, Clone)]
pub(crate) enum SealSource {
    /// In the policy, by reference.
    Secret(SecretString),
    /// In a file of the folder of the store, made when there is none.
    Folder(PathBuf),
}

/// Seals and opens, and derives.
pub(super) struct Seal {
    sealing: RandomizedNonceKey,
    deriving: hmac::Key,
    /// Tells whether two seals are the same; derived, so that it says nothing of the secret.
    id: Box<str>,
}

impl Seal {
    /// Reads the secret. Blocks if it is in a folder.
    ///
    /// # Errors
    /// The file cannot be read or made.
    pub(super) fn open(source: &SealSource) -> Result<Self, String> {
        let secret = match source {
            SealSource::Secret(secret) => Zeroizing::new(secret.expose_secret().as_bytes().to_vec()),
            SealSource::Folder(folder) => of_folder(folder)?,
        };
        let root = hmac::Key::new(HMAC_SHA256, &secret);
        let derived = |purpose: &str| hmac::sign(&root, format!("bartizan token service: {purpose}").as_bytes());
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, derived("sealing").as_ref());
        Ok(Self {
            sealing: sealing.map_err(|_| "the seal cannot be used".to_owned())?,
            deriving: hmac::Key::new(HMAC_SHA256, derived("deriving").as_ref()),
            id: hex::encode(derived("id").as_ref().get(..8).unwrap_or_default()).into(),
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Seals bytes; `about` is not secret, and must be the same when they are opened.
    pub(super) fn seal(&self, about: &str, secret: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = secret.to_vec();
        let nonce = self.sealing.seal_in_place_append_tag(Aad::from(about.as_bytes()), &mut bytes).ok()?;
        let nonce: &[u8] = nonce.as_ref();
        Some([nonce, &bytes].concat())
    }

    /// Opens what [`seal`](Self::seal) sealed; `None` if it was another seal, or something was changed.
    pub(super) fn unseal(&self, about: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, bytes) = sealed.split_at_checked(NONCE_LEN)?;
        let mut bytes = Zeroizing::new(bytes.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = self.sealing.open_in_place(nonce, Aad::from(about.as_bytes()), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }

    /// Derives 256 bits from this seal and the parts.
    pub(super) fn derive(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.deriving);
        for part in parts {
            // The length before each part: "a" + "bc" is not "ab" + "c".
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().unwrap_or_default()
    }
}

/// The secret in the folder of a store; makes it if there is none.
fn of_folder(folder: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let path = folder.join(FILE);
    let failed = |what: &str, error: &io::Error| {
        format!("the seal of the signing keys, {}, cannot be {what}: {}", path.display(), error_text::system(error))
    };
    match open_file::regular(&path) {
        Ok(file) => {
            let mut secret = Zeroizing::new(Vec::new());
            file.take(MAX_FILE).read_to_end(&mut secret).map_err(|error| failed("read", &error))?;
            if secret.len() < LENGTH {
                return Err(format!(
                    "the seal of the signing keys, {}, is damaged; restore it, or remove it and rotate the signing keys",
                    path.display()
                ));
            }
            Ok(secret)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(folder, &path).map_err(|error| failed("made", &error))
        }
        Err(error) => Err(failed("read", &error)),
    }
}

/// Makes the file whole or not at all: a part of it would be a seal that opens nothing.
fn make(folder: &Path, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut secret = Zeroizing::new(vec![0; LENGTH]);
    rand::fill(&mut secret).map_err(|_| io::Error::other("the system has no random bytes"))?;
    let text = Zeroizing::new(hex::encode(&secret).into_bytes());
    // A name of its own: another thread may make one at the same time, and the first to link it has made the seal.
    let new = path.with_extension(Uuid::now_v7().simple().to_string());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let linked = file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&new, path));
    std::fs::remove_file(&new)?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return open_file::read(path).map(Zeroizing::new),
        Err(error) => return Err(error),
    }
    File::open(folder)?.sync_all()?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn of(secret: &str) -> Seal {
        Seal::open(&SealSource::Secret(secret.into())).unwrap()
    }

    #[test]
    fn only_the_same_seal_opens_what_nobody_changed() {
        let (one, other) = (of("one"), of("other"));
        let sealed = one.seal("key 1", b"secret").unwrap();
        assert_eq!(one.unseal("key 1", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(of("one").unseal("key 1", &sealed).unwrap().as_slice(), b"secret");
        assert!(other.unseal("key 1", &sealed).is_none() && one.unseal("key 2", &sealed).is_none());
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(one.unseal("key 1", &changed).is_none(), "{position}");
            assert!(one.unseal("key 1", &sealed[..position]).is_none(), "{position}");
        }
        assert_ne!(one.id(), other.id());
        assert_ne!(one.derive(&[b"a", b"bc"]), one.derive(&[b"ab", b"c"]));
        assert_ne!(one.derive(&[b"a"]), other.derive(&[b"a"]));
    }

    #[test]
    fn a_folder_keeps_its_seal_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Seal::open(&SealSource::Folder(folder.path().to_owned()));
        let first = open().unwrap();
        assert_eq!(first.id(), open().unwrap().id());
        let file = folder.path().join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, "short").unwrap();
        assert!(open().err().unwrap().contains("is damaged"));
        std::fs::remove_file(&file).unwrap();
        assert_ne!(first.id(), open().unwrap().id());
    }
}
