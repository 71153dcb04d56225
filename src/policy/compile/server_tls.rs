//! `tls` of listeners: their certificates, and those of their clients.

use std::sync::Arc;

use aws_lc_rs::digest::{Context as Sha256, SHA256};
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};

use super::context::Context;
use super::issue;
use crate::policy::document;
use crate::policy::source::SourceText;
use crate::policy::tls::{self, ServerCertificate, ServerProblem};
use crate::policy::tree::At;
use crate::policy::validity::Validity;
use crate::stages::auth::certificate::ClientTrust;

/// TLS of a listener.
pub(super) struct CompiledTls {
    pub(super) config: Arc<ServerConfig>,
    /// Each the first of its chain.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// Also those of its clients' authorities and revocation lists.
    pub(super) validities: Vec<Validity>,
    /// Absent if no client certificates are requested.
    pub(super) trust: Option<ClientTrust>,
}

/// `tls` of a listener.
pub(super) fn server_tls(context: &mut Context<'_>, written: &document::ListenTls, at: At<'_>) -> Option<CompiledTls> {
    let certificates = certificates(context, written, at);
    let (trust, validities) = client_trust(context, written, at)?.unzip();
    let certificates = certificates?;
    let (first, others) = certificates.split_first()?;
    let verifier = trust.as_ref().map(|trust| Arc::clone(&trust.verifier));
    let (config, unused) = match tls::server(first, others, verifier) {
        Ok(built) => built,
        Err(problem) => {
            context.error(at, format!("TLS cannot be set up: {problem}"));
            return None;
        }
    };
    for position in unused {
        context
            .warning(at.key("certificates").index(position), "no client is ever shown this certificate")
            .help("give it DNS names that no certificate before it has; one without such names can only be the first");
    }
    let mut every: Vec<_> = certificates.iter().flat_map(|one| one.validities.iter().cloned()).collect();
    every.extend(validities.unwrap_or_default());
    let certificates = certificates.iter().filter_map(|one| one.der().cloned()).collect();
    Some(CompiledTls { config, certificates, validities: every, trust })
}

/// The certificates of a listener, never none: `certificates`, or the one of `certificate` and `key` or of `issue`.
fn certificates(
    context: &mut Context<'_>,
    written: &document::ListenTls,
    at: At<'_>,
) -> Option<Vec<ServerCertificate>> {
    let Some(list) = &written.certificates else {
        let document::ListenTls { certificate, key, issue, .. } = written;
        let pair = Pair { certificate: certificate.as_deref(), key: key.as_ref(), issue: issue.as_ref() };
        return pair.compile(context, at).map(|one| vec![one]);
    };
    for key in ["certificate", "key", "issue"] {
        if at.key(key).present() {
            context
                .error(at.key(key), format!("`{key}` has no effect beside `certificates`"))
                .help("make it the first of the list, which is for clients that ask for no other name");
        }
    }
    let at = at.key("certificates");
    if list.is_empty() {
        context.error(at, "there is no certificate").help("write `certificates: [{ certificate: PEM, key: PEM }]`");
        return None;
    }
    let mut compiled = Vec::new();
    for (position, one) in list.iter().enumerate() {
        let document::ServerCertificate { certificate, key, issue } = one;
        let pair = Pair { certificate: certificate.as_deref(), key: key.as_ref(), issue: issue.as_ref() };
        compiled.push(pair.compile(context, at.index(position)));
    }
    compiled.into_iter().collect()
}

/// A certificate as it is written, in the list or beside it.
struct Pair<'a> {
    certificate: Option<&'a str>,
    key: Option<&'a SecretString>,
    issue: Option<&'a document::Issue>,
}

