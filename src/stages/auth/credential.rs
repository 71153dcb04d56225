//! Finds the credential of a request: a token, an API key, or, if there is neither, a client certificate.
//!
//! Nothing is verified here. A request with two credentials is refused, wherever they are.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderValue};
use percent_encoding::percent_decode;

use super::cache::SentAs;
use super::claims::refuse;
use super::locations::{CredentialLocations, KeyLocation, TokenLocation};
use super::pairs::{self, Pair};
use crate::exchange::Request;
use crate::refusal::{Reason, Refusal, Stage};

/// How a token was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// RFC 6750 §2.1; or alone, in a field or a cookie of its own.
    Bearer,
    /// With a proof of possession (RFC 9449 §7.1).
    Dpop,
}

/// The schemes, each with the space after it; case-insensitive (RFC 9110 §11.1).
const SCHEMES: [(&[u8], Scheme); 2] = [(b"bearer ", Scheme::Bearer), (b"dpop ", Scheme::Dpop)];

/// The one credential of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// A token, not verified.
    Token { scheme: Scheme, text: &'a [u8], location: &'a TokenLocation },
    /// An API key, not verified.
    Key(Cow<'a, [u8]>),
    /// It is nowhere.
    None,
}

/// What is in one of the places, and may be a credential.
enum Sent<'a> {
    Authorization(&'a [u8]),
    Token(&'a [u8], &'a TokenLocation),
    Cookie(Pair<'a>, &'a TokenLocation),
    Key(&'a [u8]),
    Parameter(Pair<'a>),
}

/// Finds the credential in the headers and the query, as received.
pub(super) fn find<'a>(
    locations: &'a CredentialLocations,
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> Result<Credential<'a>, Refusal> {
    let (mut first, mut is_one) = (None, true);
    let mut note = |sent| match first {
        None => first = Some(sent),
        Some(_) => is_one = false,
    };
    if locations.has_authorization() {
        headers.get_all(AUTHORIZATION).iter().for_each(|value| note(Sent::Authorization(value.as_bytes())));
    }
    for location in &locations.tokens {
        match location {
            TokenLocation::Authorization => {}
            TokenLocation::Header(name) => {
                headers.get_all(name).iter().for_each(|value| note(Sent::Token(value.as_bytes(), location)));
            }
            TokenLocation::Cookie(name) => {
                let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
                let pairs = fields.flat_map(|field| pairs::in_cookies(field, name));
                pairs.for_each(|pair| note(Sent::Cookie(pair, location)));
            }
        }
    }
    match &locations.key {
        Some(KeyLocation::Header(name)) => {
            headers.get_all(name).iter().for_each(|value| note(Sent::Key(value.as_bytes())));
        }
        Some(KeyLocation::Query(name)) => {
            pairs::in_query(query.unwrap_or_default(), name).for_each(|pair| note(Sent::Parameter(pair)));
        }
        Some(KeyLocation::Authorization(_)) | None => {}
    }
    if !is_one {
        let detail = "the request has more than one credential; send either a token or an API key";
        return Err(malformed(detail));
    }
    match first {
        None => Ok(Credential::None),
        Some(Sent::Authorization(value)) => authorization(value, locations),
        Some(Sent::Token(value, location)) => token(Scheme::Bearer, value, location),
        Some(Sent::Cookie(Pair { is_exact: true, value }, location)) => token(Scheme::Bearer, value, location),
        Some(Sent::Key(value)) => Ok(Credential::Key(Cow::Borrowed(value))),
        Some(Sent::Parameter(Pair { is_exact: true, value })) => Ok(Credential::Key(percent_decode(value).into())),
        Some(Sent::Cookie(..) | Sent::Parameter(_)) => {
            Err(malformed("the name of the credential is spelled in another way; write it as it is documented"))
        }
    }
}

/// The credential in `Authorization`.
fn authorization<'a>(value: &'a [u8], locations: &'a CredentialLocations) -> Result<Credential<'a>, Refusal> {
    let after = |name: &[u8]| {
        let (start, rest) = value.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then_some(rest)
    };
    if let Some(location) = locations.tokens.iter().find(|one| **one == TokenLocation::Authorization)
        && let Some((scheme, text)) = SCHEMES.iter().find_map(|(name, scheme)| Some((*scheme, after(name)?)))
    {
        return token(scheme, text, location);
    }
    if let Some(KeyLocation::Authorization(scheme)) = &locations.key
        && let Some(key) = after(scheme.as_bytes()).and_then(|rest| rest.strip_prefix(b" "))
    {
        return Ok(Credential::Key(Cow::Borrowed(key.trim_ascii())));
    }
    Err(missing(format!("this authentication scheme is not accepted; send {}", locations.schemes())))
}

fn token<'a>(scheme: Scheme, text: &'a [u8], location: &'a TokenLocation) -> Result<Credential<'a>, Refusal> {
    match text.trim_ascii() {
        b"" => Err(missing("the token is empty")),
        text => Ok(Credential::Token { scheme, text, location }),
    }
}

#[cold]
fn malformed(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Auth, Reason::MalformedRequest, detail)
}

