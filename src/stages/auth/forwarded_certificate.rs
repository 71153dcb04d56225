//! Client certificates that a trusted proxy has seen, and passes on in a header field.
//!
//! The proxy says that the client has the key of the certificate: it has made the handshake. Whose certificate it is, is not
//! its word alone: the chain is verified here, against the authorities of the listener.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode;
use quick_cache::unsync::Cache;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::certificate::{self, ClientTrust};
use super::claims::refuse;
use crate::exchange::ClientCertificate;
use crate::refusal::{Reason, Refusal};

/// The certificate of the client (RFC 9440 §2.2), and those above it (§2.3).
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// The field of Envoy.
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// How long a chain that was verified need not be verified again: authorities within it may end meanwhile.
const FRESH: SignedDuration = SignedDuration::from_secs(60);
/// Most chains that are known to be verified.
const MAX_VERIFIED: usize = 512;
/// Most certificates of a chain.
const MAX_CHAIN: usize = 10;

/// How a proxy writes a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificateFormat {
    /// `Client-Cert` and `Client-Cert-Chain` (RFC 9440).
    Rfc9440,
    /// `X-Forwarded-Client-Cert`, with `Cert` or `Chain`.
    Xfcc,
}

impl CertificateFormat {
    /// All of them, as the policy names them.
    pub(crate) const ALL: [(&'static str, Self); 2] = [("rfc9440", Self::Rfc9440), ("xfcc", Self::Xfcc)];
}

/// The client certificates that trusted proxies pass on to a listener.
#[derive(Debug, Clone)]
pub(crate) struct ForwardedCertificates {
    pub(crate) format: CertificateFormat,
    /// The authorities that sign them.
    pub(crate) trust: ClientTrust,
}

/// The chains that were verified last, so that not every request of a client takes another verification. Each worker has its own
/// for each policy, and with it for each set of authorities and revocation lists.
pub(crate) struct VerifiedChains(RefCell<Cache<[u8; 32], Verified>>);

/// A chain that was verified.
#[derive(Clone)]
struct Verified {
    at: Timestamp,
    certificate: Arc<ClientCertificate>,
}

impl VerifiedChains {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(RefCell::new(Cache::new(MAX_VERIFIED)))
    }

    /// The certificate of a chain, if it was verified a short time ago and is still valid.
    fn get(&self, key: &[u8; 32], now: Timestamp) -> Option<Arc<ClientCertificate>> {
        let Verified { at, certificate } = self.0.borrow().get(key)?.clone();
        let is_fresh = now.duration_since(at).abs() < FRESH;
        let is_valid = (certificate.not_before..=certificate.not_after).contains(&now.as_second());
        (is_fresh && is_valid).then_some(certificate)
    }
}

/// The field is not what its format says.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

impl ForwardedCertificates {
    /// Whether a trusted proxy says anything of a certificate.
    pub(crate) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let fields: &[HeaderName] = match self.format {
            CertificateFormat::Rfc9440 => &[CLIENT_CERT],
            CertificateFormat::Xfcc => &[X_FORWARDED_CLIENT_CERT],
        };
        fields.iter().any(|field| headers.contains_key(field))
    }

    /// Reads the client's certificate from the fields of a trusted proxy; `None` if the client showed none.
    ///
    /// # Errors
    /// It cannot be read, or its chain is not valid.
    pub(crate) fn read(
        &self,
        headers: &HeaderMap,
        listener: SocketAddr,
        now: Timestamp,
        verified: &VerifiedChains,
    ) -> Result<Option<Arc<ClientCertificate>>, Refusal> {
        let refused = |detail: &'static str| refuse(Reason::InvalidCertificate, detail);
        let unreadable = || refused("the client certificate that the proxy passes on cannot be read");
        let chain = match self.format {
            CertificateFormat::Rfc9440 => rfc9440(headers),
            CertificateFormat::Xfcc => xfcc(headers),
        };
        let chain = chain.map_err(|Malformed| unreadable())?;
        let Some((first, rest)) = chain.split_first() else { return Ok(None) };
        let key = key(&chain, listener);
        if let Some(certificate) = verified.get(&key, now) {
            return Ok(Some(certificate));
        }
        let read = certificate::read(&chain, listener, &self.trust).ok_or_else(unreadable)?;
        let since = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default()));
        self.trust.verifier.verify_client_cert(first, rest, since).map_err(|error| {
            refused("the client certificate is not trusted, or not valid now; use another").cause(error.to_string())
        })?;
        let certificate = Arc::new(read);
        verified.0.borrow_mut().insert(key, Verified { at: now, certificate: Arc::clone(&certificate) });
        Ok(Some(certificate))
    }
}

