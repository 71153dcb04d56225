//! `auth.tokens` and `auth.api_keys`: where requests carry their credentials.

use http::header::{AUTHORIZATION, COOKIE, HeaderName};

use crate::policy::compile::context::Context;
use crate::policy::document::{self, Document};
use crate::policy::header_changes::reserved_in_requests;
use crate::policy::tree::At;
use crate::stages::auth::locations::{CredentialLocations, KeyLocation, TokenLocation};

/// Default of `auth.api_keys.header`.
const KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// Schemes that no API key can come with: they say how what follows is read (RFC 7617, RFC 9449).
const TAKEN_SCHEMES: [&str; 2] = ["basic", "dpop"];

/// Where credentials are, for all APIs; `at` is that of `auth`.
pub(in crate::policy::compile) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    at: At<'_>,
) -> CredentialLocations {
    let from = at.key("tokens").key("from");
    let tokens = match &document.auth.tokens.from {
        None => vec![TokenLocation::Authorization],
        Some(written) => tokens(context, written, from),
    };
    let key = key(context, &document.auth.api_keys, &tokens, at.key("api_keys"));
    if let KeyLocation::Header(name) = &key
        && let Some(position) = tokens.iter().position(|token| *token == TokenLocation::Header(name.clone()))
    {
        let message = format!("`{name}` carries API keys, so it cannot be told what is in it");
        context.error(from.index(position), message).help("take one of them from another header");
    }
    let cookie_origins = Box::default();
    CredentialLocations { tokens: tokens.into(), key: Some(key), certificate: true, cookie_origins }
}

fn tokens(context: &mut Context<'_>, written: &[document::TokenLocation], at: At<'_>) -> Vec<TokenLocation> {
    if written.is_empty() {
        context
            .error(at, "tokens are taken from nowhere")
            .help("write where they are, such as `[authorization]`; or, at an API, what it takes instead: `authenticate_by: [api_key]`");
    }
    let mut tokens = Vec::new();
    for (position, one) in written.iter().enumerate() {
        let at = at.index(position);
        let location = match one {
            document::TokenLocation::Authorization => Some(TokenLocation::Authorization),
            document::TokenLocation::Cookie(name) if is_token(name) => Some(TokenLocation::Cookie(name.clone().into())),
            document::TokenLocation::Cookie(_) => {
                context
                    .error(at.key("cookie"), "this is not the name of a cookie")
                    .help("write it as it is sent, such as `session`");
                None
            }
            document::TokenLocation::Header(name) => {
                header(context, name, "tokens", at.key("header")).map(TokenLocation::Header)
            }
        };
        match location {
            Some(location) if tokens.contains(&location) => {
                context.error(at, "this place is listed twice");
            }
            Some(location) => tokens.push(location),
            None => {}
        }
    }
    tokens
}

fn key(context: &mut Context<'_>, written: &document::ApiKeys, tokens: &[TokenLocation], at: At<'_>) -> KeyLocation {
    let default = KeyLocation::Header(KEY_HEADER);
    match (&written.header, &written.authorization, &written.query) {
        (None, None, None) => default,
        (Some(name), None, None) => {
            header(context, name, "API keys", at.key("header")).map_or(default, KeyLocation::Header)
        }
        (None, Some(scheme), None) => {
            let at = at.key("authorization");
            let is_taken = TAKEN_SCHEMES.iter().any(|taken| taken.eq_ignore_ascii_case(scheme));
            if !is_token(scheme) || is_taken {
                context
                    .error(at, "this is not a scheme that API keys can come with")
                    .help("write one word of your own, such as `ApiKey`: clients then send `Authorization: ApiKey …`");
            } else if scheme.eq_ignore_ascii_case("bearer") && tokens.contains(&TokenLocation::Authorization) {
                context
                    .error(at, "tokens come with this scheme, so it cannot be told what follows it")
                    .help("write another scheme, such as `ApiKey`; or take tokens from another place: `auth: { tokens: { from: [{ header: x-access-token }] } }`");
            }
            KeyLocation::Authorization(scheme.clone().into())
        }
        (None, None, Some(name)) => {
            let at = at.key("query");
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            if name.is_empty() || !name.bytes().all(is_plain) {
                context
                    .error(at, "this is not a name that every server reads in the same way")
                    .help("use letters, digits, `_` and `-`");
            } else {
                context
                    .warning(
                        at,
                        "a key in the query ends in the histories and logs of clients and of proxies before this one",
                    )
                    .help("let clients send it in a header: `api_keys: { header: x-api-key }`");
            }
            KeyLocation::Query(name.clone().into())
        }
        _ => {
            context.error(at, "API keys are in one place").help("write one of `header`, `authorization` and `query`");
            default
        }
    }
}

/// The header with this name, if it can carry a credential alone.
fn header(context: &mut Context<'_>, text: &str, what: &str, at: At<'_>) -> Option<HeaderName> {
    let Ok(name) = text.parse::<HeaderName>() else {
        context.error(at, "this is not the name of a header");
        return None;
    };
    // Upstreams may read an underscore as a hyphen.
    let plain = name.as_str().replace(['_', '.'], "-");
    let help = match what {
        _ if plain == COOKIE.as_str() && what == "tokens" => "name the cookie: `{ cookie: session }`",
        _ if plain == AUTHORIZATION.as_str() && what == "tokens" => "write `authorization`, without `header`",
        _ if plain == AUTHORIZATION.as_str() => "write their scheme: `api_keys: { authorization: ApiKey }`",
        "tokens" => "use a header of its own, such as `x-access-token`",
        _ => "use a header of its own, such as `x-api-key`",
    };
    let has_meaning = [COOKIE.as_str(), AUTHORIZATION.as_str(), "dpop", "origin"].contains(&&*plain);
    if has_meaning || plain.starts_with("sec-") || reserved_in_requests(&plain).is_some() {
        context.error(at, format!("this header cannot carry {what}")).help(help);
        return None;
    }
    Some(name)
}

/// `token` (RFC 9110 §5.6.2), as cookies and schemes have it for their names.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