impl CredentialLocations {
    /// The one token that headers carry, not verified.
    pub(crate) fn token_of<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a str> {
        match find(self, headers, None) {
            Ok(Credential::Token { text, .. }) => str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// What the one credential of a request is, for operators.
    pub(crate) fn kind_of(&self, request: &Request<'_>) -> Option<SentAs> {
        match find(self, request.headers, request.received_query) {
            Ok(Credential::Token { .. }) => Some(SentAs::Token),
            Ok(Credential::Key(_)) => Some(SentAs::Key),
            Ok(Credential::None) => request.certificate().map(|_| SentAs::Certificate),
            Err(_) => None,
        }
    }

    /// Whether a credential of this kind is taken.
    pub(crate) fn takes(&self, kind: SentAs) -> bool {
        match kind {
            SentAs::Token => !self.tokens.is_empty(),
            SentAs::Key => self.key.is_some(),
            SentAs::Certificate => self.certificate,
        }
    }

    /// Where the one credential of a request is, unless it is where it is by default, for operators.
    pub(crate) fn place_of(&self, request: &Request<'_>) -> Option<String> {
        match find(self, request.headers, request.received_query) {
            Ok(Credential::Token { location, .. }) => {
                Some(location).filter(|location| **location != TokenLocation::Authorization).map(ToString::to_string)
            }
            Ok(Credential::Key(_)) => {
                let key = self.key.as_ref();
                key.filter(|key| !matches!(key, KeyLocation::Header(_))).map(ToString::to_string)
            }
            _ => None,
        }
    }
}

/// Refuses a request without a credential.
pub(super) fn missing(detail: impl Into<Cow<'static, str>>) -> Refusal {
    refuse(Reason::MissingCredentials, detail)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn locations() -> CredentialLocations {
        let tokens = [
            TokenLocation::Authorization,
            TokenLocation::Cookie("session".into()),
            TokenLocation::Header(HeaderName::from_static("x-token")),
        ];
        CredentialLocations { tokens: Box::new(tokens), ..CredentialLocations::none() }
    }

    /// The credential as `what text`, or the code of the refusal.
    fn found(locations: &CredentialLocations, fields: &[(&'static str, &'static str)], query: Option<&str>) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        match find(locations, &headers, query) {
            Ok(Credential::None) => "none".to_owned(),
            Ok(Credential::Key(key)) => format!("key {}", String::from_utf8_lossy(&key)),
            Ok(Credential::Token { scheme, text, .. }) => {
                let scheme = if scheme == Scheme::Dpop { "dpop" } else { "token" };
                format!("{scheme} {}", String::from_utf8_lossy(text))
            }
            Err(refusal) => refusal.reason().code().to_owned(),
        }
    }

    #[test]
    fn a_token_is_taken_from_one_of_its_places_and_from_no_other() {
        for (fields, expected) in [
            (&[] as &[(&str, &str)], "none"),
            (&[("authorization", "Bearer t")], "token t"),
            (&[("authorization", "DPoP t")], "dpop t"),
            (&[("authorization", "Basic t")], "missing_credentials"),
            (&[("authorization", "Bearer ")], "missing_credentials"),
            (&[("cookie", "session=t")], "token t"),
            (&[("cookie", "a=1; session=t; b=2")], "token t"),
            (&[("cookie", "a=1"), ("cookie", "session=t"), ("cookie", "b=2")], "token t"),
            (&[("cookie", "session=")], "missing_credentials"),
            (&[("cookie", "session")], "missing_credentials"),
            // It is no token, and is refused as such.
            (&[("cookie", "session=\"t\"")], "token \"t\""),
            (&[("cookie", "xsession=t; sessionx=t")], "none"),
            (&[("cookie", "session=t; Session=u")], "malformed_request"),
            (&[("cookie", "SESSION=t")], "malformed_request"),
            (&[("cookie", "sessio%6E=t")], "malformed_request"),
            (&[("cookie", "session=t; session=t")], "malformed_request"),
            (&[("cookie", "session=t"), ("cookie", "session=u")], "malformed_request"),
            (&[("cookie", "session=t; sessio%6E=u")], "malformed_request"),
            (&[("x-token", "t")], "token t"),
            (&[("x-token", "")], "missing_credentials"),
            (&[("x-token", "t"), ("x-token", "t")], "malformed_request"),
            (&[("x-token", "t"), ("cookie", "session=t")], "malformed_request"),
            (&[("authorization", "Bearer t"), ("cookie", "session=t")], "malformed_request"),
            (&[("authorization", "Basic t"), ("x-token", "t")], "malformed_request"),
            (&[("x-api-key", "k"), ("x-other", "t")], "none"),
        ] {
            assert_eq!(found(&locations(), fields, None), expected, "{fields:?}");
        }
    }

    #[test]
    fn an_api_key_is_taken_from_its_place() {
        let header = KeyLocation::Header(HeaderName::from_static("x-api-key"));
        let (scheme, query) = (KeyLocation::Authorization("ApiKey".into()), KeyLocation::Query("api_key".into()));
        let bearer = KeyLocation::Authorization("Bearer".into());
        for (key, bears, fields, sent, expected) in [
            (&header, true, &[("x-api-key", "k")] as &[(&str, &str)], None, "key k"),
            (&header, true, &[("x-api-key", "k"), ("authorization", "Bearer t")], None, "malformed_request"),
            (&header, true, &[], Some("api_key=k"), "none"),
            (&scheme, true, &[("authorization", "ApiKey k")], None, "key k"),
            (&scheme, true, &[("authorization", "apikey  k ")], None, "key k"),
            (&scheme, true, &[("authorization", "ApiKeyk")], None, "missing_credentials"),
            (&scheme, true, &[("authorization", "Bearer t")], None, "token t"),
            (&scheme, true, &[("authorization", "Basic k")], None, "missing_credentials"),
            (&scheme, true, &[("authorization", "Bearer t"), ("authorization", "ApiKey k")], None, "malformed_request"),
            (&bearer, false, &[("authorization", "Bearer k")], None, "key k"),
            (&query, true, &[], Some("a=1&api_key=k%2B1&b=2"), "key k+1"),
            (&query, true, &[], Some("a=1;api_key=k"), "key k"),
            (&query, true, &[], Some("api_key=k%zz"), "key k%zz"),
            (&query, true, &[], Some("api_key="), "key "),
            (&query, true, &[], Some("api_key=k&api_key=k"), "malformed_request"),
            (&query, true, &[], Some("api_key=k&api%5Fkey=k"), "malformed_request"),
            (&query, true, &[], Some("a=1;api_key=k&api_key=k"), "malformed_request"),
            (&query, true, &[], Some("api%5fkey=k"), "malformed_request"),
            (&query, true, &[("authorization", "Bearer t")], Some("api_key=k"), "malformed_request"),
            (&query, true, &[("x-api-key", "k")], None, "none"),
        ] {
            let tokens = if bears { vec![TokenLocation::Authorization] } else { Vec::new() };
            let locations =
                CredentialLocations { tokens: tokens.into(), key: Some(key.clone()), ..CredentialLocations::none() };
            assert_eq!(found(&locations, fields, sent), expected, "{key} {fields:?} {sent:?}");
        }
    }
}
