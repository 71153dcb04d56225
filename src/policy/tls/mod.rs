//! Builds rustls configurations for listeners and upstream servers from certificates, keys and authorities.

mod by_name;
mod pinned;

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use self::by_name::CertificatesByName;
pub(super) use self::pinned::KeyPin;
use self::pinned::Pinned;
use super::source::SourceText;
use super::validity::{Validity, ValidityKind};

/// Protocols of listeners, in order of preference (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Smallest RSA key that TLS accepts, in bits.
const MIN_RSA_BITS: usize = 2048;

/// What is wrong with a file that has no certificate.
const EMPTY: &str = "holds no PEM certificate";

/// A certificate of a listener, with its key.
pub(super) struct ServerCertificate {
    key: Arc<CertifiedKey>,
    /// The DNS names that it is issued for (RFC 5280 §4.2.1.6).
    names: Vec<String>,
    /// Those of its chain.
    pub(super) validities: Vec<Validity>,
}

impl ServerCertificate {
    /// Reads a PEM chain and its key. The error says which of the two is wrong.
    pub(super) fn new(file: &SourceText, key: &[u8]) -> Result<Self, ServerProblem> {
        let chain = certificates(file.text.as_bytes()).map_err(ServerProblem::Certificate)?;
        let own = chain.first().and_then(|own| X509Certificate::from_der(own).ok());
        let (_, own) = own.ok_or_else(|| ServerProblem::Certificate("is not an X.509 certificate".to_owned()))?;
        if let Some(bits) = weak_rsa(&own) {
            let problem =
                format!("has an RSA key of {bits} bits; TLS needs at least {MIN_RSA_BITS}: issue it for a new key");
            return Err(ServerProblem::Certificate(problem));
        }
        let names = dns_names(&own);
        let validities = Validity::of_certificates(ValidityKind::Certificate, &file.name, &chain);
        let key = private_key(key).map_err(ServerProblem::Key)?;
        let key = certified(chain, &key)?;
        Ok(Self { key, names, validities })
    }

    /// The first of its chain.
    pub(super) fn der(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }
}

/// Builds the TLS configuration of a listener that presents the certificate for the name that a client asks for, and the
/// first to all others. Beside it, the positions of certificates that no client is ever shown.
pub(super) fn server(
    first: &ServerCertificate,
    others: &[ServerCertificate],
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<(Arc<ServerConfig>, Vec<usize>), String> {
    let mut by_name = CertificatesByName::new(Arc::clone(&first.key));
    by_name.add(&first.key, &first.names);
    let mut unused = Vec::new();
    for (position, other) in (1..).zip(others) {
        if !by_name.add(&other.key, &other.names) {
            unused.push(position);
        }
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_cert_resolver(Arc::new(by_name));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok((Arc::new(config), unused))
}

/// The DNS names of a certificate; wildcards begin with `*.`.
fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}

/// Returns the same configuration for HTTP/1.1 alone.
pub(super) fn http1_only(config: &ServerConfig) -> Arc<ServerConfig> {
    let [_, http1] = PROTOCOLS;
    let mut config = config.clone();
    config.alpn_protocols = vec![http1.to_vec()];
    Arc::new(config)
}

/// The size of a certificate's RSA key in bits, if it is too small for TLS.
fn weak_rsa(certificate: &X509Certificate<'_>) -> Option<usize> {
    match certificate.public_key().parsed().ok()? {
        PublicKey::RSA(key) => Some(key.key_size()).filter(|bits| *bits < MIN_RSA_BITS),
        _ => None,
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let has = |text: &[u8]| memchr::memmem::find(pem, text).is_some();
    // PKCS #8 (RFC 5958 §3), and the older format of OpenSSL.
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err("is encrypted, and nobody is there to type its passphrase: decrypt it with \
                    `openssl pkey -in ENCRYPTED -out KEY`"
            .to_owned());
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => "is not a PEM private key".to_owned(),
        error => format!("is not a PEM private key: {}", pem_words(&error)),
    })
}

/// Joins a chain and the key of its first certificate.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, ServerProblem> {
    let signing = provider().key_provider.load_private_key(key.clone_key());
    let signing = signing.map_err(|_| {
        ServerProblem::Key("is of a kind that TLS does not use; it needs an EC, Ed25519 or RSA key".to_owned())
    })?;
    let belongs = |certificate: &CertificateDer<'static>| belongs(certificate, &signing);
    match chain.iter().position(belongs) {
        Some(0) => Ok(Arc::new(CertifiedKey::new(chain, signing))),
        Some(position) => Err(ServerProblem::Certificate(format!(
            "begins with another certificate: the one that belongs to the key is number {}; put it first, and then the \
             authorities that signed it",
            position.saturating_add(1)
        ))),
        None => Err(ServerProblem::Key("does not belong to the certificate".to_owned())),
    }
}

