//! Where the credential of a drill is in its requests.

use std::fmt;

use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};
use http::request::Builder;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

use crate::cli::exit_code::INVALID;
use crate::cli::operator::fail;
use crate::stages::auth::locations::{CredentialLocations, KeyLocation, TokenLocation};

/// The header of API keys, unless the policy or an option names another place.
const KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// Options for where credentials are. Absent: where the policy has them, otherwise where they usually are.
#[derive(clap::Args)]
pub(super) struct Places {
    /// Header that carries API keys; default: where --policy has them; with --admin, x-api-key
    #[arg(long, value_name = "NAME", conflicts_with_all = ["key_scheme", "key_query", "bearer"])]
    key_header: Option<HeaderName>,
    /// Scheme of API keys in the Authorization header, such as ApiKey
    #[arg(long, value_name = "SCHEME", value_parser = word, conflicts_with_all = ["key_query", "bearer"])]
    key_scheme: Option<String>,
    /// Query parameter that carries API keys
    #[arg(long, value_name = "NAME", value_parser = parameter, conflicts_with = "bearer")]
    key_query: Option<String>,
    /// Header that carries the token and nothing else; default: where --policy has tokens; with --admin, Authorization: Bearer
    #[arg(long, value_name = "NAME", requires = "bearer", conflicts_with = "token_cookie")]
    token_header: Option<HeaderName>,
    /// Cookie that carries the token
    #[arg(long, value_name = "NAME", value_parser = word, requires = "bearer")]
    token_cookie: Option<String>,
}

/// What carries a credential: a header, or a part of the query.
#[derive(Debug, Clone)]
pub(super) enum Carrier {
    Header(HeaderName, HeaderValue),
    /// The name as the policy has it, and the value percent-encoded.
    Query(String, SecretString),
}

impl Places {
    /// What carries an API key; `policy`: where the policy has credentials.
    pub(super) fn key(&self, key: &str, policy: Option<&CredentialLocations>) -> Result<Carrier, u8> {
        let of_policy = || policy.and_then(|locations| locations.key.clone());
        let place = match (&self.key_header, &self.key_scheme, &self.key_query) {
            (Some(name), ..) => KeyLocation::Header(name.clone()),
            (None, Some(scheme), _) => KeyLocation::Authorization(scheme.as_str().into()),
            (None, None, Some(name)) => KeyLocation::Query(name.as_str().into()),
            (None, None, None) => of_policy().unwrap_or(KeyLocation::Header(KEY_HEADER)),
        };
        match place {
            KeyLocation::Header(name) => header(name, key),
            KeyLocation::Authorization(scheme) => header(AUTHORIZATION, &format!("{scheme} {key}")),
            KeyLocation::Query(name) => {
                let key = utf8_percent_encode(key, NON_ALPHANUMERIC).to_string();
                Ok(Carrier::Query(name.into(), key.into()))
            }
        }
    }

    /// What carries a token.
    pub(super) fn token(&self, token: &str, policy: Option<&CredentialLocations>) -> Result<Carrier, u8> {
        let of_policy = || {
            let other = policy.filter(|locations| !locations.has_bearer());
            other.and_then(|locations| locations.tokens.first().cloned())
        };
        let place = match (&self.token_header, &self.token_cookie) {
            (Some(name), _) => TokenLocation::Header(name.clone()),
            (None, Some(name)) => TokenLocation::Cookie(name.as_str().into()),
            (None, None) => of_policy().unwrap_or(TokenLocation::Authorization),
        };
        match place {
            TokenLocation::Authorization => header(AUTHORIZATION, &format!("Bearer {token}")),
            TokenLocation::Header(name) => header(name, token),
            TokenLocation::Cookie(name) => header(COOKIE, &format!("{name}={token}")),
        }
    }
}

impl Carrier {
    /// A path, with the credential if it is in the query.
    pub(super) fn target(&self, path: &str) -> String {
        match self {
            Self::Header(..) => path.to_owned(),
            Self::Query(name, key) => {
                let separator = if path.contains('?') { '&' } else { '?' };
                format!("{path}{separator}{name}={}", key.expose_secret())
            }
        }
    }

