//! Reads the Basic credentials of a client of the token service (RFC 6749 §2.3.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;

use super::claims::refuse;
use crate::refusal::{Reason, Refusal};

/// With the space after it; case-insensitive (RFC 9110 §11.1).
const BASIC: &[u8] = b"basic ";

/// RFC 7617. Id and secret are encoded as form parameters (RFC 6749 §2.3.1), but many clients, such as curl and Authlib, send
/// them as they are. Where this makes a difference, both readings are returned: first the one of the RFC.
pub(crate) fn readings(value: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let wrong = || refuse(Reason::InvalidClient, "the Authorization header has no valid Basic credentials");
    let (scheme, encoded) = value.split_at_checked(BASIC.len()).ok_or_else(wrong)?;
    if !scheme.eq_ignore_ascii_case(BASIC) {
        return Err(wrong());
    }
    let bytes = STANDARD.decode(encoded.trim_ascii()).map_err(|_| wrong())?;
    let at = memchr::memchr(b':', &bytes).ok_or_else(wrong)?;
    let (id, secret) = bytes.split_at_checked(at).ok_or_else(wrong)?;
    let secret = secret.get(1..).unwrap_or_default();
    let as_form = decoded(id).zip(decoded(secret));
    let as_sent = str::from_utf8(id).ok().zip(str::from_utf8(secret).ok());
    let as_sent = as_sent.map(|(id, secret)| (id.to_owned(), secret.to_owned()));
    let mut readings: Vec<_> = as_form.into_iter().chain(as_sent).collect();
    readings.dedup();
    if readings.is_empty() { Err(wrong()) } else { Ok(readings) }
}

/// Decodes `+` and escapes of a form (RFC 6749 Appendix B); `None` if the text is not UTF-8 afterwards.
pub(crate) fn decoded(text: &[u8]) -> Option<String> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    String::from_utf8(percent_decode(&spaced).collect()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_of_two_encodings() {
        let header = |text: &str| format!("bAsIc {}", STANDARD.encode(text)).into_bytes();
        for (value, expected) in [
            (header("acme:s3cret"), vec![("acme", "s3cret")]),
            (header("a%3Ab:x+y%2B:z"), vec![("a:b", "x y+:z"), ("a%3Ab", "x+y%2B:z")]),
            (header("acme:%zz"), vec![("acme", "%zz")]),
            (header("acme:100%ff"), vec![("acme", "100%ff")]),
            (header(":"), vec![("", "")]),
            (header("acme"), vec![]),
            (format!("Basic {}", STANDARD.encode(b"acme:\xff")).into_bytes(), vec![]),
            (b"Basic !!".to_vec(), vec![]),
            (b"Bearer abc".to_vec(), vec![]),
            (b"Basic".to_vec(), vec![]),
        ] {
            let readings = readings(&value).unwrap_or_default();
            let readings: Vec<_> = readings.iter().map(|(id, secret)| (id.as_str(), secret.as_str())).collect();
            assert_eq!(readings, expected, "{}", String::from_utf8_lossy(&value));
        }
    }
}