fn belongs(certificate: &CertificateDer<'static>, key: &Arc<dyn SigningKey>) -> bool {
    CertifiedKey::new(vec![certificate.clone()], Arc::clone(key)).keys_match().is_ok()
}

/// What is wrong with a PEM file.
fn pem_words(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it is cut short: an `-----END …-----` line is missing",
        pem::Error::IllegalSectionStart { .. } => "a `-----BEGIN …-----` line is broken",
        pem::Error::Base64Decode(_) => "its Base64 is damaged",
        pem::Error::SectionTooLarge => "it is too large",
        _ => "it cannot be read",
    }
}

/// Builds a verifier of client certificates from authorities and revocation lists (RFC 5280 §5), each a PEM file.
pub(super) fn clients(
    authorities: &SourceText,
    lists: &[Arc<SourceText>],
    required: bool,
) -> Result<(Arc<dyn ClientCertVerifier>, Vec<Validity>), String> {
    let (mut crls, mut validities) = (Vec::new(), Vec::new());
    for list in lists {
        let found: Vec<_> = CertificateRevocationListDer::pem_slice_iter(list.text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{} is not a PEM revocation list: {}", list.name, pem_words(&error)))?;
        if found.is_empty() {
            return Err(format!("{} holds no PEM revocation list", list.name));
        }
        validities.extend(Validity::of_lists(&list.name, &found));
        crls.extend(found);
    }
    let trusted = certificates(authorities.text.as_bytes())?;
    validities.extend(Validity::of_certificates(ValidityKind::ClientCa, &authorities.name, &trusted));
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots_of(trusted)?), provider());
    if !crls.is_empty() {
        // A list covers only its own issuer; an expired list is rejected.
        builder = builder.with_crls(crls).allow_unknown_revocation_status().enforce_revocation_expiration();
    }
    if !required {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| error.to_string())?;
    Ok((verifier, validities))
}

/// The part of a listener's TLS that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServerProblem {
    Certificate(String),
    Key(String),
}

/// Builds the TLS configuration for upstream servers, trusting the authorities of a PEM file.
pub(super) fn client(authorities: &[u8]) -> Result<Arc<ClientConfig>, String> {
    trusting(roots(authorities)?)
}

/// The same configuration, presenting a certificate. The error says which of the two is wrong.
pub(super) fn presenting(
    config: &ClientConfig,
    file: &SourceText,
    key: &[u8],
) -> Result<Arc<ClientConfig>, ServerProblem> {
    let chain = certificates(file.text.as_bytes()).map_err(ServerProblem::Certificate)?;
    let key = private_key(key).map_err(ServerProblem::Key)?;
    let key = certified(chain, &key)?;
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
    Ok(Arc::new(config))
}

/// The same configuration, for servers whose certificate has one of these keys. `authorities` is the PEM file of those that it
/// trusts; absent: the system's.
pub(super) fn pinned(
    config: &ClientConfig,
    authorities: Option<&[u8]>,
    pins: &[KeyPin],
) -> Result<Arc<ClientConfig>, String> {
    let roots = authorities.map_or_else(system_roots, roots)?;
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let usual = usual.build().map_err(|error| error.to_string())?;
    let mut config = config.clone();
    // A session that is resumed was verified as this configuration verifies.
    config.resumption = rustls::client::Resumption::default();
    config.dangerous().set_certificate_verifier(Arc::new(Pinned::new(usual, pins)));
    Ok(Arc::new(config))
}

fn roots(authorities: &[u8]) -> Result<RootCertStore, String> {
    roots_of(certificates(authorities)?)
}

fn roots_of(authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate).map_err(|error| format!("has a certificate that is not an authority's: {error}"))?;
    }
    Ok(roots)
}

/// Builds the TLS configuration for upstream servers, trusting the system's authorities.
pub(super) fn system_client() -> Result<Arc<ClientConfig>, String> {
    trusting(system_roots()?)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("the system has no certificate authorities (install ca-certificates, or give `ca:`)".to_owned());
    }
    Ok(roots)
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not a PEM certificate: {}", pem_words(&error)))?;
    if found.is_empty() { Err(EMPTY.to_owned()) } else { Ok(found) }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
