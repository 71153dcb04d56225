//! Where the credential of a drill is in its requests.

use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::cli::exit_code::INVALID;
use crate::cli::operator::fail;
use crate::stages::auth::locations::{CredentialLocations, KeyLocation, TokenLocation};

/// The header of API keys where nobody says.
const KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// Options for where credentials are. Absent: where the policy has them, otherwise where they usually are.
#[derive(clap::Args)]
pub(super) struct Places {
    /// Header that carries API keys; default: where --policy has them, otherwise x-api-key
    #[arg(long, value_name = "NAME", conflicts_with_all = ["key_scheme", "key_query"])]
    key_header: Option<HeaderName>,
    /// Scheme of API keys in the Authorization header, such as ApiKey
    #[arg(long, value_name = "SCHEME", conflicts_with = "key_query")]
    key_scheme: Option<String>,
    /// Query parameter that carries API keys
    #[arg(long, value_name = "NAME", value_parser = parameter)]
    key_query: Option<String>,
    /// Header that carries tokens alone; default: where --policy has them, otherwise Authorization: Bearer
    #[arg(long, value_name = "NAME", conflicts_with = "token_cookie")]
    token_header: Option<HeaderName>,
    /// Cookie that carries tokens
    #[arg(long, value_name = "NAME")]
    token_cookie: Option<String>,
}

/// What carries a credential: a header, or a part of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carrier {
    Header(HeaderName, HeaderValue),
    /// `NAME=VALUE`: the name as the policy has it, the value percent-encoded.
    Query(String),
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
                Ok(Carrier::Query(format!("{name}={}", utf8_percent_encode(key, NON_ALPHANUMERIC))))
            }
        }
    }

    /// What carries a token.
    pub(super) fn token(&self, token: &str, policy: Option<&CredentialLocations>) -> Result<Carrier, u8> {
        let of_policy = || policy.and_then(|locations| locations.tokens.first().cloned());
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
            Self::Query(pair) => format!("{path}{}{pair}", if path.contains('?') { '&' } else { '?' }),
        }
    }
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
        for (options, policy, key, token) in [
            (&[][..], None, "x-api-key: c/1", "authorization: Bearer c/1"),
            (&[], Some(&none), "x-api-key: c/1", "authorization: Bearer c/1"),
            (&[], Some(&scheme), "authorization: ApiKey c/1", "authorization: Bearer c/1"),
            (&[], Some(&query), "/a?api_key=c%2F1", "authorization: Bearer c/1"),
            (&[], Some(&cookie), "x-api-key: c/1", "cookie: session=c/1"),
            (&[], Some(&own), "x-api-key: c/1", "x-token: c/1"),
            (&["--key-header", "x-k", "--token-cookie", "c"], Some(&scheme), "x-k: c/1", "cookie: c=c/1"),
            (&["--key-query", "k", "--token-header", "x-t"], None, "/a?k=c%2F1", "x-t: c/1"),
            (&["--key-scheme", "Key"], Some(&query), "authorization: Key c/1", "authorization: Bearer c/1"),
        ] {
            let places = Options::parse_from([&["drill"], options].concat()).places;
            let sent = |carrier: Carrier| match &carrier {
                Carrier::Header(name, value) => format!("{name}: {}", value.to_str().unwrap()),
                Carrier::Query(_) => carrier.target("/a"),
            };
            let found = [places.key("c/1", policy), places.token("c/1", policy)].map(|one| sent(one.unwrap()));
            assert_eq!(found, [key, token], "{options:?}");
        }
        assert_eq!(Carrier::Query("k=v".to_owned()).target("/a?b=1"), "/a?b=1&k=v");
        assert!(Options::try_parse_from(["drill", "--key-header", "a", "--key-query", "b"]).is_err());
    }
}
