//! What all parts of the compiler share: the texts and the problems.

use std::fmt::Display;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest;
use jiff::Timestamp;
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

use super::issuing::Issuing;
use super::stand_ins::StandIns;
use crate::egress::{Egress, Trust};
use crate::exchange::networks::Networks;
use crate::policy::diagnostic::{Problem, Problems, did_you_mean};
use crate::policy::source::{ReadErrorKind, SourceText, Sources};
use crate::policy::tls::{self, ServerProblem};
use crate::policy::tree::At;
use crate::policy::units::Period;
use crate::secrets::vault::{CertificateRequest, TransitName};
use crate::secrets::{self, inputs::InputKind};

/// TLS settings of a client, as written.
pub(super) struct ClientTls<'a> {
    /// A file of authorities.
    pub(super) ca: Option<&'a String>,
    /// A file with the certificate to present.
    pub(super) certificate: Option<&'a String>,
    /// Its key: a file, or the PEM itself.
    pub(super) key: Option<&'a SecretString>,
}

impl ClientTls<'_> {
    /// Reports settings that have no effect because there is no TLS.
    pub(super) fn unused(&self, context: &mut Context<'_>, what: &str, at: At<'_>) {
        let keys =
            [("ca", self.ca.is_some()), ("certificate", self.certificate.is_some()), ("key", self.key.is_some())];
        for (key, _) in keys.into_iter().filter(|(_, written)| *written) {
            context.error(at.key(key), format!("`{key}` has no effect because {what}")).help("remove it, or use TLS");
        }
    }
}

/// What all parts of the compiler share.
pub(super) struct Context<'a> {
    /// The files that are read.
    pub(super) sources: Sources,
    /// The problems found so far.
    pub(super) problems: Problems,
    /// Stand-ins for the outside world, in a rehearsal.
    pub(super) stand_ins: Option<&'a dyn StandIns>,
    /// The system's authorities, read when first needed.
    pub(super) system: Option<Trust>,
    /// How the process calls others.
    pub(super) egress: Arc<Egress>,
    /// The addresses for requests, which no upstream may have.
    pub(super) own_addresses: Vec<SocketAddr>,
    /// Our own proxies, if there are any.
    pub(super) trusted_proxies: Option<Networks>,
    /// Where certificates come from that the policy lets be issued.
    pub(super) issuing: Issuing,
    /// Those certificates.
    pub(super) certificates: Vec<CertificateRequest>,
    /// The keys that the vault signs with.
    pub(super) vault_keys: Vec<TransitName>,
}

