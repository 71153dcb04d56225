//! Certificates that the vault issues: the key is made here and stays here, and the vault signs a request for it (PKCS #10).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::SecretString;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::VaultError;
use super::session::Session;

/// Longest chain, in bytes.
const LONGEST: usize = 256 * 1024;
/// Shortest pause between two attempts to renew a certificate.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// A certificate that the policy wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CertificateRequest {
    /// Where the engine is mounted.
    pub(crate) mount: Box<str>,
    /// The role that decides what is signed.
    pub(crate) role: Box<str>,
    /// DNS names and addresses; the first is the common name.
    pub(crate) names: Vec<String>,
    /// How long it is to be valid.
    pub(crate) lifetime: Duration,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct IssuedCertificate {
    /// The chain in PEM, without the root if the vault leaves it out.
    pub(crate) chain: Arc<str>,
    /// The key in PEM (PKCS #8): ECDSA P-256.
    pub(crate) key: SecretString,
    /// When it is to be replaced: two thirds of its life are over.
    renew_at: Timestamp,
    /// Its last moment.
    end: Timestamp,
}

/// The certificates that are in use, with the attempts to renew them.
#[derive(Default)]
pub(super) struct IssuedCertificates(Mutex<BTreeMap<CertificateRequest, Kept>>);

struct Kept {
    issued: IssuedCertificate,
    error: Option<String>,
}

impl fmt::Display for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} for {}", self.mount, self.role, self.names.join(", "))
    }
}

impl IssuedCertificate {
    /// Whether it is time for another one.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.renew_at
    }

    /// One that signs itself: for checks and tests of a policy, which ask for none.
    pub(crate) fn stand_in(names: &[String]) -> Result<Self, String> {
        let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
        let (chain, key) = (made.cert.pem().into(), made.signing_key.serialize_pem().into());
        Ok(Self { chain, key, renew_at: Timestamp::MAX, end: Timestamp::MAX })
    }

    fn new(chain: String, key: &KeyPair, now: Timestamp) -> Result<Self, VaultError> {
        let first = CertificateDer::from_pem_slice(chain.as_bytes()).map_err(|_| VaultError::garbage())?;
        let (_, certificate) = X509Certificate::from_der(&first).map_err(|_| VaultError::garbage())?;
        let end = Timestamp::from_second(certificate.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
        // One that is of no use must not replace one that is.
        if certificate.public_key().raw != key.subject_public_key_info() || end <= now {
            return Err(VaultError::garbage());
        }
        Ok(Self { chain: chain.into(), key: key.serialize_pem().into(), renew_at: renew_at(now, end), end })
    }
}

/// When two thirds of the time are over.
fn renew_at(now: Timestamp, end: Timestamp) -> Timestamp {
    let life = end.duration_since(now);
    now.checked_add(life / 3 * 2).unwrap_or(end)
}

impl IssuedCertificates {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<CertificateRequest, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificate for a request that is good for now, if there is one.
    pub(super) fn get(&self, wanted: &CertificateRequest, now: Timestamp) -> Option<IssuedCertificate> {
        self.kept().get(wanted).map(|kept| kept.issued.clone()).filter(|issued| now < issued.end)
    }

    /// Keeps a certificate. Returns whether there was one for the same request.
    pub(super) fn put(&self, wanted: &CertificateRequest, issued: IssuedCertificate) -> bool {
        let before = self.kept().insert(wanted.clone(), Kept { issued, error: None });
        if before.as_ref().is_some_and(|before| before.error.is_some()) {
            tracing::info!(certificate = %wanted, "the vault issues this certificate again");
        }
        before.is_some()
    }

    /// How long until a certificate is to be renewed; after a failure, a quarter of the time that is left. `None`: there is none.
    pub(super) fn next_attempt(&self, wanted: &CertificateRequest, now: Timestamp) -> Option<Duration> {
        let kept = self.kept();
        let issued = &kept.get(wanted)?.issued;
        if !issued.is_due(now) {
            return Duration::try_from(issued.renew_at.duration_since(now)).ok();
        }
        let left = Duration::try_from(issued.end.duration_since(now)).unwrap_or_default();
        Some((left / 4).max(SHORTEST_PAUSE))
    }

