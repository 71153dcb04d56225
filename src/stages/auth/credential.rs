//! Finds the credential of a request: a token, an API key, or, if there is neither, a client certificate.
//!
//! Nothing is verified here. A request with two credentials is refused.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::claims::refuse;
use crate::refusal::{Reason, Refusal, Stage};

/// How a token was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// RFC 6750 §2.1.
    Bearer,
    /// With a proof of possession (RFC 9449 §7.1).
    Dpop,
}

/// The schemes, each with the space after it; case-insensitive (RFC 9110 §11.1).
const SCHEMES: [(&[u8], Scheme); 2] = [(b"bearer ", Scheme::Bearer), (b"dpop ", Scheme::Dpop)];

/// The one credential of a request.
pub(super) enum Credential<'a> {
    /// A token, not verified.
    Token(Scheme, &'a [u8]),
    /// An API key, not verified.
    Key(&'a [u8]),
    /// No header contains one.
    None,
}

/// Finds the credential in the headers.
pub(super) fn find<'a>(headers: &'a HeaderMap, key_header: &HeaderName) -> Result<Credential<'a>, Refusal> {
    let mut authorization = headers.get_all(AUTHORIZATION).iter();
    let mut key = headers.get_all(key_header).iter();
    match (authorization.next(), key.next(), authorization.next().is_some() || key.next().is_some()) {
        (Some(value), None, false) => token(value),
        (None, Some(value), false) => Ok(Credential::Key(value.as_bytes())),
        (None, None, _) => Ok(Credential::None),
        _ => Err(Refusal::new(
            Stage::Auth,
            Reason::MalformedRequest,
            "the request has more than one credential; send either a token or an API key",
        )),
    }
}

fn token(value: &HeaderValue) -> Result<Credential<'_>, Refusal> {
    let bytes = value.as_bytes();
    let found = SCHEMES.iter().find_map(|(name, scheme)| {
        let (start, token) = bytes.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then_some((*scheme, token.trim_ascii()))
    });
    match found {
        None => Err(missing("this authentication scheme is not accepted; send `Authorization: Bearer …`")),
        Some((_, b"")) => Err(missing("the token is empty")),
        Some((scheme, token)) => Ok(Credential::Token(scheme, token)),
    }
}

/// Refuses a request without a credential.
pub(super) fn missing(detail: &'static str) -> Refusal {
    refuse(Reason::MissingCredentials, detail)
}
