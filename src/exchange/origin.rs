//! Origins of pages (RFC 6454), as browsers send them.

/// Whether an origin is this scheme and authority, whose default port may be written or not.
pub(crate) fn is_own(origin: &str, (scheme, authority): (&str, &str)) -> bool {
    let port = if scheme == "https" { ":443" } else { ":80" };
    let plain = |authority: &'_ str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    let said = origin.split_once("://");
    said.is_some_and(|(said, rest)| said == scheme && !rest.is_empty() && plain(rest) == plain(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_the_api_itself_needs_no_permission() {
        for (origin, own, expected) in [
            ("https://api.test", ("https", "api.test"), true),
            ("https://api.test", ("https", "API.test:443"), true),
            ("https://api.test:8443", ("https", "api.test:8443"), true),
            ("http://api.test", ("https", "api.test"), false),
            ("https://api.test:80", ("https", "api.test"), false),
            ("https://api.test.evil.test", ("https", "api.test"), false),
            ("null", ("https", "api.test"), false),
            ("https://", ("https", ""), false),
        ] {
            assert_eq!(is_own(origin, own), expected, "{origin} {own:?}");
        }
    }
}