impl Context<'_> {
    /// Before anything of the policy is known.
    pub(super) fn new(sources: Sources, problems: Problems) -> Self {
        Self {
            sources,
            problems,
            stand_ins: None,
            system: None,
            egress: Arc::default(),
            own_addresses: Vec::new(),
            trusted_proxies: None,
            issuing: Issuing::NoVault,
            certificates: Vec::new(),
            vault_keys: Vec::new(),
        }
    }

    pub(super) fn error(&mut self, at: At<'_>, message: impl Into<String>) -> &mut Problem {
        self.problems.error(at.place(), message)
    }

    /// A time of RFC 3339.
    pub(super) fn time(&mut self, written: Option<&str>, at: At<'_>) -> Option<Timestamp> {
        let time = written?.parse().ok();
        if time.is_none() {
            self.error(at, "this is not a time")
                .help("write it in the format of RFC 3339, such as `2027-02-28T00:00:00Z`");
        }
        time
    }

    pub(super) fn warning(&mut self, at: At<'_>, message: impl Into<String>) -> &mut Problem {
        self.problems.warning(at.place(), message)
    }

    /// Reports that something required is missing, unless an earlier problem may be the reason.
    pub(super) fn missing(&mut self, at: At<'_>, message: impl Into<String>, help: impl Into<String>) {
        if !at.damaged() {
            self.problems.error(at.key_place(), message).help(help);
        }
    }

    /// Reports a name that is not among the known ones.
    pub(super) fn unknown<'n>(&mut self, at: At<'_>, what: &str, name: &str, known: impl IntoIterator<Item = &'n str>) {
        let known: Vec<&str> = known.into_iter().collect();
        let help = did_you_mean(name, known.iter().copied()).unwrap_or_else(|| match known.is_empty() {
            true => format!("the policy has no {what} yet"),
            false => format!("it has {}", known.join(", ")),
        });
        let shown = at.written().unwrap_or(name).to_owned();
        self.error(at, format!("there is no {what} `{shown}`")).help(help);
    }

    /// Reads a file that the policy names. Reports a problem where the policy names it.
    pub(super) fn read(&mut self, at: At<'_>, path: &str) -> Option<Arc<SourceText>> {
        match self.sources.read(path) {
            Ok(text) => Some(text),
            Err(error) => {
                self.unreadable(at, &error, error.help());
                None
            }
        }
    }

    /// Reads an XML file that the policy names: its text, and its bytes.
    pub(super) fn read_xml(&mut self, at: At<'_>, path: &str) -> Option<(Arc<SourceText>, Arc<[u8]>)> {
        self.sources.read_xml(path).map_err(|error| self.unreadable(at, &error, error.help())).ok()
    }

    /// Reads a PEM file. The help is for a file in DER, the usual mistake.
    pub(super) fn read_pem(&mut self, at: At<'_>, path: &str) -> Option<Arc<SourceText>> {
        const DER: &str = "if it is in DER, convert it to PEM: `openssl x509 -inform DER -in FILE -out FILE.pem` (`openssl crl` \
            for a revocation list)";
        match self.sources.read(path) {
            Ok(text) => {
                self.sources.used_path(InputKind::Certificates, path, &at.place());
                Some(text)
            }
            Err(error) => {
                let help = if error.kind == ReadErrorKind::NotText { Some(DER) } else { error.help() };
                self.unreadable(at, &error, help);
                None
            }
        }
    }

    /// Reads a private key: a file, or through a reference the PEM itself.
    pub(super) fn private_key(&mut self, written: &SecretString, at: At<'_>) -> Option<SecretString> {
        if written.expose_secret().contains("-----BEGIN ") {
            return Some(written.clone());
        }
        const DER: &str = "if it is in DER, convert it to PEM: `openssl pkey -inform DER -in FILE -out FILE.pem`";
        /// Others may write (`chmod o+w`).
        const OTHERS_WRITE: u32 = 0o002;
        let is_reference = at.written().is_some_and(secrets::has_reference);
        match self.sources.read_secret(written.expose_secret()) {
            Ok(key) => {
                let path = self.sources.path(written.expose_secret());
                if std::fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & OTHERS_WRITE != 0) {
                    let message = format!("every user of this machine can replace the key {}", path.display());
                    self.warning(at, message).help("take the right to write from others: `chmod o-w`");
                }
                self.sources.used_path(InputKind::Secret, written.expose_secret(), &at.place());
                Some(key)
            }
            // The text may be a secret that is not what it should be.
            Err(_) if is_reference => {
                let shown = at.written().unwrap_or_default();
                self.error(at, format!("the value of `{shown}` is neither a PEM key nor the path of a file to read"));
                None
            }
            Err(error) => {
                let help = if error.kind == ReadErrorKind::NotText { Some(DER) } else { error.help() };
                self.unreadable(at, &error, help);
                None
            }
        }
    }

    pub(super) fn unreadable(&mut self, at: At<'_>, error: &impl Display, help: Option<&'static str>) {
        let problem = self.error(at, error.to_string());
        if let Some(help) = help {
            problem.help(help);
        }
    }

    /// A duration that must be greater than zero, or its default.
    pub(super) fn period(&mut self, at: At<'_>, written: Option<Period>, default: Duration) -> Duration {
        match written {
            Some(Period(Duration::ZERO)) => {
                self.error(at, "this duration must be greater than zero");
                default
            }
            Some(Period(period)) => period,
            None => default,
        }
    }

    /// A duration in whole seconds, because it is compared with times of tokens or proofs.
    pub(super) fn seconds(&mut self, at: At<'_>, Period(period): Period) -> i64 {
        if period.subsec_nanos() > 0 {
            self.error(at, "this duration must be a whole number of seconds");
        }
        i64::try_from(period.as_secs()).unwrap_or(i64::MAX)
    }

    /// The authorities to trust when calling an https server: those of the file in `ca`, or the system's.
    pub(super) fn trust(&mut self, ca: Option<&String>, at: At<'_>) -> Option<Trust> {
        match ca {
            Some(_) => self.trusting(ca, at.key("ca")),
            None => self.system_trust(at),
        }
    }

    /// The authorities of a file, or the system's.
    pub(super) fn trusting(&mut self, file: Option<&String>, at: At<'_>) -> Option<Trust> {
        let Some(path) = file else { return self.system_trust(at) };
        let text = self.read_pem(at, path)?;
        match tls::client(text.text.as_bytes()) {
            Ok(config) => Some(Trust { config, identity: text.text.as_str().into() }),
            Err(problem) => {
                self.error(at, format!("{} {problem}", text.name));
                None
            }
        }
    }

    /// Which authorities to trust when calling a server by TLS, and which certificate to present.
    pub(super) fn client_tls(&mut self, written: &ClientTls<'_>, at: At<'_>) -> Option<Trust> {
        let (certificate, key) = match (written.certificate, written.key) {
            (None, None) => return self.trust(written.ca, at),
            (Some(certificate), Some(key)) => (certificate, key),
            _ => {
                let help = "write the paths of a PEM chain and of its PEM key, or neither";
                self.missing(at, "`certificate` and `key` go together", help);
                return None;
            }
        };
        let trust = self.trust(written.ca, at);
        let chain = self.read_pem(at.key("certificate"), certificate);
        let key = self.private_key(key, at.key("key"));
        let (trust, chain, key) = (trust?, chain?, key?);
        match tls::presenting(&trust.config, &chain, key.expose_secret().as_bytes()) {
            Ok(config) => {
                let mut hash = digest::Context::new(&digest::SHA256);
                for part in [&trust.identity, chain.text.as_str(), key.expose_secret()] {
                    hash.update(&part.len().to_be_bytes());
                    hash.update(part.as_bytes());
                }
                let identity: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                Some(Trust { config, identity: identity.into() })
            }
            Err(ServerProblem::Certificate(problem)) => {
                self.error(at.key("certificate"), format!("the certificate {problem}"));
                None
            }
            Err(ServerProblem::Key(problem)) => {
                self.error(at.key("key"), format!("the key {problem}"));
                None
            }
        }
    }

    fn system_trust(&mut self, at: At<'_>) -> Option<Trust> {
        if self.system.is_none() {
            // Reading the system's authorities takes a while, and they are those the process started with.
            static SYSTEM: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
            match SYSTEM.get_or_init(tls::system_client) {
                Ok(config) => self.system = Some(Trust { config: Arc::clone(config), identity: "system".into() }),
                Err(problem) => {
                    let problem = problem.clone();
                    self.error(at, problem);
                }
            }
        }
        self.system.clone()
    }
}
