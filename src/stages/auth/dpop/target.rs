//! The target URI of a request or a proof, normalised for comparison.

/// A target URI without query and fragment (RFC 9449 §4.3, rule 9), normalised (RFC 3986 §6.2.2, §6.2.3). Only used for
/// comparison: routing uses a stricter form of the path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    https: bool,
    /// Lower case.
    host: String,
    /// The scheme's default if none was given.
    port: u16,
    path: String,
}

impl Target {
    /// Parses an absolute URI.
    pub(super) fn parse(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        Self::new(scheme, authority, path)
    }

    /// Makes a target from its parts. A query or fragment after the path is ignored.
    pub(super) fn new(scheme: &str, authority: &str, path: &str) -> Option<Self> {
        let https = scheme.eq_ignore_ascii_case("https");
        let is_http = https || scheme.eq_ignore_ascii_case("http");
        // RFC 3986 §3.2.2: colons within brackets belong to an address.
        let end = match authority.find(']') {
            Some(bracket) if authority.starts_with('[') => bracket.saturating_add(1),
            _ => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at_checked(end)?;
        let port = match port.strip_prefix(':') {
            Some("") => None,
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some(digits.parse().ok()?),
            None if port.is_empty() => None,
            _ => return None,
        };
        // RFC 9110 §4.2.1 and §4.2.4: a host is required, and userinfo is not allowed.
        if !is_http || host.is_empty() || host.contains('@') {
            return None;
        }
        let path = match path.split(['?', '#']).next() {
            None | Some("") => "/".to_owned(),
            Some(path) if path.starts_with('/') => without_dots(&unescaped(path)?),
            Some(_) => return None,
        };
        let port = port.unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host: unescaped(host)?.to_ascii_lowercase(), port, path })
    }
}

/// Decodes unreserved characters, and converts other escapes to upper case (RFC 3986 §6.2.2.1 and §6.2.2.2).
fn unescaped(text: &str) -> Option<String> {
    let mut normal = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let (digits, tail) = after.split_at_checked(2)?;
        // `from_str_radix` accepts a sign.
        let octet = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
        normal.push_str(before);
        // RFC 3986 §2.3.
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
            normal.push(char::from(octet));
        } else {
            normal.push('%');
            normal.push_str(&digits.to_ascii_uppercase());
        }
        rest = tail;
    }
    normal.push_str(rest);
    Some(normal)
}

/// Removes the dot segments of an absolute path (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_compared_in_normal_form() {
        let uri = |text: &str| Target::parse(text);
        for (one, other) in [
            ("HTTPS://API.Example/a", "https://api.example/a"),
            ("https://api.example:443/a", "https://api.example/a"),
            ("https://api.example:/a", "https://api.example/a"),
            ("http://api.example:80/a", "http://api.example/a"),
            ("https://api.example:0443/a", "https://api.example/a"),
            ("https://[2001:DB8::1]:443/a", "https://[2001:db8::1]/a"),
            ("https://%61pi.example/a", "https://api.example/a"),
            ("https://api.example", "https://api.example/"),
            ("https://api.example?q=/b", "https://api.example/"),
            ("https://api.example#/b", "https://api.example/"),
            ("https://api.example/a?q#f", "https://api.example/a"),
            ("https://api.example/a#f?q", "https://api.example/a"),
            ("https://api.example/%7Ea%2d%5F%2E", "https://api.example/~a-_."),
            ("https://api.example/a%2fb%c3%a9", "https://api.example/a%2Fb%C3%A9"),
            ("https://api.example/./a/../b/.", "https://api.example/b/"),
            ("https://api.example/a/b/..", "https://api.example/a/"),
            ("https://api.example/../a", "https://api.example/a"),
            ("https://api.example/a/%2E%2e/b", "https://api.example/b"),
            ("https://api.example/a//../b", "https://api.example/a/b"),
            ("https://api.example/..", "https://api.example/"),
        ] {
            assert!(uri(one).is_some() && uri(one) == uri(other), "{one} {:?}, {other} {:?}", uri(one), uri(other));
        }
        for (one, other) in [
            ("http://api.example/a", "https://api.example/a"),
            ("http://api.example:443/a", "https://api.example/a"),
            ("https://api.example:80/a", "https://api.example/a"),
            ("https://api.example:8443/a", "https://api.example/a"),
            ("https://api.example./a", "https://api.example/a"),
            ("https://api.example/a/", "https://api.example/a"),
            ("https://api.example/A", "https://api.example/a"),
            ("https://api.example//a", "https://api.example/a"),
            ("https://api.example/a%2Fb", "https://api.example/a/b"),
            ("https://api.example/a%252Fb", "https://api.example/a%2Fb"),
            ("https://api.example/%2561", "https://api.example/a"),
            ("https://api.example/a;b", "https://api.example/a"),
            ("https://api.example/a%3Bb", "https://api.example/a;b"),
            ("https://api.example/...", "https://api.example/"),
            ("https://[::1]/a", "https://[::2]/a"),
        ] {
            assert!(uri(one).is_some() && uri(other).is_some() && uri(one) != uri(other), "{one} {other}");
        }
        for text in [
            "",
            "api.example/a",
            "//api.example/a",
            "/a",
            "ftp://api.example/a",
            "https:/api.example/a",
            "https:///a",
            "https://:443/a",
            "https://user@api.example/a",
            "https://user:secret@api.example/a",
            "https://api.example:443@evil.example/a",
            "https://api.example:+443/a",
            "https://api.example:65536/a",
            "https://api.example:44e/a",
            "https://a:b:443/a",
            "https://[::1/a",
            "https://[::1]443/a",
            "https://api.example/%",
            "https://api.example/%4",
            "https://api.example/%+1",
            "https://api.example/%é",
            "https://api.ex%mple/a",
        ] {
            assert_eq!(uri(text), None, "{text}");
        }
        let of_parts = Target::new("https", "api.example:443", "/a?b/../c");
        assert!(of_parts.is_some() && of_parts == uri("https://api.example/a"));
        assert_eq!(Target::new("https", "api.example", "a"), None);
        assert_eq!(Target::new("https", "api.example", ""), uri("https://api.example/"));
    }
}
