//! Client certificates: reads their names, and decides whether the certificate of a connection is still valid.
//!
//! rustls verifies the chain when a connection is opened. The connection may outlive the certificate, so on every request the
//! validity period is checked again, and, if authorities or revocation lists have changed, the chain is verified again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::claims::refuse;
use crate::exchange::{CertificateName, ClientCertificate};
use crate::refusal::{Reason, Refusal};
use crate::state::registry::entry::Digest;

/// Most names of a certificate that are read.
const MAX_NAMES: usize = 32;

/// The authorities that a listener accepts client certificates from.
#[derive(Clone)]
pub(crate) struct ClientTrust {
    /// Digest of the authorities and revocation lists.
    pub(crate) identity: Digest,
    /// Verifies chains.
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTrust")
    }
}

/// The trust of every listener that requests client certificates, by its address in the policy.
pub(crate) type Trusts = HashMap<SocketAddr, ClientTrust>;

/// Reads the chain that a client has presented to a listener. `None` if it cannot be read, which rustls rules out.
pub(crate) fn read(
    chain: &[CertificateDer<'_>],
    listener: SocketAddr,
    trust: &ClientTrust,
) -> Option<ClientCertificate> {
    let first = chain.first()?;
    let (_, certificate) = X509Certificate::from_der(first).ok()?;
    let mut names = Vec::new();
    if let Ok(Some(found)) = certificate.subject_alternative_name() {
        // A name that is malformed for its kind identifies nobody.
        names.extend(found.value.general_names.iter().take(MAX_NAMES).filter_map(|name| match name {
            GeneralName::DNSName(name) => CertificateName::dns(name),
            GeneralName::URI(name) => CertificateName::uri(name),
            GeneralName::RFC822Name(name) => CertificateName::email(name),
            _ => None,
        }));
    }
    Some(ClientCertificate {
        thumbprint: Digest::try_from(digest(&SHA256, first).as_ref()).ok()?,
        names: names.into(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
        listener,
        trusted_by: trust.identity,
    })
}

/// Decides whether a certificate that was verified when its connection was opened is still valid.
pub(super) fn check(certificate: &ClientCertificate, trusts: &Trusts, now: Timestamp) -> Result<(), Refusal> {
    let refused = |detail: &'static str| refuse(Reason::InvalidCertificate, detail);
    let second = now.as_second();
    if second > certificate.not_after || second < certificate.not_before {
        return Err(refused("the client certificate has expired or is not valid yet; use a valid one"));
    }
    let Some(trust) = trusts.get(&certificate.listener) else {
        return Err(refused("this listener no longer accepts client certificates; reconnect"));
    };
    if trust.identity == certificate.trusted_by {
        return Ok(());
    }
    let Some((first, rest)) = certificate.chain.split_first() else {
        return Err(refused("the client certificate cannot be read"));
    };
    let since = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(second).unwrap_or_default()));
    trust.verifier.verify_client_cert(first, rest, since).map(drop).map_err(|error| {
        refused("the client certificate is no longer trusted; reconnect with another").cause(error.to_string())
    })
}
