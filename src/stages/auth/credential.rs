//! Which credential a request brings: exactly one of a token, an API key, and, where neither came, a client certificate.
//!
//! Nothing is judged here. Two credentials are refused, never ranked.

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

/// The schemes, and what ends them; their case does not matter (RFC 9110 §11.1).
const SCHEMES: [(&[u8], Scheme); 2] = [(b"bearer ", Scheme::Bearer), (b"dpop ", Scheme::Dpop)];

/// The one credential of a request.
pub(super) enum Credential<'a> {
    /// Not looked at yet: a token that is known has been, when it was not.
    Token(Scheme, &'a [u8]),
    /// Not looked at yet.
    Key(&'a [u8]),
    /// No header has one.
    None,
}

/// Finds it.
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
            "more than one credential came; send exactly one of a token and an API key",
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

/// No credential came.
pub(super) fn missing(detail: &'static str) -> Refusal {
    refuse(Reason::MissingCredentials, detail)
}
