//! Path templates: from OpenAPI's to the router's.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::policy::router::Pattern;

/// Characters that RFC 3986 does not allow in a path, apart from `%`.
const ENCODED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'|').add(b'[').add(b']');

/// `METHOD /path`, as routes are named. The error says why there is no such route.
pub(super) fn route(method: &str, base: &str, template: &str) -> Result<String, String> {
    if !template.starts_with('/') {
        return Err("a path begins with `/`".to_owned());
    }
    let segments = template.split('/').skip(1).map(|segment| {
        match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
            Some(name) if !name.contains(['{', '}']) => format!("{{{}}}", parameter(name)),
            _ => utf8_percent_encode(segment, ENCODED).to_string(),
        }
    });
    let path = segments.collect::<Vec<_>>().join("/");
    let route = format!("{method} {base}/{path}");
    Pattern::parse(&route).map(|_| route)
}

/// The name of a path parameter in routes: letters, digits, `_` and `-`.
pub(super) fn parameter(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// The names in a template, as written.
pub(super) fn names(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_become_routes_or_say_why_not() {
        for (base, template, expected) in [
            ("", "/orders/{id}", Some("GET /orders/{id}")),
            ("/v1", "/orders", Some("GET /v1/orders")),
            ("", "/", Some("GET /")),
            ("", "/a/{user.id}/", Some("GET /a/{user_id}/")),
            ("", "/a b/ü", Some("GET /a%20b/%C3%BC")),
            ("", "/a:batch", Some("GET /a:batch")),
            ("", "/files/{a}.{b}", None),
            ("", "/files/{a}{b}", None),
            ("", "/files/{a}.json", None),
            ("", "/a/{x}/{x}", None),
            ("", "/a?b=1", None),
            ("", "/a#b", None),
            ("", "//a", None),
            ("", "a", None),
        ] {
            assert_eq!(route("GET", base, template).ok().as_deref(), expected, "{base} {template}");
        }
        assert_eq!(names("/a/{b}/{c.d}.json").collect::<Vec<_>>(), ["b", "c.d"]);
    }
}
