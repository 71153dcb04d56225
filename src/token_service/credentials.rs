//! How a client presents itself (RFC 6749 §2.3, RFC 7521 §4.2, RFC 8705 §2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::form::{Form, decoded};
use super::service::{malformed, refuse};
use crate::refusal::{Reason, Refusal};
use crate::stages::auth::client::Presented;

/// RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// With the space after it; case-insensitive (RFC 9110 §11.1).
const BASIC: &[u8] = b"basic ";

/// What a request has of a client.
pub(super) enum Credentials<'a> {
    /// One or two readings of the header, as id and secret.
    Basic(Vec<(String, String)>),
    Form(Presented<'a>),
}

impl Credentials<'_> {
    /// The client is who it says to be if one of these is right.
    pub(super) fn readings(&self) -> Vec<Presented<'_>> {
        match self {
            Self::Basic(readings) => readings.iter().map(|(id, secret)| Presented::Secret { id, secret }).collect(),
            Self::Form(presented) => vec![*presented],
        }
    }
}

/// Finds the one credential of a client. More than one is refused (RFC 6749 §2.3).
pub(super) fn of<'a>(headers: &HeaderMap, form: &'a Form) -> Result<Credentials<'a>, Refusal> {
    let id = form.get("client_id");
    let (secret, assertion) = (form.get("client_secret"), form.get("client_assertion"));
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next(), secret, assertion) {
        (Some(value), None, None, None) => {
            let mut readings = basic(value.as_bytes())?;
            readings.retain(|(named, _)| id.is_none_or(|id| id == named));
            if readings.is_empty() {
                return Err(malformed("`client_id` is not the client of the Authorization header"));
            }
            Ok(Credentials::Basic(readings))
        }
        (None, _, Some(secret), None) => {
            let id = id.ok_or_else(|| malformed("`client_id` is missing"))?;
            Ok(Credentials::Form(Presented::Secret { id, secret }))
        }
        (None, _, None, Some(assertion)) => match form.get("client_assertion_type") {
            Some(ASSERTION_TYPE) => Ok(Credentials::Form(Presented::Assertion { id, assertion })),
            _ => Err(malformed(format!("`client_assertion_type` is not {ASSERTION_TYPE}"))),
        },
        (None, _, None, None) => match id {
            Some(id) => Ok(Credentials::Form(Presented::Id(id))),
            None => Err(refuse(Reason::InvalidClient, "send the credential of a client")),
        },
        _ => Err(malformed("send one credential of the client")),
    }
}

/// RFC 7617. Id and secret are encoded as form parameters (RFC 6749 §2.3.1), but many clients, such as curl and Authlib, send
/// them as they are. Where this makes a difference, both readings are returned: first the one of the RFC.
fn basic(value: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let wrong = || refuse(Reason::InvalidClient, "the Authorization header has no valid Basic credentials");
    let (scheme, encoded) = value.split_at_checked(BASIC.len()).ok_or_else(wrong)?;
    if !scheme.eq_ignore_ascii_case(BASIC) {
        return Err(wrong());
    }
    let bytes = STANDARD.decode(encoded.trim_ascii()).map_err(|_| wrong())?;
    let at = memchr::memchr(b':', &bytes).ok_or_else(wrong)?;
    let (id, secret) = bytes.split_at_checked(at).ok_or_else(wrong)?;
    let secret = secret.get(1..).unwrap_or_default();
    let as_form = decoded(id).ok().zip(decoded(secret).ok());
    let as_sent = str::from_utf8(id).ok().zip(str::from_utf8(secret).ok());
    let as_sent = as_sent.map(|(id, secret)| (id.to_owned(), secret.to_owned()));
    let mut readings: Vec<_> = as_form.into_iter().chain(as_sent).collect();
    readings.dedup();
    if readings.is_empty() { Err(wrong()) } else { Ok(readings) }
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
            let readings = basic(&value).unwrap_or_default();
            let readings: Vec<_> = readings.iter().map(|(id, secret)| (id.as_str(), secret.as_str())).collect();
            assert_eq!(readings, expected, "{}", String::from_utf8_lossy(&value));
        }
    }
}
