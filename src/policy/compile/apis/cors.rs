//! `cors` of an API.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::policy::compile::context::Context;
use crate::policy::cors::Cors;
use crate::policy::document;
use crate::policy::tree::At;
use crate::policy::units::Rate;
use crate::stages::rate_limit::{Limit, RouteLimits};
use crate::state::ledger::LimitId;

const MAX_AGE: Duration = Duration::from_secs(600);
/// Preflights of a client address: many people may share one, and a page sends one for each kind of request.
const PREFLIGHTS: u32 = 100;
/// How many of them at once, in seconds' worth.
const BURST: u32 = 2;

pub(super) fn compile(context: &mut Context<'_>, written: &document::Cors, api: &str, at: At<'_>) -> Cors {
    let origins = origins(context, &written.origins, at);
    let credentials = written.credentials.unwrap_or(false);
    if credentials && written.origins.iter().any(|origin| origin == "*") {
        context
            .error(at.key("credentials"), "with `*`, every page could act for the people who visit it")
            .help("list the origins of your own pages");
    }
    let max_age = written.max_age.unwrap_or(crate::policy::Period(MAX_AGE));
    let max_age = context.seconds(at.key("max_age"), max_age);
    let expose = names(context, &written.expose, at.key("expose"));
    let expose = expose.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
    Cors {
        origins,
        headers: names(context, &written.headers, at.key("headers")).into(),
        expose: Some(expose).filter(|names| !names.is_empty()).and_then(|names| HeaderValue::try_from(names).ok()),
        credentials,
        max_age: HeaderValue::from(max_age),
        preflights: preflights(context, written.preflights, api, at.key("preflights")),
    }
}

/// The origins, as browsers send them; `None`: any.
fn origins(context: &mut Context<'_>, written: &[String], at: At<'_>) -> Option<Box<[Box<str>]>> {
    if written.is_empty() {
        let help = "write the origins of the pages that may call the API, such as `origins: [https://app.example.com]`";
        context.missing(at.key("origins"), "there is no origin", help);
    }
    let mut origins: Vec<Box<str>> = Vec::new();
    for (position, text) in written.iter().enumerate() {
        let at = at.key("origins").index(position);
        if text == "*" {
            if written.len() > 1 {
                context.error(at, "`*` is any origin, so it goes alone");
            }
            continue;
        }
        match origin(text) {
            Ok(origin) if origins.contains(&origin) => {
                context.error(at, "this origin is listed twice");
            }
            Ok(origin) => origins.push(origin),
            Err(help) => {
                context.error(at, "this is not an origin").help(help);
            }
        }
    }
    if written.iter().any(|text| text == "*") { None } else { Some(origins.into()) }
}

/// The serialization of an origin (RFC 6454 §6.1): lower case, and without the default port. The error is what to write.
fn origin(text: &str) -> Result<Box<str>, String> {
    const HELP: &str = "write scheme, host and port: `https://app.example.com` or `http://localhost:3000`";
    if text == "null" {
        return Err("any page can have the origin `null`: list the origins of your own pages".to_owned());
    }
    let (scheme, authority) = text.split_once("://").ok_or(HELP)?;
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let parsed: http::uri::Authority = authority.parse().map_err(|_| HELP)?;
    let is_plain = authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
    if scheme.is_empty() || !is_scheme || !is_plain || parsed.host().is_empty() {
        return Err(HELP.to_owned());
    }
    let host = parsed.host().to_ascii_lowercase();
    let port = match (&*scheme, parsed.port_u16()) {
        (_, None) if authority.len() > parsed.host().len() => return Err(HELP.to_owned()),
        (_, None) | ("https", Some(443)) | ("http", Some(80)) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    Ok(format!("{scheme}://{host}{port}").into())
}

fn names(context: &mut Context<'_>, written: &[String], at: At<'_>) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for (position, text) in written.iter().enumerate() {
        match text.parse::<HeaderName>() {
            Ok(name) if text != "*" => names.push(name),
            _ => {
                context.error(at.index(position), "this is not the name of a header").help("write each name");
            }
        }
    }
    names
}

fn preflights(context: &mut Context<'_>, written: Option<Rate>, api: &str, at: At<'_>) -> RouteLimits {
    let default = NonZeroU32::new(PREFLIGHTS).unwrap_or(NonZeroU32::MIN);
    let (count, per) = written.map_or((default, Duration::from_secs(1)), |rate| (rate.count, rate.per));
    let burst = if written.is_none() { NonZeroU32::new(PREFLIGHTS * BURST) } else { None };
    let rate = Limit::rate(LimitId::route(api, "preflights"), "preflights", count, per, burst);
    let rate = rate.map_err(|problem| context.error(at, problem)).ok();
    RouteLimits { rate, class: None, cost: NonZeroU32::MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for (text, expected) in [
            ("https://app.example.com", Some("https://app.example.com")),
            ("HTTPS://App.Example.com:443", Some("https://app.example.com")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("http://localhost:80", Some("http://localhost")),
            ("http://[::1]:8080", Some("http://[::1]:8080")),
            ("capacitor://localhost", Some("capacitor://localhost")),
            ("https://app.example.com/", None),
            ("https://app.example.com/path", None),
            ("https://*.example.com", None),
            ("https://user@app.example.com", None),
            ("https://app.example.com:", None),
            ("https://", None),
            ("app.example.com", None),
            ("null", None),
        ] {
            assert_eq!(origin(text).ok().as_deref(), expected, "{text}");
        }
    }
}