/// What a chain is known by.
fn key(chain: &[CertificateDer<'_>], listener: SocketAddr) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(listener.to_string().as_bytes());
    for certificate in chain {
        hash.update(&certificate.len().to_be_bytes());
        hash.update(certificate);
    }
    let mut key = [0; 32];
    key.copy_from_slice(hash.finish().as_ref());
    key
}

/// The chain of `Client-Cert` and `Client-Cert-Chain`; empty if there is none.
fn rfc9440(headers: &HeaderMap) -> Result<Vec<CertificateDer<'static>>, Malformed> {
    let mut leaves = headers.get_all(CLIENT_CERT).iter();
    let Some(leaf) = leaves.next() else { return Ok(Vec::new()) };
    if leaves.next().is_some() {
        return Err(Malformed);
    }
    let above = headers.get_all(CLIENT_CERT_CHAIN).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let chain = std::iter::once(leaf.as_bytes()).chain(above).map(byte_sequence);
    bounded(chain.collect::<Result<_, _>>()?)
}

/// Decodes a byte sequence of structured fields (RFC 8941 §3.3.5): `:BASE64:`.
fn byte_sequence(text: &[u8]) -> Result<CertificateDer<'static>, Malformed> {
    let inner = text.trim_ascii().strip_prefix(b":").and_then(|rest| rest.strip_suffix(b":")).ok_or(Malformed)?;
    let der = STANDARD.decode(inner).map_err(|_| Malformed)?;
    if der.is_empty() { Err(Malformed) } else { Ok(der.into()) }
}

/// The chain of `X-Forwarded-Client-Cert`: that of the last element, which the trusted proxy itself has added. Empty if there is
/// none.
fn xfcc(headers: &HeaderMap) -> Result<Vec<CertificateDer<'static>>, Malformed> {
    let Some(last) = headers.get_all(X_FORWARDED_CLIENT_CERT).iter().next_back() else { return Ok(Vec::new()) };
    let (mut leaf, mut chain) = (None, None);
    for (key, value) in last_element(last)? {
        let place = match key.to_ascii_lowercase().as_slice() {
            b"cert" => &mut leaf,
            b"chain" => &mut chain,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(Malformed);
        }
    }
    // A hash or a name alone cannot be verified.
    let pem = chain.or(leaf).ok_or(Malformed)?;
    let pem: Vec<u8> = percent_decode(&pem).collect();
    let certificates = CertificateDer::pem_slice_iter(&pem).take(MAX_CHAIN + 1).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| Malformed)?;
    if certificates.is_empty() { Err(Malformed) } else { bounded(certificates) }
}