    /// Notes that a certificate could not be renewed. Logged when it is new.
    pub(super) fn fail(&self, wanted: &CertificateRequest, error: &VaultError) {
        if let Some(kept) = self.kept().get_mut(wanted) {
            let why = error.why();
            if kept.error.is_none() {
                tracing::warn!(certificate = %wanted, why, end = %kept.issued.end, "a certificate could not be renewed; it stays in use");
            }
            kept.error = Some(why);
        }
    }

    /// Why a certificate could not be renewed, if so.
    pub(super) fn error(&self, wanted: &CertificateRequest) -> Option<String> {
        self.kept().get(wanted)?.error.clone()
    }

    pub(super) fn retain(&self, wanted: &[CertificateRequest]) {
        self.kept().retain(|known, _| wanted.contains(known));
    }
}

/// Makes a key, and lets the vault sign for it.
pub(super) async fn issue(
    session: &Session,
    wanted: &CertificateRequest,
    now: Timestamp,
) -> Result<IssuedCertificate, VaultError> {
    let made = |error: rcgen::Error| VaultError::Unexpected(format!("no request for a certificate: {error}"));
    let key = KeyPair::generate().map_err(made)?;
    let mut params = CertificateParams::new(wanted.names.clone()).map_err(made)?;
    params.distinguished_name = DistinguishedName::new();
    let common = wanted.names.first().map(String::as_str).unwrap_or_default();
    params.distinguished_name.push(DnType::CommonName, common);
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(made)?;
    let is_address = |name: &&String| name.parse::<std::net::IpAddr>().is_ok();
    let addresses: Vec<&str> = wanted.names.iter().filter(is_address).map(String::as_str).collect();
    let names: Vec<&str> = wanted.names.iter().filter(|name| !is_address(name)).map(String::as_str).collect();
    let body = json!({
        "csr": request, "common_name": common, "alt_names": names.join(","), "ip_sans": addresses.join(","),
        "ttl": format!("{}s", wanted.lifetime.as_secs()), "format": "pem", "exclude_cn_from_sans": true,
    });
    let answer = session.post(&format!("{}/sign/{}", wanted.mount, wanted.role), &body).await?;
    let text = |value: &Value| value.as_str().map(|text| format!("{}\n", text.trim()));
    let mut chain = answer.pointer("/data/certificate").and_then(text).ok_or_else(VaultError::garbage)?;
    let authorities = answer.pointer("/data/ca_chain").and_then(Value::as_array);
    chain.extend(authorities.into_iter().flatten().filter_map(text));
    if chain.len() > LONGEST {
        return Err(VaultError::garbage());
    }
    IssuedCertificate::new(chain, &key, now)
}

/// How long a certificate may be valid: long enough to be renewed twice before its end.
pub(crate) const SHORTEST_LIFETIME: Duration = Duration::from_secs(10);
/// Longest life of an issued certificate: no public authority gives more.
pub(crate) const LONGEST_LIFETIME: SignedDuration = SignedDuration::from_hours(398 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(renew_at(at(1000), at(1090)), at(1060));
        let issued = IssuedCertificate { chain: "".into(), key: "".into(), renew_at: at(1060), end: at(1090) };
        assert_eq!([1059, 1060].map(|second| issued.is_due(at(second))), [false, true]);
        // What is past its end is no longer offered.
        let (kept, wanted) = (IssuedCertificates::default(), request());
        assert_eq!(kept.next_attempt(&wanted, at(1000)), None);
        assert!(!kept.put(&wanted, issued.clone()));
        for (now, seconds) in [(1000, 60), (1059, 1), (1070, 5), (1089, 1), (2000, 1)] {
            assert_eq!(kept.next_attempt(&wanted, at(now)), Some(Duration::from_secs(seconds)), "{now}");
        }
        assert!(kept.put(&wanted, issued));
        assert_eq!([1089, 1090].map(|second| kept.get(&wanted, at(second)).is_some()), [true, false]);
        kept.fail(&wanted, &VaultError::Sealed);
        assert!(kept.get(&wanted, at(1080)).is_some());
        assert_eq!(kept.error(&wanted).as_deref(), Some("the vault is sealed"));
        kept.retain(&[]);
        assert!(kept.get(&wanted, at(1080)).is_none());
    }

    fn request() -> CertificateRequest {
        CertificateRequest {
            mount: "pki".into(),
            role: "edge".into(),
            names: vec!["a.example".to_owned()],
            lifetime: Duration::from_secs(90),
        }
    }
}
