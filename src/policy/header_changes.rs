//! `headers.request` and `headers.response` of an API: fields that are set and removed.

use http::{HeaderName, HeaderValue};

/// Fields that are set in place of others, and fields that are removed.
#[derive(Debug, Default)]
pub(crate) struct HeaderChanges {
    set: Box<[(HeaderName, HeaderValue)]>,
    /// Names of all fields that do not stay, those that are set included, with hyphens for `_` and `.`.
    dropped: Box<[Box<str>]>,
}

impl HeaderChanges {
    pub(crate) fn new(set: Vec<(HeaderName, HeaderValue)>, removed: &[HeaderName]) -> Self {
        let names = set.iter().map(|(name, _)| name).chain(removed);
        let dropped = names.map(|name| with_hyphens(name.as_str()).into()).collect();
        Self { set: set.into(), dropped }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.dropped.is_empty()
    }

    /// The fields that are set.
    pub(crate) fn set(&self) -> &[(HeaderName, HeaderValue)] {
        &self.set
    }

    /// The names of all fields that do not stay, with hyphens for `_` and `.`.
    pub(crate) fn dropped(&self) -> &[Box<str>] {
        &self.dropped
    }

    /// Whether a field with this lower-case name does not stay. CGI, PHP and others make one character of `-`, `_` and `.`, so
    /// that all spellings are the same name.
    pub(crate) fn drops(&self, name: &str) -> bool {
        self.dropped.iter().any(|dropped| is_spelling_of(name, dropped))
    }
}

/// Says why a policy cannot set or remove a field of requests with this lower-case name, if it cannot.
pub(crate) fn reserved_in_requests(name: &str) -> Option<&'static str> {
    const SAID_BY_THE_PROXY: &[&str] = &[
        "traceparent",
        "tracestate",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    ];
    let name = &*with_hyphens(name);
    if name.starts_with("x-consumer-") || name.starts_with("x-credential-") {
        return Some("the proxy says with it who calls");
    }
    if SAID_BY_THE_PROXY.contains(&name) {
        return Some("the proxy writes it itself");
    }
    if name == "host" {
        return Some("`upstream.host` is for that");
    }
    reserved(name)
}

/// Says why a policy cannot set or remove a field of responses with this lower-case name, if it cannot.
pub(crate) fn reserved_in_responses(name: &str) -> Option<&'static str> {
    const SAID_BY_THE_PROXY: &[&str] = &["retry-after", "via", "www-authenticate", "x-request-id"];
    if name.starts_with("ratelimit") || SAID_BY_THE_PROXY.contains(&name) {
        return Some("the proxy writes it itself");
    }
    if name.starts_with("access-control-") {
        return Some("`cors` is for that");
    }
    reserved(name)
}

/// Fields that concern a single hop, or that say how a message is framed or read.
fn reserved(name: &str) -> Option<&'static str> {
    match name {
        "connection"
        | "http2-settings"
        | "keep-alive"
        | "proxy-authenticate"
        | "proxy-authentication-info"
        | "proxy-authorization"
        | "proxy-connection"
        | "te"
        | "upgrade" => Some("it concerns a single hop"),
        "content-length" | "transfer-encoding" | "trailer" | "expect" => Some("it frames the message"),
        "content-encoding" | "content-range" | "content-type" => Some("it says how the body is read"),
        _ => None,
    }
}

/// Whether a lower-case name is one of the spellings of a name with hyphens.
pub(crate) fn is_spelling_of(name: &str, plain: &str) -> bool {
    plain.len() == name.len()
        && plain.bytes().zip(name.bytes()).all(|(one, other)| one == other || one == b'-' && is_hyphen(other))
}

fn is_hyphen(byte: u8) -> bool {
    matches!(byte, b'_' | b'.')
}

/// A name in the spelling that stands for all of its spellings.
pub(crate) fn with_hyphens(name: &str) -> String {
    name.replace(['_', '.'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_proxy_says_and_what_frames_a_message_cannot_be_changed() {
        for (name, request, response) in [
            ("x-env", false, false),
            ("authorization", false, false),
            ("remote-user", false, false),
            ("x-forwarded-prefix", false, false),
            ("set-cookie", false, false),
            ("strict-transport-security", false, false),
            ("connection", true, true),
            ("te", true, true),
            ("content-length", true, true),
            ("transfer-encoding", true, true),
            ("content-type", true, true),
            ("host", true, false),
            ("x-consumer-id", true, false),
            ("x_consumer_id", true, false),
            ("x-credential-id", true, false),
            ("x-forwarded-for", true, false),
            ("traceparent", true, false),
            ("x-request-id", true, true),
            ("ratelimit-policy", false, true),
            ("access-control-allow-origin", false, true),
            ("www-authenticate", false, true),
        ] {
            let reserved = (reserved_in_requests(name).is_some(), reserved_in_responses(name).is_some());
            assert_eq!(reserved, (request, response), "{name}");
        }
    }

    #[test]
    fn all_spellings_of_a_name_are_dropped() {
        let set = vec![(HeaderName::from_static("x-env"), HeaderValue::from_static("prod"))];
        let changes = HeaderChanges::new(set, &[HeaderName::from_static("x_debug")]);
        for (name, dropped) in [
            ("x-env", true),
            ("x_env", true),
            ("x.env", true),
            ("x-debug", true),
            ("x_debug", true),
            ("xxenv", false),
            ("x-envy", false),
            ("x", false),
        ] {
            assert_eq!(changes.drops(name), dropped, "{name}");
        }
        assert!(!changes.is_empty() && HeaderChanges::default().is_empty());
    }
}
