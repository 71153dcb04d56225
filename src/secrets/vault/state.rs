//! One vault: the token of the login and the last good values outlive the policies that refer to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::VaultError;
use super::issue::{self, CertificateRequest, IssuedCertificate, IssuedCertificates};
use super::kept::KeptSecrets;
use super::kv::{self, Mounts};
use super::login::{LoginOf, Unwrapped};
use super::reference::{SecretPath, VaultReference};
use super::session::Session;
use super::settings::VaultSettings;
use super::transit_name::{KeyVersion, TransitName};

/// How many secrets are read at once.
const AT_ONCE: usize = 8;
/// How long all of them may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// The secrets to read, and which of their fields are wanted.
pub(crate) type Wanted = BTreeMap<SecretPath, BTreeSet<Box<str>>>;

/// A secret that could not be read, or a field of it.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) secret: SecretPath,
    /// Absent: all of them.
    pub(crate) field: Option<Box<str>>,
    pub(crate) error: VaultError,
}

/// A vault, with what outlives policies.
pub(crate) struct Vault {
    pub(crate) settings: Arc<VaultSettings>,
    /// The last good values, shared with other settings of the same vault, as all that is behind an [`Arc`] here.
    pub(crate) kept: Arc<KeptSecrets>,
    login: Arc<LoginOf>,
    issued: Arc<IssuedCertificates>,
    /// The versions of transit keys in use.
    versions: Arc<Mutex<BTreeMap<TransitName, KeyVersion>>>,
    pub(super) mounts: Arc<Mounts>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.settings.url.authority())
    }
}

impl Vault {
    /// One with these settings. From `before`, the same vault with other settings, it has what is known of the vault, and of the
    /// login if that is the same.
    pub(super) fn new(settings: VaultSettings, before: Option<&Self>, unwrapped: &Arc<Unwrapped>) -> Self {
        let same_login = before.filter(|before| before.settings.login == settings.login);
        Self {
            kept: before.map(|before| Arc::clone(&before.kept)).unwrap_or_default(),
            login: same_login.map_or_else(|| Arc::new(LoginOf::new(unwrapped)), |before| Arc::clone(&before.login)),
            issued: before.map(|before| Arc::clone(&before.issued)).unwrap_or_default(),
            versions: before.map(|before| Arc::clone(&before.versions)).unwrap_or_default(),
            mounts: Arc::default(),
            settings: Arc::new(settings),
        }
    }

    /// Outcome → logins.
    pub(crate) fn logins(&self) -> [(&'static str, u64); 2] {
        [("success", self.login.succeeded.load(Relaxed)), ("failure", self.login.failed.load(Relaxed))]
    }

    /// Begins requests that belong together.
    pub(super) fn session(&self) -> Session {
        Session::begin(&self.settings, &self.login)
    }

    pub(super) fn known_version(&self, name: &TransitName) -> Option<KeyVersion> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Notes the version of a key that is to be used. Another one than before counts as a change.
    pub(super) fn remember_version(&self, name: &TransitName, version: &KeyVersion) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if versions.insert(name.clone(), version.clone()).is_some_and(|before| before != *version) {
            self.kept.advance();
        }
    }

    /// The certificate for a request: the one that is there, unless it is due, or a new one. One that is due stays while there is
    /// no other.
    ///
    /// # Errors
    /// There is none, and the vault issues none.
    pub(crate) async fn certificate(
        &self,
        wanted: &CertificateRequest,
        now: Timestamp,
    ) -> Result<IssuedCertificate, VaultError> {
        let known = self.issued.get(wanted, now);
        if let Some(known) = known.as_ref().filter(|known| !known.is_due(now)) {
            return Ok(known.clone());
        }
        let session = self.session();
        match issue::issue(&session, wanted, now).await {
            Ok(issued) => {
                // A policy that is being loaded may ask for it, and then not be put in force.
                if self.issued.put(wanted, issued.clone()) {
                    self.kept.advance();
                }
                Ok(issued)
            }
            Err(error) => {
                self.issued.fail(wanted, &error);
                known.ok_or(error)
            }
        }
    }

    /// Renews the certificates that are due. A new one counts as a change.
    pub(crate) async fn renew(&self, wanted: &[CertificateRequest], now: Timestamp) {
        for wanted in wanted {
            // One that cannot be renewed is noted there.
            let _ = self.certificate(wanted, now).await;
        }
    }

    /// How long until the next of these certificates is to be renewed, at most `longest`.
    pub(crate) fn next_renewal(&self, wanted: &[CertificateRequest], now: Timestamp, longest: Duration) -> Duration {
        wanted.iter().filter_map(|wanted| self.issued.next_attempt(wanted, now)).min().unwrap_or(longest).min(longest)
    }

    /// Why a certificate could not be renewed, if so.
    pub(crate) fn certificate_error(&self, wanted: &CertificateRequest) -> Option<String> {
        self.issued.error(wanted)
    }

    /// Forgets all certificates but these.
    pub(crate) fn retain_certificates(&self, wanted: &[CertificateRequest]) {
        self.issued.retain(wanted);
    }

    /// Reads secrets, a few at once, within a total time, and keeps the good ones. Returns what failed.
    pub(crate) async fn fetch(&self, wanted: &Wanted, now: Timestamp) -> Vec<Failed> {
        let session = Arc::new(self.session());
        let (permits, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        for secret in wanted.keys().cloned() {
            let (session, permits, mounts) = (Arc::clone(&session), Arc::clone(&permits), Arc::clone(&self.mounts));
            tasks.spawn(async move {
                // Fails only if the semaphore is closed, which nobody does.
                let _permit = permits.acquire().await;
                let read = kv::read(&session, &mounts, &secret).await;
                (secret, read)
            });
        }
        let mut left: BTreeSet<&SecretPath> = wanted.keys().collect();
        let mut failed = Vec::new();
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while let Ok(Some(done)) = tokio::time::timeout_at(deadline, tasks.join_next()).await {
            let Ok((secret, read)) = done else { continue };
            left.remove(&secret);
            let fields = wanted.get(&secret).cloned().unwrap_or_default();
            match read {
                Ok(fetched) => {
                    let errors = self.kept.learn(&secret, &fields, &fetched, now);
                    let of = |(field, error)| Failed { secret: secret.clone(), field: Some(field), error };
                    failed.extend(errors.into_iter().map(of));
                }
                Err(error) => {
                    self.kept.fail(&secret, &error);
                    failed.push(Failed { secret, field: None, error });
                }
            }
        }
        for secret in left {
            let error = VaultError::Unreachable(format!("not all secrets could be read within {DEADLINE:?}"));
            self.kept.fail(secret, &error);
            failed.push(Failed { secret: secret.clone(), field: None, error });
        }
        failed
    }
}

impl Failed {
    /// Whether it is about this reference.
    pub(crate) fn concerns(&self, reference: &VaultReference) -> bool {
        self.secret == reference.secret && self.field.as_ref().is_none_or(|field| *field == reference.field)
    }
}
