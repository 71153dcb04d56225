//! Where the requests to an API carry their credentials. What is elsewhere is no credential, and is forwarded like any other field.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};

use super::pairs;

/// The field of DPoP proofs (RFC 9449 §4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Where a token may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenLocation {
    /// `Authorization`, with its scheme.
    Authorization,
    /// The cookie with this name.
    Cookie(Box<str>),
    /// This header, alone in it.
    Header(HeaderName),
}

/// Where an API key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyLocation {
    /// This header, alone in it.
    Header(HeaderName),
    /// `Authorization`, after this scheme.
    Authorization(Box<str>),
    /// The query parameter with this name.
    Query(Box<str>),
}

/// Where credentials are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CredentialLocations {
    /// Empty: tokens are not taken.
    pub(crate) tokens: Box<[TokenLocation]>,
    /// Absent: API keys are not taken.
    pub(crate) key: Option<KeyLocation>,
    /// Whether the client certificate of the connection is one.
    pub(crate) certificate: bool,
    /// Other origins whose pages may use a token in a cookie.
    pub(crate) cookie_origins: Box<[Box<str>]>,
}

impl CredentialLocations {
    /// No credential is taken.
    pub(crate) fn none() -> Self {
        Self { tokens: Box::default(), key: None, certificate: false, cookie_origins: Box::default() }
    }

    /// Whether tokens may be in `Authorization`.
    pub(crate) fn has_bearer(&self) -> bool {
        self.tokens.contains(&TokenLocation::Authorization)
    }

    /// Whether tokens or API keys may be in `Authorization`.
    pub(super) fn has_authorization(&self) -> bool {
        self.has_bearer() || matches!(self.key, Some(KeyLocation::Authorization(_)))
    }

    /// Whether a header carries nothing but credentials, or what belongs to one.
    pub(crate) fn has_header(&self, name: &HeaderName) -> bool {
        if *name == AUTHORIZATION {
            return self.has_authorization();
        }
        // A DPoP proof belongs to its token.
        self.headers().any(|known| known == name) || (*name == DPOP && self.has_bearer())
    }

    /// The headers that carry a credential alone.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        let key = match &self.key {
            Some(KeyLocation::Header(name)) => Some(name),
            _ => None,
        };
        let tokens = self.tokens.iter().filter_map(|location| match location {
            TokenLocation::Header(name) => Some(name),
            _ => None,
        });
        tokens.chain(key)
    }

    /// The cookies that carry a token.
    pub(crate) fn cookies(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().filter_map(|location| match location {
            TokenLocation::Cookie(name) => Some(&**name),
            _ => None,
        })
    }

    /// The query parameter that carries the API key.
    pub(crate) fn parameter(&self) -> Option<&str> {
        match &self.key {
            Some(KeyLocation::Query(name)) => Some(name),
            _ => None,
        }
    }

    /// The fields by which responses differ from caller to caller, for `Vary`.
    pub(crate) fn varying(&self) -> impl Iterator<Item = HeaderName> {
        let authorization = self.has_authorization().then_some(AUTHORIZATION);
        let cookie = self.cookies().next().map(|_| COOKIE);
        authorization.into_iter().chain(cookie).chain(self.headers().cloned())
    }

    /// A query without the API key in it; `None` if it has none.
    pub(crate) fn query_without_key(&self, query: Option<&str>) -> Option<String> {
        pairs::without_parameter(query?, self.parameter()?)
    }

    /// Of a request's fields, those that carry credentials: what is needed to decide about it again.
    pub(crate) fn fields_of<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> impl Iterator<Item = (&'h HeaderName, Cow<'h, HeaderValue>)> {
        let cookies: Vec<&str> = self.cookies().collect();
        headers.iter().filter_map(move |(name, value)| {
            if *name != COOKIE {
                return self.has_header(name).then_some((name, Cow::Borrowed(value)));
            }
            let own = cookies.iter().flat_map(|cookie| {
                pairs::in_cookies(value.as_bytes(), cookie).map(|pair| [cookie.as_bytes(), pair.value].join(&b'='))
            });
            let own: Vec<_> = own.collect();
            if own.is_empty() {
                return None;
            }
            Some((name, Cow::Owned(HeaderValue::from_bytes(&own.join(&b"; "[..])).ok()?)))
        })
    }

    /// The challenges for a request without a credential (RFC 9110 §11.6.1), unless there is only `Bearer`.
    pub(super) fn challenges(&self) -> Option<String> {
        let Some(KeyLocation::Authorization(scheme)) = &self.key else { return None };
        let bearer = if self.has_bearer() { r#"Bearer realm="api", "# } else { "" };
        Some(format!(r#"{bearer}{scheme} realm="api""#))
    }

    /// What to send in `Authorization`, for messages.
    pub(super) fn schemes(&self) -> String {
        let bearer = self.has_bearer().then_some("`Authorization: Bearer …`".to_owned());
        let key = match &self.key {
            Some(key @ KeyLocation::Authorization(_)) => Some(key.to_string()),
            _ => None,
        };
        bearer.into_iter().chain(key).collect::<Vec<_>>().join(" or ")
    }

    /// What to send, for messages: `a token (…) or an API key`.
    pub(super) fn wanted(&self) -> String {
        let tokens: Vec<_> = self.tokens.iter().map(ToString::to_string).collect();
        let token = (!tokens.is_empty()).then(|| format!("a token ({})", tokens.join(" or ")));
        let key = self.key.as_ref().map(|key| match key {
            KeyLocation::Header(_) => "an API key".to_owned(),
            other => format!("an API key ({other})"),
        });
        match token.into_iter().chain(key).collect::<Vec<_>>() {
            none if none.is_empty() => "a client certificate".to_owned(),
            some => some.join(" or "),
        }
    }
}

/// What to send, for messages.
impl fmt::Display for TokenLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorization => f.write_str("`Authorization: Bearer …`"),
            Self::Cookie(name) => write!(f, "the cookie `{name}`"),
            Self::Header(name) => write!(f, "the header `{name}`"),
        }
    }
}

/// What to send, for messages.
impl fmt::Display for KeyLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "the header `{name}`"),
            Self::Authorization(scheme) => write!(f, "`Authorization: {scheme} …`"),
            Self::Query(name) => write!(f, "the query parameter `{name}`"),
        }
    }
}
