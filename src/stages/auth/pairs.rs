//! The pairs of a Cookie field and of a query that carry a credential, and what is left without them.
//!
//! Names that some servers read as one are one here: a second spelling must not bring a second credential to an upstream that
//! reads it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::stages::schema::{cookies, unambiguous};

/// A pair with the name that is looked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pair<'a> {
    /// Whether the name is written in the one way that is taken.
    pub(super) is_exact: bool,
    /// As sent.
    pub(super) value: &'a [u8],
}

/// The cookies of a Cookie field (RFC 6265 §4.2.1) that have this name.
pub(super) fn in_cookies<'a>(field: &'a [u8], name: &'a str) -> impl Iterator<Item = Pair<'a>> {
    cookies_of(field).filter_map(move |cookie| has_cookie_name(cookie, name))
}

/// A Cookie field without the cookies of these names; empty if it has no others.
pub(crate) fn without_cookies<'f>(field: &'f [u8], names: &[&str]) -> Cow<'f, [u8]> {
    let is_named = |cookie: &[u8]| names.iter().any(|name| has_cookie_name(cookie, name).is_some());
    if !cookies_of(field).any(is_named) {
        return Cow::Borrowed(field);
    }
    let others: Vec<&[u8]> = cookies_of(field).filter(|cookie| !cookie.is_empty() && !is_named(cookie)).collect();
    Cow::Owned(others.join(&b"; "[..]))
}

fn cookies_of(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn has_cookie_name<'a>(cookie: &'a [u8], wanted: &str) -> Option<Pair<'a>> {
    let (name, value) = split(cookie);
    let name = name.trim_ascii_end();
    if name == wanted.as_bytes() {
        return Some(Pair { is_exact: true, value });
    }
    // Some servers ignore case, and take what follows a bracket for a part of the value.
    let plain = name.split(|byte| *byte == b'[').next().unwrap_or_default();
    let is_alike = plain.eq_ignore_ascii_case(wanted.as_bytes())
        || str::from_utf8(name).is_ok_and(|name| cookies::is_read_alike(name, wanted));
    is_alike.then_some(Pair { is_exact: false, value })
}

/// Name and value; a pair without `=` is a name.
fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    let at = pair.iter().position(|byte| *byte == b'=');
    at.and_then(|at| Some((pair.get(..at)?, pair.get(at + 1..)?))).unwrap_or((pair, b""))
}

/// The parameters of a query that have this name. Some servers take `;` for a separator, too.
pub(super) fn in_query<'q>(query: &'q str, name: &'q str) -> impl Iterator<Item = Pair<'q>> {
    query.split(['&', ';']).filter_map(move |parameter| has_parameter_name(parameter, name))
}

/// A query without the parameters of this name; `None` if it has none of them.
pub(super) fn without_parameter(query: &str, name: &str) -> Option<String> {
    in_query(query, name).next()?;
    let mut rest = String::with_capacity(query.len());
    for parameter in query.split_inclusive(['&', ';']) {
        let (text, separator) = match parameter.strip_suffix(['&', ';']) {
            Some(text) => (text, parameter.get(text.len()..).unwrap_or_default()),
            None => (parameter, ""),
        };
        if has_parameter_name(text, name).is_none() {
            rest.extend([text, separator]);
        }
    }
    if !query.ends_with(['&', ';']) && rest.ends_with(['&', ';']) {
        rest.pop();
    }
    Some(rest)
}

fn has_parameter_name<'q>(parameter: &'q str, wanted: &str) -> Option<Pair<'q>> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let is_exact = name == wanted;
    let is_alike = is_exact || unambiguous::are_one_name(&percent_decode_str(name).decode_utf8_lossy(), wanted);
    is_alike.then_some(Pair { is_exact, value: value.as_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the pairs that are found; `!` before those whose name is written in another way.
    fn shown<'a>(pairs: impl Iterator<Item = Pair<'a>>) -> Vec<String> {
        let shown = |pair: Pair<'_>| {
            let value = String::from_utf8_lossy(pair.value);
            if pair.is_exact { value.into_owned() } else { format!("!{value}") }
        };
        pairs.map(shown).collect()
    }

    #[test]
    fn cookies_of_a_name_are_found_however_they_are_spelled_and_the_others_stay() {
        for (field, found, rest) in [
            ("session=a", &["a"] as &[&str], ""),
            ("x=1; session=a; y=2", &["a"], "x=1; y=2"),
            ("x=1;session=a;y=2", &["a"], "x=1; y=2"),
            ("session=a; session=b", &["a", "b"], ""),
            ("session = a", &[" a"], ""),
            ("session", &[""], ""),
            ("session=", &[""], ""),
            ("session=\"a\"", &["\"a\""], ""),
            // Some servers look for the end of a quoted value.
            ("x=\"1; session=a\"; y=2", &["a\""], "x=\"1; y=2"),
            ("se%73sion=a; x=1", &["!a"], "x=1"),
            ("session=a=b", &["a=b"], ""),
            ("Session=a; session[0]=b; xsession=c", &["!a", "!b"], "xsession=c"),
            ("xsession=b; sessionx=c", &[], "xsession=b; sessionx=c"),
            // What has no credential stays as it came.
            ("x=1;y=2;", &[], "x=1;y=2;"),
            ("", &[], ""),
        ] {
            assert_eq!(shown(in_cookies(field.as_bytes(), "session")), found, "{field}");
            assert_eq!(without_cookies(field.as_bytes(), &["session"]), rest.as_bytes(), "{field}");
        }
        let many = without_cookies(b"a=1; b=2; c=3", &["a", "c"]);
        assert_eq!(&*many, b"b=2");
    }

    #[test]
    fn parameters_of_a_name_are_found_however_they_are_spelled_and_the_others_stay() {
        for (query, found, rest) in [
            ("api_key=a", &["a"] as &[&str], Some("")),
            ("x=1&api_key=a&y=2", &["a"], Some("x=1&y=2")),
            ("api_key=a&y=2", &["a"], Some("y=2")),
            ("x=1&api_key=a", &["a"], Some("x=1")),
            ("x=1&api_key=a&", &["a"], Some("x=1&")),
            ("api_key=a&api_key=b", &["a", "b"], Some("")),
            ("api%5Fkey=a&x=1", &["!a"], Some("x=1")),
            ("API_KEY=a", &["!a"], Some("")),
            ("api.key=a", &["!a"], Some("")),
            ("api_key[]=a", &["!a"], Some("")),
            ("x=1;api_key=a;y=2", &["a"], Some("x=1;y=2")),
            ("api_key", &[""], Some("")),
            ("x=api_key=a", &[], None),
            ("xapi_key=a&y=%zz", &[], None),
            ("", &[], None),
        ] {
            assert_eq!(shown(in_query(query, "api_key")), found, "{query}");
            assert_eq!(without_parameter(query, "api_key").as_deref(), rest, "{query}");
        }
    }
}
