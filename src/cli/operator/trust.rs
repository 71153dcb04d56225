//! Which admin listener a command trusts over TLS, and which certificate the command itself presents.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::address::AdminAddress;
use crate::error_text;

/// How the admin listener is trusted over TLS.
#[derive(Default, clap::Args)]
pub(super) struct TrustArguments {
    /// PEM file of the authorities of an https admin listener; default: with --policy its own certificates, else the system's
    #[arg(long, value_name = "FILE", env = "BARTIZAN_ADMIN_CA", global = true)]
    admin_ca: Option<PathBuf>,
    /// PEM file of the certificate to present, where `admin.tls` asks for one
    #[arg(long, value_name = "FILE", requires = "admin_key", global = true)]
    admin_certificate: Option<PathBuf>,
    /// PEM file of the key of --admin-certificate
    #[arg(long, value_name = "FILE", requires = "admin_certificate", global = true)]
    admin_key: Option<PathBuf>,
}

impl TrustArguments {
    /// Returns the TLS configuration for an address that has TLS. `own`: as for [`Self::config`].
    pub(super) fn of_address(
        &self,
        address: &AdminAddress,
        own: Option<&[CertificateDer<'static>]>,
    ) -> Result<Option<Arc<ClientConfig>>, String> {
        match address {
            AdminAddress::Tls(..) => self.config(own).map(Some),
            AdminAddress::Tcp(_) | AdminAddress::Socket(_) => Ok(None),
        }
    }

    /// Returns the TLS configuration. `own` are the certificates of the listener, if a policy says which they are.
    fn config(&self, own: Option<&[CertificateDer<'static>]>) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let config = match (&self.admin_ca, own) {
            (None, Some(certificates)) => {
                let pinned = Pinned { certificates: certificates.to_vec(), provider };
                config.dangerous().with_custom_certificate_verifier(Arc::new(pinned))
            }
            (ca, _) => {
                let roots = roots(ca.as_deref())?;
                if roots.is_empty() {
                    return Err("the system has no certificate authorities; give --admin-ca".to_owned());
                }
                config.with_root_certificates(roots)
            }
        };
        let (Some(certificate), Some(key)) = (&self.admin_certificate, &self.admin_key) else {
            return Ok(Arc::new(config.with_no_client_auth()));
        };
        let pem = read(key)?;
        let parsed = PrivateKeyDer::from_pem_slice(&pem);
        let parsed =
            parsed.map_err(|_| failed(key, &"it holds no PEM private key; an encrypted one must be decrypted"))?;
        let config = config.with_client_auth_cert(certificates(certificate)?, parsed);
        let other = "it cannot be used with the key of --admin-key; give the key that belongs to it";
        config.map(Arc::new).map_err(|_| failed(certificate, &other))
    }
}

/// Loads the certificate authorities of a file, or else the system's.
pub(in crate::cli::operator) fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|_| failed(file, &"it holds a certificate that is not an authority's"))?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|_| failed(file, &"its PEM is damaged or cut short; copy the file again"))?;
    if found.is_empty() { Err(failed(file, &"it holds no PEM certificate")) } else { Ok(found) }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| failed(file, &error_text::system(&error)))
}

fn failed(file: &Path, why: &dyn fmt::Display) -> String {
    format!("{}: {why}", file.display())
}

/// Trusts these certificates, regardless of their issuers and names: those who have the policy know them.
#[derive(Debug)]
struct Pinned {
    certificates: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.certificates.contains(certificate) {
            return Ok(ServerCertVerified::assertion());
        }
        let other = "its certificate is not the policy's; reload the policy there, or give --admin-ca";
        Err(Error::General(other.to_owned()))
    }

    // The signatures show that the listener has the key of the certificate.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
