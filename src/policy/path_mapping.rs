//! How the path of a request becomes the path that its upstream gets, and how the upstream's paths become the client's.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;

use super::router::{Found, Pattern, Router};
use crate::stages::schema::segment::{PathPlace, Split};

/// What becomes of the path of a request, before the base path of a server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum PathMapping {
    /// Nothing: it is forwarded as it was matched.
    #[default]
    Same,
    /// This is taken off its front. The routes of the API begin with it.
    Strip(Box<str>),
    /// It is replaced by this template.
    Rewrite(Template),
}

/// A path with names of another path in it: `/internal/customers/{id}`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    text: Box<str>,
    pieces: Box<[Piece]>,
}

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// Text, in normal form.
    Text(Box<str>),
    /// The value at this place of the path.
    Value(PathPlace),
}

impl Template {
    /// Reads a template; `place` finds what is between braces. Returns it with a path that it may give; `None` if a brace is never
    /// closed, or `place` finds nothing.
    pub(crate) fn read(text: &str, mut place: impl FnMut(&str) -> Option<PathPlace>) -> Option<(Self, String)> {
        let (mut pieces, mut sample, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, inner)) = rest.split_once('{') {
            let (name, after) = inner.split_once('}')?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(Piece::Value(place(name)?));
            sample.push_str(before);
            sample.push('x');
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        sample.push_str(rest);
        Some((Self { text: text.into(), pieces: pieces.into() }, sample))
    }

    /// The path with the values that its names have in another path; `None` if one can be read in two ways.
    fn fill(&self, path: &str) -> Option<String> {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Value(place) => {
                    let value = place.value(path, Split::Shortest);
                    if place.is_part() && value != place.value(path, Split::Longest) {
                        return None;
                    }
                    filled.push_str(value);
                }
            }
        }
        Some(filled)
    }
}

/// The paths of clients that the rewritten paths of an API come from.
#[derive(Debug, Default)]
pub(crate) struct ReversedRewrites(Router<Arc<Template>>);

impl ReversedRewrites {
    /// Adds the rewritten path of a route, unless it does not have all of the names in the route's path.
    pub(crate) fn add(&mut self, route: &str, mapping: &PathMapping) {
        let PathMapping::Rewrite(Template { text, .. }) = mapping else { return };
        let Ok(rewritten) = Pattern::parse(&format!("GET {text}")) else { return };
        let path = route.split_once(' ').map_or(route, |(_, path)| path);
        let place = |written: &str| {
            let name = written.trim_end_matches("...");
            rewritten.names().iter().find(|known| *known.name == *name).map(|known| known.place.clone())
        };
        if let Some((template, _)) = Template::read(path, place) {
            // Of two routes with the same rewritten path, the first counts.
            let _ = self.0.add(&[], &rewritten, &Arc::new(template));
        }
    }

    /// Returns the client's path for a path of the upstream, if a route is rewritten to it.
    pub(crate) fn path(&self, rewritten: &str) -> Option<String> {
        match self.0.find("", &Method::GET, rewritten, None) {
            Found::Route(template) => template.fill(rewritten),
            _ => None,
        }
    }
}

impl PathMapping {
    /// Returns the path for the upstream, in place of this one, which matches the route. `None` if a value of the route can be
    /// read in two ways.
    ///
    /// Values of names that are put together may give a path that is not in normal form.
    pub(crate) fn apply<'p>(&self, path: &'p str) -> Option<Cow<'p, str>> {
        match self {
            Self::Same => Some(Cow::Borrowed(path)),
            Self::Strip(prefix) => Some(match path.strip_prefix(&**prefix) {
                Some("") => Cow::Borrowed("/"),
                Some(rest) if rest.starts_with('/') => Cow::Borrowed(rest),
                // Not reached: the compiler has seen to it that the routes begin with it.
                _ => return None,
            }),
            Self::Rewrite(template) => template.fill(path).map(Cow::Owned),
        }
    }
}

/// Returns what follows `base`, empty or a path without a slash at its end, in a path or in a path with a query and a fragment;
/// `None` if it is not below it.
pub(crate) fn below<'p>(path: &'p str, base: &str) -> Option<&'p str> {
    path.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(route: &str, template: &str) -> PathMapping {
        let pattern = Pattern::parse(route).unwrap();
        let place = |written: &str| {
            let name = written.trim_end_matches("...");
            pattern.names().iter().find(|known| *known.name == *name).map(|known| known.place.clone())
        };
        PathMapping::Rewrite(Template::read(template, place).unwrap().0)
    }

    #[test]
    fn paths_for_the_upstream() {
        let strip = || PathMapping::Strip("/v1".into());
        for (mapping, path, expected) in [
            (PathMapping::Same, "/v1/a", Some("/v1/a")),
            (strip(), "/v1/a", Some("/a")),
            (strip(), "/v1", Some("/")),
            (strip(), "/v1/", Some("/")),
            (strip(), "/v10", None),
            (rewrite("GET /c/{id}", "/internal/{id}/x"), "/c/7%20", Some("/internal/7%20/x")),
            (rewrite("GET /c/{id}", "/fixed"), "/c/7", Some("/fixed")),
            (rewrite("GET /f/{path...}", "/g/{path...}"), "/f/a/b/", Some("/g/a/b/")),
            (rewrite("GET /{a}-{b}.x", "/{b}/{a}"), "/1-2.x", Some("/2/1")),
            (rewrite("GET /{a}-{b}.x", "/{b}/{a}"), "/1-2-3.x", None),
        ] {
            assert_eq!(mapping.apply(path).as_deref(), expected, "{mapping:?} {path}");
        }
    }

    #[test]
    fn paths_of_the_upstream_lead_back_to_the_routes_that_are_rewritten_to_them() {
        let mut reversed = ReversedRewrites::default();
        for (route, template) in [
            ("GET /v1/customers/{id}", "/internal/customers/{id}"),
            ("DELETE /v1/customers/{id}", "/internal/customers/{id}"),
            ("POST /v1/customers", "/internal/customers"),
            ("GET /v1/files/{path...}", "/store/{path...}"),
            ("GET /v1/{tenant}/report", "/report"),
            ("GET /v1/{a}/{b}", "/joined/{a}{b}"),
        ] {
            reversed.add(route, &rewrite(route, template));
        }
        for (rewritten, expected) in [
            ("/internal/customers/7", Some("/v1/customers/7")),
            ("/internal/customers", Some("/v1/customers")),
            ("/store/a/b", Some("/v1/files/a/b")),
            ("/report", None),
            ("/joined/ab", None),
            ("/other", None),
        ] {
            assert_eq!(reversed.path(rewritten).as_deref(), expected, "{rewritten}");
        }
    }

    #[test]
    fn what_is_below_a_base_path_begins_at_a_segment() {
        for (path, base, expected) in [
            ("/base/a", "/base", Some("/a")),
            ("/base", "/base", Some("")),
            ("/base?q", "/base", Some("?q")),
            ("/based", "/base", None),
            ("/a", "/base", None),
            ("/a", "", Some("/a")),
        ] {
            assert_eq!(below(path, base), expected, "{path} {base}");
        }
    }
}
