//! Path templates: from OpenAPI's to the router's.

use crate::policy::router::{Pattern, normal};

/// `METHOD /path`, as routes are named. The error says why there is no such route.
pub(super) fn route(method: &str, path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err("a path begins with `/`".to_owned());
    }
    if path.contains(['?', '#']) {
        return Err("a route is matched by its path only, without a query or fragment".to_owned());
    }
    let segments = path.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
    let route = format!("{method} {}", segments.join("/"));
    Pattern::parse(&route).map(|_| route)
}

fn segment(segment: &str) -> Result<String, String> {
    let mut made = String::new();
    let mut rest = segment;
    while let Some((text, inner)) = rest.split_once('{') {
        let (name, after) = inner.split_once('}').ok_or("`{` is never closed")?;
        if name.starts_with(['+', '/', '.', ';', '&', '*']) || name.ends_with(['*', '.']) || name.contains(':') {
            return Err(format!("`{{{name}}}` is not the name of a parameter"));
        }
        made.push_str(&format!("{}{{{}}}", normal(text), parameter(name)));
        rest = after;
    }
    if rest.contains('}') {
        return Err("`}` has no `{` before it".to_owned());
    }
    made.push_str(&normal(rest));
    Ok(made)
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
        for (template, expected) in [
            ("/orders/{id}", Some("GET /orders/{id}")),
            ("/v1/orders", Some("GET /v1/orders")),
            ("/", Some("GET /")),
            ("/a/{user.id}/", Some("GET /a/{user_id}/")),
            ("/a b/ü", Some("GET /a%20b/%C3%BC")),
            ("/%7ea%3ab", Some("GET /~a%3Ab")),
            ("/a:batch", Some("GET /a:batch")),
            ("/files/{a}.{b}", Some("GET /files/{a}.{b}")),
            ("/files/{a}.json", Some("GET /files/{a}.json")),
            ("/files/v{a.b} {c}:do", Some("GET /files/v{a_b}%20{c}:do")),
            ("/files/{a}{b}", None),
            ("/files/{a", None),
            ("/files/a}", None),
            ("/files/{path*}", None),
            ("/files/{+path}", None),
            ("/files/{path:.*}", None),
            ("/a/{x}/{x}", None),
            ("/a?b=1", None),
            ("/a#b", None),
            ("//a", None),
            ("a", None),
        ] {
            assert_eq!(route("GET", template).ok().as_deref(), expected, "{template}");
        }
        assert_eq!(names("/a/{b}/{c.d}.json").collect::<Vec<_>>(), ["b", "c.d"]);
    }
}
