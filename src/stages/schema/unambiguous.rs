//! The one value of a query parameter, if every server reads the same one.
//!
//! Servers differ in what separates parameters, in what a `+` is, in the charset, and in which names are one: some ignore case, blanks
//! at the ends or what follows a bracket, some take `.` for `_`, some take the first of two and others the last.

use std::borrow::Cow;

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::cookies;
use super::media_type;
use super::text_encoding::has_broken_escapes;

/// Returns the value of the parameter with this name. The error completes a sentence that begins with the name.
pub(crate) fn query_value<'q>(query: &'q str, name: &str, headers: &HeaderMap) -> Result<Cow<'q, str>, &'static str> {
    if cookies::check_query(query).is_err() || has_broken_escapes(query) || media_type::recodes(headers, query) {
        return Err("is in a query that can be read in several ways");
    }
    let wanted = folded(name);
    let mut found = None;
    for pair in query.split('&') {
        let (written, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = percent_decode_str(written).decode_utf8().map_err(|_| "is in a query that is not UTF-8")?;
        if folded(&decoded) != wanted {
            continue;
        }
        if found.replace((decoded, value)).is_some() {
            return Err("occurs twice");
        }
    }
    match found {
        None => Err("is missing"),
        Some((decoded, _)) if decoded != name => Err("is written in another way"),
        // A blank in a form, and a plus sign elsewhere.
        Some((_, value)) if value.contains('+') => Err("has a `+`, which can be read in two ways; write %20 or %2B"),
        Some((_, value)) => percent_decode_str(value).decode_utf8().map_err(|_| "is not UTF-8"),
    }
}

/// Whether some servers read both names of parameters, decoded, as one.
pub(crate) fn are_one_name(one: &str, other: &str) -> bool {
    folded(one) == folded(other)
}

/// A name as the most lenient servers compare it.
fn folded(name: &str) -> String {
    let name = name.split(['[', '\0']).next().unwrap_or_default();
    let blank = |character: char| character.is_whitespace() || character == '+';
    name.trim_matches(blank).to_lowercase().replace(['.', ' ', '+', '-'], "_")
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn a_parameter_has_one_value_that_every_server_reads_or_none() {
        for (query, expected) in [
            ("tenant=t-17", Some("t-17")),
            ("a=1&tenant=t-17&b=2", Some("t-17")),
            ("tenant=t%2D17", Some("t-17")),
            ("%74enant=t-17", Some("t-17")),
            ("tenant=a%20b%2Bc", Some("a b+c")),
            ("tenant=a=b", Some("a=b")),
            ("tenant=", Some("")),
            ("tenant", Some("")),
            ("tenants=t-18&tenant=t-17", Some("t-17")),
            ("", None),
            ("other=t-17", None),
            ("tenant=t-17&tenant=t-18", None),
            ("tenant=t-17&tenant=t-17", None),
            ("tenant=t-17&Tenant=t-18", None),
            ("tenant=t-17&tenant[]=t-18", None),
            ("tenant=t-17&tenant%5B%5D=t-18", None),
            ("tenant=t-17&tenant[$ne]=t-18", None),
            ("tenant=t-17&%74enant=t-18", None),
            ("tenant=t-17&tenant%00=t-18", None),
            ("tenant=t-17&%20tenant=t-18", None),
            ("tenant=t-17&+tenant=t-18", None),
            ("tenant=t-17;tenant=t-18", None),
            ("a=1;tenant=t-18&tenant=t-17", None),
            ("TENANT=t-17", None),
            ("tenant[0]=t-17", None),
            ("tenant=a+b", None),
            ("tenant=%ff", None),
            ("tenant=%zz", None),
            ("tenant=t-17&%ff=1", None),
            ("tenant=t-17&=", None),
        ] {
            let found = query_value(query, "tenant", &HeaderMap::new());
            assert_eq!(found.ok().as_deref(), expected, "{query}");
        }
        for (query, good) in
            [("tenant_id=1&tenant.id=2", false), ("tenant_id=1&tenant-id=2", false), ("tenant_id=1", true)]
        {
            assert_eq!(query_value(query, "tenant_id", &HeaderMap::new()).is_ok(), good, "{query}");
        }
        let utf7 = HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-7"))]);
        assert!(query_value("tenant=%2B", "tenant", &utf7).is_err());
    }
}
