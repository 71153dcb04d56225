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
    Basic(String, String),
    Form(Presented<'a>),
}

impl Credentials<'_> {
    pub(super) fn as_presented(&self) -> Presented<'_> {
        match self {
            Self::Basic(id, secret) => Presented::Secret { id, secret },
            Self::Form(presented) => *presented,
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
            let (named, secret) = basic(value.as_bytes())?;
            if id.is_some_and(|id| id != named) {
                return Err(malformed("`client_id` is not the client of the Authorization header"));
            }
            Ok(Credentials::Basic(named, secret))
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

/// RFC 7617; id and secret are encoded as form parameters (RFC 6749 §2.3.1).
fn basic(value: &[u8]) -> Result<(String, String), Refusal> {
    let wrong = || refuse(Reason::InvalidClient, "the Authorization header has no valid Basic credentials");
    let (scheme, encoded) = value.split_at_checked(BASIC.len()).ok_or_else(wrong)?;
    if !scheme.eq_ignore_ascii_case(BASIC) {
        return Err(wrong());
    }
    let bytes = STANDARD.decode(encoded.trim_ascii()).map_err(|_| wrong())?;
    let at = memchr::memchr(b':', &bytes).ok_or_else(wrong)?;
    let (id, secret) = bytes.split_at_checked(at).ok_or_else(wrong)?;
    Ok((decoded(id)?, decoded(secret.get(1..).unwrap_or_default())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_of_two_encodings() {
        let header = |text: &str| format!("bAsIc {}", STANDARD.encode(text)).into_bytes();
        for (value, expected) in [
            (header("acme:s3cret"), Some(("acme", "s3cret"))),
            (header("a%3Ab:x+y%2B:z"), Some(("a:b", "x y+:z"))),
            (header(":"), Some(("", ""))),
            (header("acme"), None),
            (b"Basic !!".to_vec(), None),
            (b"Bearer abc".to_vec(), None),
            (b"Basic".to_vec(), None),
        ] {
            let parsed = basic(&value).ok();
            assert_eq!(parsed.as_ref().map(|(id, secret)| (id.as_str(), secret.as_str())), expected, "{value:?}");
        }
    }
}
