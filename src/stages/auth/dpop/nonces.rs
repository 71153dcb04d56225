//! Issues and verifies the nonces of proofs (RFC 9449 §8), without storing them.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use super::hash::truncated;

/// How long a nonce is valid, in seconds.
const NONCE_AGE: u64 = 300;

/// Issues and verifies nonces. A nonce is base64url of the second of issue, in 8 bytes, and of 16 bytes of an HMAC-SHA-256
/// over them.
#[derive(Debug)]
pub(crate) struct Nonces {
    /// Its `Debug` shows the algorithm only. Absent if the system has no random bytes: then no nonce is valid.
    key: Option<hmac::Key>,
}

impl Nonces {
    /// Generates a new key, which only this process has.
    pub(crate) fn new() -> Self {
        let mut key = [0; 32];
        let filled = aws_lc_rs::rand::fill(&mut key);
        Self { key: filled.is_ok().then(|| hmac::Key::new(hmac::HMAC_SHA256, &key)) }
    }

    /// Issues a nonce, as the value of a `DPoP-Nonce` header (RFC 9449 §8.1).
    pub(crate) fn issue(&self, now: Timestamp) -> HeaderValue {
        let text = URL_SAFE_NO_PAD.encode(self.sealed(now.as_second()));
        // Base64url is always a valid header value. An empty nonce would not be accepted.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// Decides whether a nonce was issued here, and is not too old.
    pub(crate) fn accepts(&self, nonce: &str, now: Timestamp) -> bool {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).unwrap_or_default();
        bytes.first_chunk::<8>().is_some_and(|issued| {
            let issued = i64::from_be_bytes(*issued);
            // The clock that issued it may be ahead of ours, hence the absolute difference.
            let young = now.as_second().abs_diff(issued) <= NONCE_AGE;
            let ours = bool::from(bytes.as_slice().ct_eq(self.sealed(issued).as_slice()));
            self.key.is_some() && ours && young
        })
    }

    fn sealed(&self, issued: i64) -> Vec<u8> {
        let issued = issued.to_be_bytes();
        let tag = self.key.as_ref().map(|key| truncated(hmac::sign(key, &issued).as_ref()));
        [issued.as_slice(), tag.unwrap_or_default().as_slice()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn nonces_are_ours_and_young() {
        let nonces = Nonces::new();
        let nonce = nonces.issue(at(NOW)).to_str().unwrap().to_owned();
        for (now, good) in [(NOW, true), (NOW + 300, true), (NOW + 301, false), (NOW - 300, true), (NOW - 301, false)] {
            assert_eq!(nonces.accepts(&nonce, at(now)), good, "{}", now - NOW);
        }
        let bytes = URL_SAFE_NO_PAD.decode(&nonce).unwrap();
        assert_eq!(bytes.len(), 24);
        for at_byte in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at_byte] ^= 1;
            assert!(!nonces.accepts(&encode(&other), at(NOW)), "byte {at_byte}");
        }
        for other in ["", "A", "AAAAAAAAAAA", &nonce[..31], &format!("{nonce}="), &format!("{nonce}AAAA"), "é"] {
            assert!(!nonces.accepts(other, at(NOW)), "{other}");
        }
        assert!(!nonces.accepts(&encode([0xff; 24]), at(NOW)) && !nonces.accepts(&encode([0x80; 24]), at(NOW)));
        assert!(!Nonces::new().accepts(&nonce, at(NOW)), "another process");
        assert_eq!(format!("{:?}", Nonces::new()), format!("{:?}", Nonces::new()), "keys are not printed");
    }
}
