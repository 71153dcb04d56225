//! gRPC over HTTP/2: what its requests say, and how one is refused.
//!
//! A client of gRPC does not look at the status of HTTP: a refusal is a response with the status 200 and without a body, whose
//! fields say why (*Trailers-Only*). See the protocol,
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::refusal::{Reason, Refusal};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The code of a refusal.
const X_REFUSAL_CODE: HeaderName = HeaderName::from_static("x-refusal-code");
/// How long the client waits at most.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Most digits of a timeout.
const TIMEOUT_DIGITS: usize = 8;

/// Whether a request is a call of gRPC. That of browsers, gRPC-Web, has its trailers in the body. Other methods and versions are
/// not: what is refused as gRPC has the status 200, which a cache would keep.
pub(crate) fn is_call(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    method == Method::POST
        && version == Version::HTTP_2
        && headers.get(CONTENT_TYPE).is_some_and(|value| is_content_type(value.as_bytes()))
}

/// Whether these are the fields of a response of gRPC.
pub(crate) fn is_response<'f>(mut fields: impl Iterator<Item = &'f (HeaderName, HeaderValue)>) -> bool {
    fields.any(|(name, value)| name == CONTENT_TYPE && is_content_type(value.as_bytes()))
}

/// Whether this is the content type of gRPC.
pub(crate) fn is_content_type(value: &[u8]) -> bool {
    const START: &[u8] = b"application/grpc";
    let parts = value.split_at_checked(START.len());
    parts.is_some_and(|(start, rest)| {
        start.eq_ignore_ascii_case(START) && matches!(rest, [] | [b'+' | b';' | b' ' | b'\t', ..])
    })
}

/// How long the client waits at most, if it says so. What is no timeout is left to the server.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get(GRPC_TIMEOUT)?.as_bytes().split_last()?;
    if digits.len() > TIMEOUT_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The status of a refusal: number and name.
pub(crate) fn status(reason: Reason) -> (u8, &'static str) {
    match reason {
        Reason::MalformedRequest
        | Reason::MalformedBody
        | Reason::InvalidGrant
        | Reason::UnauthorizedClient
        | Reason::UnsupportedGrantType
        | Reason::InvalidScope
        | Reason::InvalidTarget
        | Reason::UnsupportedMediaType
        | Reason::SchemaViolation => (3, "INVALID_ARGUMENT"),
        Reason::RequestTimeout | Reason::UpstreamTimeout => (4, "DEADLINE_EXCEEDED"),
        Reason::NotFound | Reason::InvitationEnded => (5, "NOT_FOUND"),
        Reason::InsufficientScope
        | Reason::ConsumerNotApproved
        | Reason::NotYours
        | Reason::NetworkNotAllowed
        | Reason::ConsumerSuspended
        | Reason::StrongerCredentialRequired
        | Reason::UnknownConsumer
        | Reason::CorsRefused
        | Reason::CrossSiteRequest
        | Reason::InsufficientRight => (7, "PERMISSION_DENIED"),
        Reason::BodyTooLarge
        | Reason::TargetTooLong
        | Reason::HeadersTooLarge
        | Reason::RateLimited
        | Reason::QuotaExceeded
        | Reason::TooManyConcurrent
        | Reason::TooManyFailures => (8, "RESOURCE_EXHAUSTED"),
        Reason::Conflict => (10, "ABORTED"),
        // What a server of gRPC says of a method that it does not have.
        Reason::NoRoute | Reason::MethodNotAllowed | Reason::VersionNotSupported => (12, "UNIMPLEMENTED"),
        Reason::InvalidUpstreamResponse => (13, "INTERNAL"),
        Reason::UpstreamUnreachable
        | Reason::IdentityUnavailable
        | Reason::StoreUnavailable
        | Reason::LimitsUnavailable
        | Reason::Overloaded
        | Reason::RecordUnavailable => (14, "UNAVAILABLE"),
        Reason::MissingCredentials
        | Reason::InvalidToken
        | Reason::InvalidInvitation
        | Reason::ExpiredToken
        | Reason::Revoked
        | Reason::InvalidDpopProof
        | Reason::UseDpopNonce
        | Reason::InvalidCertificate
        | Reason::TokenLifetimeTooLong
        | Reason::InvalidKey
        | Reason::ExpiredKey
        | Reason::InvalidClient => (16, "UNAUTHENTICATED"),
    }
}

/// The fields that end a call: status, message, and the code of the refusal.
pub(crate) fn refused(refusal: &Refusal) -> HeaderMap {
    /// All but visible ASCII and spaces, and `%` itself.
    const ENCODED: &AsciiSet = &CONTROLS.add(b'%');
    let (number, _) = status(refusal.reason());
    let mut fields = HeaderMap::with_capacity(3);
    fields.insert(GRPC_STATUS, u16::from(number).into());
    let message = utf8_percent_encode(refusal.detail(), ENCODED).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        fields.insert(GRPC_MESSAGE, message);
    }
    fields.insert(X_REFUSAL_CODE, HeaderValue::from_static(refusal.reason().code()));
    fields
}

/// Makes the fields of a refusal those of a response of gRPC, whose status is 200 and that has no body.
pub(crate) fn make_trailers_only(fields: &mut HeaderMap, refusal: &Refusal) {
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    // Its status is one that may be stored.
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.extend(refused(refusal));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Stage;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_grpc_itself_is_grpc() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC; charset=x", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers = with(CONTENT_TYPE, content_type);
            assert_eq!(is_call(&Method::POST, Version::HTTP_2, &headers), expected, "{content_type}");
            assert!(!is_call(&Method::GET, Version::HTTP_2, &headers));
            assert!(!is_call(&Method::POST, Version::HTTP_11, &headers));
        }
        assert!(!is_call(&Method::POST, Version::HTTP_2, &HeaderMap::new()));
    }

    #[test]
    fn a_timeout_has_a_number_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("123456789S", None),
            ("1s", None),
            ("S", None),
            ("-1S", None),
            ("+1S", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(timeout(&with(GRPC_TIMEOUT, text)), expected, "{text}");
        }
    }

    #[test]
    fn the_status_fits_the_one_of_http() {
        for reason in Reason::ALL {
            let (number, name) = status(*reason);
            let expected: &[u8] = match reason.status().as_u16() {
                401 => &[16],
                403 => &[7],
                429 => &[8],
                404 | 405 | 410 | 505 => &[5, 12],
                408 | 504 => &[4],
                503 => &[14],
                502 => &[13, 14],
                _ => &[3, 8, 10],
            };
            assert!(expected.contains(&number), "{reason:?} is {name}");
        }
    }

    #[test]
    fn a_message_is_encoded() {
        let refusal = Refusal::new(Stage::Auth, Reason::InvalidToken, "50 % of é\nis \"wrong\"");
        let fields = refused(&refusal);
        assert_eq!(fields[GRPC_STATUS], "16");
        assert_eq!(fields[GRPC_MESSAGE], "50 %25 of %C3%A9%0Ais \"wrong\"");
        assert_eq!(fields[X_REFUSAL_CODE], "invalid_token");
    }
}