    /// Adds it to a request, whose target has it if it is in the query. A cookie is taken from pages of the API's own.
    pub(super) fn add_to(&self, request: Builder) -> Builder {
        match self {
            Self::Header(name, value) if *name == COOKIE => {
                request.header(name, value).header("sec-fetch-site", "same-origin")
            }
            Self::Header(name, value) => request.header(name, value),
            Self::Query(..) => request,
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name, _) => write!(f, "the header `{name}`"),
            Self::Query(name, _) => write!(f, "the query, as `{name}`"),
        }
    }
}

/// `token` (RFC 9110 §5.6.2), which names of fields are, too.
fn word(text: &str) -> Result<String, &'static str> {
    let good = text.parse::<HeaderName>().is_ok();
    if good { Ok(text.to_owned()) } else { Err("this is one word, without spaces and separators") }
}

fn parameter(text: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let good = !text.is_empty() && text.bytes().all(is_plain);
    if good { Ok(text.to_owned()) } else { Err("a name has letters, digits, `_` and `-`") }
}

fn header(name: HeaderName, text: &str) -> Result<Carrier, u8> {
    let value = HeaderValue::try_from(text);
    let mut value = value.map_err(|_| fail(INVALID, "the credential has characters that cannot be sent"))?;
    value.set_sensitive(true);
    Ok(Carrier::Header(name, value))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        places: Places,
        #[arg(long)]
        bearer: Option<String>,
    }

    #[test]
    fn options_are_before_the_policy_and_the_policy_before_what_is_usual() {
        let none = CredentialLocations::none();
        let keys = |place| CredentialLocations { key: Some(place), ..none.clone() };
        let tokens = |place| CredentialLocations { tokens: Box::new([place]), ..none.clone() };
        let scheme = keys(KeyLocation::Authorization("ApiKey".into()));
        let query = keys(KeyLocation::Query("api_key".into()));
        let cookie = tokens(TokenLocation::Cookie("session".into()));
        let own = tokens(TokenLocation::Header(HeaderName::from_static("x-token")));
        let two = CredentialLocations {
            tokens: [cookie.tokens.clone(), [TokenLocation::Authorization].into()].concat().into(),
            ..none.clone()
        };
        for (options, policy, key, token) in [
            (&[][..], None, "x-api-key: c/1", "authorization: Bearer c/1"),
            (&[], Some(&none), "x-api-key: c/1", "authorization: Bearer c/1"),
            (&[], Some(&scheme), "authorization: ApiKey c/1", "authorization: Bearer c/1"),
            (&[], Some(&query), "/a?api_key=c%2F1", "authorization: Bearer c/1"),
            (&[], Some(&cookie), "x-api-key: c/1", "cookie: session=c/1"),
            (&[], Some(&own), "x-api-key: c/1", "x-token: c/1"),
            (&[], Some(&two), "x-api-key: c/1", "authorization: Bearer c/1"),
            (&["--key-header", "x-k"], Some(&scheme), "x-k: c/1", "authorization: Bearer c/1"),
            (&["--bearer", "t", "--token-cookie", "c"], Some(&own), "x-api-key: c/1", "cookie: c=c/1"),
            (&["--key-query", "k"], None, "/a?k=c%2F1", "authorization: Bearer c/1"),
            (&["--bearer", "t", "--token-header", "x-t"], None, "x-api-key: c/1", "x-t: c/1"),
            (&["--key-scheme", "Key"], Some(&query), "authorization: Key c/1", "authorization: Bearer c/1"),
        ] {
            let places = Options::parse_from([&["drill"], options].concat()).places;
            let sent = |carrier: Carrier| match &carrier {
                Carrier::Header(name, value) => format!("{name}: {}", value.to_str().unwrap()),
                Carrier::Query(..) => carrier.target("/a"),
            };
            let found = [places.key("c/1", policy), places.token("c/1", policy)].map(|one| sent(one.unwrap()));
            assert_eq!(found, [key, token], "{options:?}");
        }
        assert_eq!(Carrier::Query("k".to_owned(), "v".into()).target("/a?b=1"), "/a?b=1&k=v");
        for wrong in [
            &["--key-header", "a", "--key-query", "b"][..],
            &["--key-scheme", "Api\nKey"],
            &["--key-query", "a&b"],
            &["--bearer", "t", "--token-cookie", "a; b"],
            &["--token-cookie", "a"],
            &["--bearer", "t", "--key-header", "a"],
        ] {
            assert!(Options::try_parse_from([&["drill"], wrong].concat()).is_err(), "{wrong:?}");
        }
    }
}
