//! The keys of checkpoints: Ed25519 (RFC 8032).

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use crate::secrets::vault::TransitKey;

/// Bytes of a public key.
const PUBLIC_LENGTH: usize = 32;
/// Bytes of a signature.
pub(crate) const SIGNATURE_LENGTH: usize = 64;
/// What a `SubjectPublicKeyInfo` of Ed25519 has before the key (RFC 8410 §4).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Signs checkpoints.
pub(crate) struct CheckpointKey {
    signer: Signer,
    public: PublicKey,
}

/// Who has the private key.
enum Signer {
    /// This process.
    Own(Ed25519KeyPair),
    /// The vault.
    Transit(TransitKey),
}

/// Verifies checkpoints.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    bytes: [u8; PUBLIC_LENGTH],
    id: Box<str>,
    base64: Box<str>,
}

impl CheckpointKey {
    /// Reads a PKCS #8 key, as `openssl genpkey -algorithm ed25519` makes it.
    ///
    /// # Errors
    /// What is wrong with the text, to follow the name of its file; it never quotes the text.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, String> {
        const WRONG: &str = "is not a PEM private key of Ed25519; make one: `openssl genpkey -algorithm ed25519`";
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| WRONG.to_owned())?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der()).map_err(|_| WRONG.to_owned())?;
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| WRONG.to_owned())?;
        Ok(Self { signer: Signer::Own(pair), public: PublicKey::new(bytes) })
    }

    /// A key that the vault signs with.
    ///
    /// # Errors
    /// What is wrong with its public key.
    pub(crate) fn of_vault(key: TransitKey) -> Result<Self, String> {
        let public = PublicKey::from_base64(key.public())?;
        Ok(Self { signer: Signer::Transit(key), public })
    }

    /// The first 16 hexadecimal digits of SHA-256 over the public key.
    pub(crate) fn id(&self) -> &str {
        self.public.id()
    }

    /// The public key in Base64.
    pub(crate) fn public(&self) -> &str {
        self.public.as_base64()
    }

    /// Signs a message. If the vault does that, it waits, but not long.
    ///
    /// # Errors
    /// The vault does not sign, or not with this key.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LENGTH], String> {
        let signature = match &self.signer {
            Signer::Own(pair) => pair.sign(message).as_ref().to_vec(),
            Signer::Transit(key) => key.sign(message)?,
        };
        let signature: [u8; SIGNATURE_LENGTH] =
            signature.try_into().map_err(|_| "the signature is not one of Ed25519".to_owned())?;
        match self.signer {
            Signer::Transit(_) if !self.public.verify(message, &signature) => {
                Err("the vault signed with another key".to_owned())
            }
            _ => Ok(signature),
        }
    }
}

impl PartialEq for CheckpointKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for CheckpointKey {}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointKey({})", self.id())
    }
}

impl PublicKey {
    fn new(bytes: [u8; PUBLIC_LENGTH]) -> Self {
        let hash = digest(&SHA256, &bytes);
        let id: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { bytes, id: id.into(), base64: STANDARD.encode(bytes).into() }
    }

    /// Reads a key as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// What is wrong with the text, to follow the name of its file.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, String> {
        const WRONG: &str = "is not a PEM public key of Ed25519; write it with `openssl pkey -in KEY -pubout`";
        let info = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| WRONG.to_owned())?;
        let bytes = info.strip_prefix(&PUBLIC_PREFIX).and_then(|key| key.try_into().ok());
        bytes.map(Self::new).ok_or_else(|| WRONG.to_owned())
    }

    /// Reads the 32 bytes of a key in Base64, as a record has them.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn from_base64(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self::new).ok_or_else(|| "is not a public key of Ed25519 in Base64".to_owned())
    }

    /// The first 16 hexadecimal digits of SHA-256 over the key.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The key in Base64.
    pub(crate) fn as_base64(&self) -> &str {
        &self.base64
    }

    /// Returns whether the holder of the private key signed the message.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.bytes).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `openssl genpkey -algorithm ed25519` made it, and `openssl pkey -pubout`.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAWU1t2i+roKdjpuI1u26Bw0jGZ3+APMr3iMhsBb2Oon\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAPzV6KnZ0Af0MXr5Pn0ybCrn+2OvAFgiSNsZ1b27zu7o=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn what_a_key_signs_its_public_key_verifies() {
        let key = CheckpointKey::from_pem(KEY).unwrap();
        let public = PublicKey::from_pem(PUBLIC).unwrap();
        assert_eq!((key.id(), key.public()), (public.id(), public.as_base64()));
        assert_eq!(PublicKey::from_base64(key.public()).unwrap(), public);
        assert_eq!((key.id().len(), key.id()), (16, "e46945b911be5304"));
        let signature = key.sign(b"checkpoint").unwrap();
        assert!(public.verify(b"checkpoint", &signature));
        assert!(!public.verify(b"checkpoinT", &signature));
        assert!(!public.verify(b"checkpoint", &signature[..63]));
        assert_eq!(key, CheckpointKey::from_pem(KEY).unwrap());
    }

    #[test]
    fn a_wrong_key_is_refused_and_never_shown() {
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        for pem in ["", "hunter2", PUBLIC, &made.serialize_pem(), &KEY.replace("MC4C", "MC5C")] {
            let error = CheckpointKey::from_pem(pem).err().unwrap();
            assert!(error.contains("openssl genpkey -algorithm ed25519") && !error.contains("hunter2"), "{error}");
        }
        for pem in ["", KEY, &made.public_key_pem()] {
            assert!(PublicKey::from_pem(pem).is_err(), "{pem}");
        }
        for text in ["", "AAAA", "not base64"] {
            assert!(PublicKey::from_base64(text).is_err(), "{text}");
        }
        let key = CheckpointKey::from_pem(KEY).unwrap();
        assert_eq!(format!("{key:?}"), format!("CheckpointKey({})", key.id()));
    }
}
