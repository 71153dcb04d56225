//! Which certificate of a listener a client is shown: the one for the name that it asks for (SNI, RFC 6066 §3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of a listener by the DNS names that they are issued for.
#[derive(Debug)]
pub(super) struct CertificatesByName {
    /// For clients that ask for no name, or for an unknown one.
    default: Arc<CertifiedKey>,
    /// Lowercase. Several for one name differ in their kind of key; the first that the client can verify is presented.
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// `*.example.com` as `example.com`. It matches one label, as in certificates (RFC 9525 §6.3).
    wildcard: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
}

impl CertificatesByName {
    /// Without any other certificate, the default is presented to every client.
    pub(super) fn new(default: Arc<CertifiedKey>) -> Self {
        Self { default, exact: HashMap::new(), wildcard: HashMap::new() }
    }

    /// Adds a certificate for these names, after those that have been added before. Returns whether any client is shown it:
    /// not if it has no name, or others with the same kind of key have all of them.
    pub(super) fn add(&mut self, key: &Arc<CertifiedKey>, names: &[String]) -> bool {
        let algorithm = key.key.algorithm();
        let mut used = false;
        for name in names {
            let (map, name) = match name.strip_prefix("*.") {
                Some(parent) => (&mut self.wildcard, parent),
                None => (&mut self.exact, name.as_str()),
            };
            let known = map.entry(name.to_ascii_lowercase().into()).or_default();
            if known.iter().all(|other| other.key.algorithm() != algorithm) {
                known.push(Arc::clone(key));
                used = true;
            }
        }
        used
    }

    /// The certificate for this name; of several, the first with a key that the client has a scheme for.
    fn find(&self, name: &str, schemes: &[SignatureScheme]) -> &Arc<CertifiedKey> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let found = self.exact.get(&*name).or_else(|| self.wildcard.get(parent?));
        let verifiable = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(schemes).is_some();
        let found = found.and_then(|found| found.iter().find(verifiable).or(found.first()));
        found.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().map(|name| self.find(name, hello.signature_schemes()));
        Some(Arc::clone(found.unwrap_or(&self.default)))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    fn certified(algorithm: &'static SignatureAlgorithm) -> Arc<CertifiedKey> {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&pair).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        let key = super::super::provider().key_provider.load_private_key(key).unwrap();
        Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key))
    }

    #[test]
    fn the_certificate_is_found_by_the_name_that_is_asked_for() {
        let [default, api, any, edwards] =
            [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P256_SHA256, &PKCS_ED25519].map(certified);
        let mut by_name = CertificatesByName::new(Arc::clone(&default));
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert!(by_name.add(&default, &names(&["example.com"])));
        assert!(by_name.add(&api, &names(&["API.example.com", "example.com"])));
        assert!(by_name.add(&any, &names(&["*.example.com"])));
        assert!(by_name.add(&edwards, &names(&["api.example.com"])));
        assert!(!by_name.add(&any, &names(&["*.example.com", "api.example.com"])), "others have these names");
        assert!(!by_name.add(&any, &[]), "no client can ask for it");
        let (ecdsa, ed25519) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519);
        for (name, schemes, expected) in [
            ("example.com", &[ecdsa][..], &default),
            ("api.example.com", &[ecdsa], &api),
            ("Api.Example.COM.", &[ecdsa], &api),
            ("api.example.com", &[ed25519, ecdsa], &api),
            ("api.example.com", &[ed25519], &edwards),
            ("api.example.com", &[], &api),
            ("other.example.com", &[ecdsa], &any),
            ("a.other.example.com", &[ecdsa], &default),
            ("com", &[ecdsa], &default),
            ("", &[ecdsa], &default),
            ("*.example.com", &[ecdsa], &any),
        ] {
            assert!(Arc::ptr_eq(by_name.find(name, schemes), expected), "{name} {schemes:?}");
        }
    }
}