impl Pair<'_> {
    fn compile(&self, context: &mut Context<'_>, at: At<'_>) -> Option<ServerCertificate> {
        let (chain, key) = match self.issue {
            Some(issue) => {
                for (key, written) in [("certificate", self.certificate.is_some()), ("key", self.key.is_some())] {
                    if written {
                        context.error(at.key(key), format!("`{key}` has no effect beside `issue`")).help("remove it");
                    }
                }
                let (chain, issued) = issue::issued(context, issue, at.key("issue"))?;
                (Arc::new(chain), issued.key)
            }
            None => self.read(context, at)?,
        };
        match ServerCertificate::new(&chain, key.expose_secret().as_bytes()) {
            Ok(certificate) => {
                validity_problems(context, &certificate.validities, at.key("certificate"));
                Some(certificate)
            }
            Err(ServerProblem::Certificate(problem)) => {
                context.error(at.key("certificate"), format!("the certificate {problem}"));
                None
            }
            Err(ServerProblem::Key(problem)) => {
                context.error(at.key("key"), format!("the key {problem}"));
                None
            }
        }
    }

    fn read(&self, context: &mut Context<'_>, at: At<'_>) -> Option<(Arc<SourceText>, SecretString)> {
        let (Some(certificate), Some(key)) = (self.certificate, self.key) else {
            context.missing(
                at,
                "TLS needs `certificate` and `key`",
                "write the paths of a PEM chain and of its PEM key",
            );
            return None;
        };
        let chain = context.read_pem(at.key("certificate"), certificate);
        let key = context.private_key(key, at.key("key"));
        Some((chain?, key?))
    }
}

/// Warns of certificates that are invalid or expire soon.
fn validity_problems(context: &mut Context<'_>, validities: &[Validity], at: At<'_>) {
    let now = Timestamp::now();
    for problem in validities.iter().filter_map(|validity| validity.problem(now)) {
        context.warning(at, problem);
    }
}

/// The authorities of client certificates, if they are requested. The outer `None`: problems were reported.
fn client_trust(
    context: &mut Context<'_>,
    written: &document::ListenTls,
    at: At<'_>,
) -> Option<Option<(ClientTrust, Vec<Validity>)>> {
    let Some(path) = &written.client_ca else {
        for key in ["client_certificate", "client_crls"] {
            if at.key(key).present() {
                context
                    .error(at.key(key), format!("`{key}` needs `client_ca`"))
                    .help("write the PEM file of the authorities that issue client certificates");
            }
        }
        return Some(None);
    };
    let required = match written.client_certificate.as_deref() {
        None | Some("optional") => false,
        Some("required") => true,
        Some(other) => {
            context.unknown(at.key("client_certificate"), "value", other, ["optional", "required"]);
            false
        }
    };
    trust(context, path, &written.client_crls, required, at).map(Some)
}

/// The authorities of `client_ca`, and the revocation lists of `client_crls`.
pub(super) fn trust(
    context: &mut Context<'_>,
    path: &str,
    crls: &[String],
    required: bool,
    at: At<'_>,
) -> Option<(ClientTrust, Vec<Validity>)> {
    let authorities = context.read_pem(at.key("client_ca"), path);
    let mut lists = Vec::new();
    for (position, path) in crls.iter().enumerate() {
        lists.push(context.read_pem(at.key("client_crls").index(position), path));
    }
    let (authorities, lists) = (authorities?, lists.into_iter().collect::<Option<Vec<_>>>()?);
    match tls::clients(&authorities, &lists, required) {
        Ok((verifier, validities)) => {
            validity_problems(context, &validities, at.key("client_ca"));
            let texts = std::iter::once(&authorities).chain(&lists).map(|source| &*source.text);
            let mut digest = Sha256::new(&SHA256);
            for text in texts {
                digest.update(&(text.len() as u64).to_be_bytes());
                digest.update(text.as_bytes());
            }
            let identity = digest.finish().as_ref().try_into().unwrap_or_default();
            Some((ClientTrust { identity, verifier }, validities))
        }
        Err(problem) => {
            context.error(at.key("client_ca"), format!("client certificates cannot be checked: {problem}"));
            None
        }
    }
}
