//! Cookies and the names of a query: refuses what servers read in different ways, before it is judged.
//!
//! A name with a blank (`c =11`), or one that is encoded, is another name here and the same name for many servers, which
//! would then act on a value that nobody has judged.

use http::HeaderMap;
use http::header::COOKIE;
use percent_encoding::percent_decode_str;

/// A cookie: its name and its value.
pub(super) type Cookie<'a> = (&'a str, &'a str);

/// Returns all cookies (RFC 6265 §4.2.1). The error completes a sentence that begins with "it".
pub(super) fn cookies(headers: &HeaderMap) -> Result<Vec<Cookie<'_>>, &'static str> {
    let mut cookies = Vec::new();
    for header in headers.get_all(COOKIE) {
        let text = header.to_str().map_err(|_| "is not visible ASCII")?;
        for pair in text.split(';').map(|pair| pair.trim_matches([' ', '\t'])).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("has a cookie without `=`")?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err("has a cookie whose name is not a token");
            }
            // A quoted value may hold a semicolon for some servers, and ends there for others.
            let quotes = value.bytes().filter(|byte| *byte == b'"').count();
            let quoted = quotes == 2 && value.len() > 1 && value.starts_with('"') && value.ends_with('"');
            if (value.starts_with('"') && !quoted) || value.starts_with([' ', '\t']) {
                return Err("has a cookie whose value is not properly quoted");
            }
            cookies.push((name, value));
        }
    }
    Ok(cookies)
}

/// The values of the cookie with this name. The error completes a sentence that begins with "it".
pub(super) fn values<'a>(cookies: &[Cookie<'a>], name: &str) -> Result<Vec<&'a str>, &'static str> {
    let mut values = Vec::new();
    for (other, value) in cookies {
        if *other == name {
            if value.starts_with('"') {
                return Err("is quoted; send the value without quotes");
            }
            values.push(*value);
        } else if is_read_alike(other, name) {
            return Err("has a second spelling that servers read as the same name");
        }
    }
    Ok(values)
}

/// Whether some servers read both names as one: they decode names, or replace dots.
pub(crate) fn is_read_alike(name: &str, other: &str) -> bool {
    let plain = |name: &str| percent_decode_str(name).decode_utf8_lossy().replace(['.', ' '], "_");
    (name.contains(['%', '.']) || other.contains(['%', '.'])) && plain(name) == plain(other)
}

/// Decides whether all servers split a query into the same names. The error completes a sentence that begins with "it".
pub(super) fn check_query(query: &str) -> Result<(), &'static str> {
    if query.contains(';') {
        return Err("has a `;`, which separates parameters for some servers; write %3B");
    }
    for pair in query.split('&') {
        if pair == "=" {
            return Err("has a `=` without a name and a value, which some servers leave out");
        }
        let name = pair.split('=').next().unwrap_or_default();
        // Most names are plain.
        if name.contains(|character: char| "%+ ".contains(character) || !character.is_ascii_graphic()) {
            let name = name.replace('+', " ");
            let name = percent_decode_str(&name).decode_utf8_lossy();
            if name.trim() != name || name.chars().any(char::is_control) {
                return Err("has a name that begins or ends with a blank, or has control characters");
            }
        }
    }
    Ok(())
}

/// `tchar` (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read<'a>(headers: &'a HeaderMap, name: &str) -> Result<Vec<&'a str>, &'static str> {
        cookies(headers).and_then(|cookies| values(&cookies, name))
    }

    /// S18: a cookie that servers read in another way than it is judged here is refused.
    #[test]
    fn cookies_are_read_in_one_way_or_refused() {
        for (cookie, expected) in [
            ("c=11", Some(&["11"][..])),
            ("a=1; c=11; b=2", Some(&["11"])),
            ("a=1;c=11;", Some(&["11"])),
            ("a=x=y; c=11", Some(&["11"])),
            ("a=\"quoted\"; c=11", Some(&["11"])),
            ("c=1; c=2", Some(&["1", "2"])),
            ("a=1", Some(&[])),
            ("c =11", None),
            ("c\t=11", None),
            ("\"c\"=11", None),
            ("c[0]=11", None),
            ("c= 11", None),
            ("c=\"11\"", None),
            ("%63=11", None),
            ("a=\"; c=11; b=\"", None),
            ("a=1; c", None),
            ("=11", None),
        ] {
            let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(cookie))]);
            assert_eq!(read(&headers, "c").ok().as_deref(), expected, "{cookie}");
        }
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("a.b=11"))]);
        assert!(read(&headers, "a_b").is_err() && read(&headers, "a.b").is_ok());
    }

    /// S18: a query is split into the same names by every server, or refused.
    #[test]
    fn queries_are_split_in_one_way_or_refused() {
        for (query, good) in [
            ("", true),
            ("a=1&c=11", true),
            ("c[x]=11&a.b=1&%C3%A9=1", true),
            ("a=1%3B2", true),
            ("a=+1+", true),
            ("a=1;c=11", false),
            ("c%20=11", false),
            ("c+=11", false),
            ("+c=11", false),
            ("%09c=11", false),
            ("c%00=11", false),
            ("a=1&=", false),
            ("a=1&=2", true),
        ] {
            assert_eq!(check_query(query).is_ok(), good, "{query}");
        }
    }
}
