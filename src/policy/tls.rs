//! Builds rustls configurations for listeners and upstream servers from certificates, keys and authorities.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::source::SourceText;

/// Protocols of listeners, in order of preference (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Builds the TLS configuration of a listener from a PEM chain and its key. The error says which of the two is wrong.
pub(super) fn server(
    chain: &[u8],
    key: &[u8],
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, ServerProblem> {
    let chain = certificates(chain).map_err(ServerProblem::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| ServerProblem::Key(format!("is not a PEM private key: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| ServerProblem::Certificate(error.to_string()))?
        .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_single_cert(chain, key)
        .map_err(|error| ServerProblem::Key(format!("does not belong to the certificate: {error}")))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}

/// Builds a verifier of client certificates from authorities and revocation lists (RFC 5280 §5), each a PEM file.
pub(super) fn clients(
    authorities: &[u8],
    lists: &[Arc<SourceText>],
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut crls = Vec::new();
    for list in lists {
        let found: Vec<_> = CertificateRevocationListDer::pem_slice_iter(list.text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{} is not a PEM revocation list: {error}", list.name))?;
        if found.is_empty() {
            return Err(format!("{} holds no PEM revocation list", list.name));
        }
        crls.extend(found);
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authorities)?), provider());
    if !crls.is_empty() {
        // A list covers only its own issuer; an expired list is rejected.
        builder = builder.with_crls(crls).allow_unknown_revocation_status().enforce_revocation_expiration();
    }
    if !required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| error.to_string())
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

fn roots(authorities: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities)? {
        roots.add(certificate).map_err(|error| format!("has a certificate that is not an authority's: {error}"))?;
    }
    Ok(roots)
}

/// Builds the TLS configuration for upstream servers, trusting the system's authorities.
pub(super) fn system_client() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("the system has no certificate authorities (install ca-certificates, or give `ca:`)".to_owned());
    }
    trusting(roots)
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
        .map_err(|error| format!("is not a PEM certificate: {error}"))?;
    if found.is_empty() { Err("holds no PEM certificate".to_owned()) } else { Ok(found) }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