fn bounded(chain: Vec<CertificateDer<'static>>) -> Result<Vec<CertificateDer<'static>>, Malformed> {
    if chain.len() > MAX_CHAIN { Err(Malformed) } else { Ok(chain) }
}

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// The keys and values of the last element: `Key=Value` with `;` between them, `,` between elements; values may be in double
/// quotes, with `\` before a quote.
fn last_element(field: &HeaderValue) -> Result<Vec<Pair>, Malformed> {
    let mut pairs = Vec::new();
    let mut bytes = field.as_bytes().iter().copied().peekable();
    loop {
        let mut key = Vec::new();
        loop {
            match bytes.next() {
                Some(b'=') => break,
                Some(b' ' | b'\t') if key.is_empty() => {}
                Some(byte) if byte.is_ascii_alphanumeric() => key.push(byte),
                _ => return Err(Malformed),
            }
        }
        let mut value = Vec::new();
        if bytes.next_if_eq(&b'"').is_some() {
            loop {
                match bytes.next().ok_or(Malformed)? {
                    b'"' => break,
                    b'\\' => value.push(bytes.next().ok_or(Malformed)?),
                    byte => value.push(byte),
                }
            }
        } else {
            while let Some(byte) = bytes.next_if(|byte| !matches!(byte, b';' | b',')) {
                value.push(byte);
            }
        }
        pairs.push((key, value));
        match bytes.next() {
            None => return Ok(pairs),
            Some(b';') => {}
            Some(b',') => pairs.clear(),
            Some(_) => return Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(field: &str) -> Option<Vec<(String, String)>> {
        let read = last_element(&HeaderValue::from_str(field).unwrap()).ok()?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Some(read.into_iter().map(|(key, value)| (text(key), text(value))).collect())
    }

    #[test]
    fn a_chain_is_verified_again_after_a_while_and_not_beyond_its_end() {
        let (verified, listener) = (VerifiedChains::new(), SocketAddr::from(([127, 0, 0, 1], 9)));
        let chain = |text: &'static [u8]| [CertificateDer::from(text), CertificateDer::from(&b"authority"[..])];
        let certificate = ClientCertificate {
            thumbprint: [0; 32],
            names: Box::default(),
            not_before: 0,
            not_after: 1030,
            chain: Box::default(),
            listener,
            trusted_by: [0; 32],
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let known = key(&chain(b"leaf"), listener);
        verified.0.borrow_mut().insert(known, Verified { at: at(1000), certificate: Arc::new(certificate) });
        let found = [1000, 1030, 1031, 941, 940].map(|second| verified.get(&known, at(second)).is_some());
        assert_eq!(found, [true, true, false, true, false]);
        let others = [
            key(&chain(b"other"), listener),
            key(&chain(b"leafauthority")[..1], listener),
            key(&chain(b"leaf"), SocketAddr::from(([127, 0, 0, 1], 8))),
        ];
        assert!(others.iter().all(|other| verified.get(other, at(1000)).is_none()));
    }

    #[test]
    fn the_last_element_of_xfcc_counts() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        for (field, expected) in [
            ("Hash=ab", Some(vec![pair("Hash", "ab")])),
            (
                "Hash=ab;Cert=\"a%0A\";Subject=\"CN=\\\"x, y;\\\"\"",
                Some(vec![pair("Hash", "ab"), pair("Cert", "a%0A"), pair("Subject", "CN=\"x, y;\"")]),
            ),
            ("By=x;Cert=forged, By=y;Cert=\"own\"", Some(vec![pair("By", "y"), pair("Cert", "own")])),
            ("Cert=\"a,Cert=b\"", Some(vec![pair("Cert", "a,Cert=b")])),
            ("Cert=", Some(vec![pair("Cert", "")])),
            ("Cert", None),
            ("", None),
            ("Cert=\"a", None),
            ("Cert=\"a\"b", None),
            ("Cert=\"a\\", None),
            ("Cert=a;", None),
            ("Cert=a,", None),
        ] {
            assert_eq!(element(field), expected, "{field}");
        }
    }

    #[test]
    fn byte_sequences_are_read_strictly() {
        for (text, good) in
            [(":AQID:", true), (" :AQID: ", true), ("::", false), (":AQID", false), ("AQID", false), (":A*:", false)]
        {
            assert_eq!(byte_sequence(text.as_bytes()).is_ok(), good, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_field_is_read(field in "[ -~]{0,80}") {
            let value = HeaderValue::from_str(&field).unwrap();
            let _ = last_element(&value);
            let headers = HeaderMap::from_iter([(X_FORWARDED_CLIENT_CERT, value.clone()), (CLIENT_CERT, value)]);
            let _ = (xfcc(&headers), rfc9440(&headers));
        }
    }
}
