//! Finds the route of a request by host, method and path.
//!
//! The rules:
//! - A path template is matched segment by segment: `{name}` takes one, `{name...}` at the end takes one or more.
//! - The most specific template wins, regardless of order: text before `{name}`, `{name}` before `{name...}`.
//! - An API that names the host takes precedence over one that names none.
//! - The path is matched first, then the method: a known path with another method is `405`, as in OpenAPI.
//! - HEAD uses the GET route, unless the path has a HEAD route.
//! - Two routes that would match the same request are an error when the policy is compiled.

use std::collections::HashMap;
use std::fmt;

use http::Method;

/// All routes of a policy.
pub(crate) struct Router<R> {
    /// By host, lower case.
    hosts: HashMap<Box<str>, Paths<R>>,
    /// Routes of APIs without hosts.
    any: Paths<R>,
}

struct Paths<R> {
    tree: matchit::Router<usize>,
    /// The tree holds positions in this list.
    endpoints: Vec<Endpoint<R>>,
    /// Template without names → endpoint, while building.
    known: HashMap<String, usize>,
}

/// One path template and its methods.
struct Endpoint<R> {
    methods: Vec<(Method, R)>,
}

/// The result of a lookup.
#[derive(Debug)]
pub(crate) enum Found<'a, R> {
    /// The route.
    Route(&'a R),
    /// The path exists, with these methods.
    OtherMethods(Vec<Box<str>>),
    /// No route has this path.
    Nothing,
}

/// Why a route cannot be added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Conflict<R> {
    /// Another route matches the same requests.
    Same(R),
    /// Its template overlaps with others, and none is more specific.
    Ambiguous,
}

/// A method and a path template, as written in `METHOD /path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) method: Method,
    /// In the tree's notation, with positions instead of names: `/orders/{0}`.
    template: String,
    names: Vec<PathName>,
}

/// A name in a path template, and the part of the path it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathName {
    pub(crate) name: Box<str>,
    /// Position of the segment, from 0.
    pub(crate) segment: usize,
    /// Whether it also matches all segments after it.
    pub(crate) rest: bool,
}

impl Pattern {
    /// Reads `METHOD /path`; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let Some((method, path)) = text.split_once(' ') else {
            return Err("a route is written `METHOD /path`, such as `GET /orders/{id}`".to_owned());
        };
        if !METHODS.contains(&method) {
            let upper = method.to_ascii_uppercase();
            return Err(match METHODS.contains(&upper.as_str()) {
                true => format!("methods are written in capitals: `{upper} {path}`"),
                false => format!("the method is one of {}", METHODS.join(", ")),
            });
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
        let Some(rest) = path.strip_prefix('/') else {
            return Err("the path begins with `/`".to_owned());
        };
        let mut template = String::new();
        let mut names: Vec<PathName> = Vec::new();
        let mut segments = rest.split('/').enumerate().peekable();
        while let Some((position, segment)) = segments.next() {
            template.push('/');
            let last = segments.peek().is_none();
            match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                None => {
                    literal(segment, last)?;
                    template.push_str(segment);
                }
                Some(inner) => {
                    let (star, name) = match inner.strip_suffix("...") {
                        Some(_) if !last => {
                            return Err(
                                "`{name...}` matches the rest of the path, so it must be the last segment".to_owned()
                            );
                        }
                        Some(name) => ("*", name),
                        None => ("", inner),
                    };
                    let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if name.is_empty() || !name.chars().all(named) {
                        return Err(format!("`{{{inner}}}` is not a name of letters, digits, `_` and `-`"));
                    }
                    if names.iter().any(|known| *known.name == *name) {
                        return Err(format!("`{{{name}}}` occurs twice in the path"));
                    }
                    template.push_str(&format!("{{{star}{}}}", names.len()));
                    names.push(PathName { name: name.into(), segment: position, rest: !star.is_empty() });
                }
            }
        }
        Ok(Self { method, template, names })
    }

    /// The names in its path.
    pub(crate) fn names(&self) -> &[PathName] {
        &self.names
    }
}

/// Checks that the text of a segment is written as in a normalised path (RFC 3986 §6.2.2).
fn literal(segment: &str, last: bool) -> Result<(), String> {
    if segment.contains(['{', '}']) {
        return Err("`{name}` must be a whole segment, without text before or after it".to_owned());
    }
    if segment.is_empty() && !last {
        return Err("the path has an empty segment (`//`)".to_owned());
    }
    if segment == "." || segment == ".." {
        return Err("the path has a dot segment".to_owned());
    }
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => match (bytes.next(), bytes.next()) {
                (Some(b'0'..=b'9' | b'A'..=b'F'), Some(b'0'..=b'9' | b'A'..=b'F')) => {}
                _ => return Err("`%` is followed by two hexadecimal digits, in capitals".to_owned()),
            },
            b'?' | b'#' => return Err("a route is matched by its path only; remove the query or fragment".to_owned()),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {}
            _ if b"-._~!$&'()*+,;=:@".contains(&byte) => {}
            _ => return Err("characters that RFC 3986 does not allow in a path must be percent-encoded".to_owned()),
        }
    }
    Ok(())
}

impl<R> Default for Router<R> {
    fn default() -> Self {
        Self { hosts: HashMap::new(), any: Paths::default() }
    }
}

impl<R> Default for Paths<R> {
    fn default() -> Self {
        Self { tree: matchit::Router::new(), endpoints: Vec::new(), known: HashMap::new() }
    }
}

impl<R: Clone> Router<R> {
    /// Adds a route for these hosts, or for any host if there are none.
    pub(crate) fn add(&mut self, hosts: &[Box<str>], pattern: &Pattern, route: &R) -> Result<(), Conflict<R>> {
        if hosts.is_empty() {
            return self.any.add(pattern, route);
        }
        hosts.iter().try_for_each(|host| self.hosts.entry(host.clone()).or_default().add(pattern, route))
    }

    /// Finds the route of a request; `host` is lower case and has no port.
    pub(crate) fn find(&self, host: &str, method: &Method, path: &str) -> Found<'_, R> {
        let named = if self.hosts.is_empty() { None } else { self.hosts.get(host) };
        match named.map(|paths| paths.find(method, path)) {
            None | Some(Found::Nothing) => self.any.find(method, path),
            Some(found) => found,
        }
    }
}

impl<R: Clone> Paths<R> {
    fn add(&mut self, pattern: &Pattern, route: &R) -> Result<(), Conflict<R>> {
        let position = match self.known.get(&pattern.template) {
            Some(position) => *position,
            None => {
                let position = self.endpoints.len();
                self.tree.insert(pattern.template.as_str(), position).map_err(|_| Conflict::Ambiguous)?;
                self.known.insert(pattern.template.clone(), position);
                self.endpoints.push(Endpoint { methods: Vec::new() });
                position
            }
        };
        let Some(endpoint) = self.endpoints.get_mut(position) else { return Err(Conflict::Ambiguous) };
        if let Some((_, other)) = endpoint.methods.iter().find(|(method, _)| *method == pattern.method) {
            return Err(Conflict::Same(other.clone()));
        }
        endpoint.methods.push((pattern.method.clone(), route.clone()));
        Ok(())
    }

    fn find(&self, method: &Method, path: &str) -> Found<'_, R> {
        let Ok(matched) = self.tree.at(path) else { return Found::Nothing };
        let Some(endpoint) = self.endpoints.get(*matched.value) else { return Found::Nothing };
        let by = |wanted: &Method| endpoint.methods.iter().find(|(method, _)| method == wanted).map(|(_, route)| route);
        let found = by(method).or_else(|| if *method == Method::HEAD { by(&Method::GET) } else { None });
        found.map_or_else(|| Found::OtherMethods(endpoint.allowed()), Found::Route)
    }
}

impl<R> Endpoint<R> {
    fn allowed(&self) -> Vec<Box<str>> {
        let mut names: Vec<Box<str>> = self.methods.iter().map(|(method, _)| method.as_str().into()).collect();
        if names.iter().any(|name| &**name == "GET") {
            names.push("HEAD".into());
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl<R> fmt::Debug for Router<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Router({} hosts, {} paths for any)", self.hosts.len(), self.any.endpoints.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[(&'static str, &[&str])]) -> Result<Router<&'static str>, (String, Conflict<&'static str>)> {
        let mut router = Router::default();
        for (name, hosts) in routes {
            let hosts: Vec<Box<str>> = hosts.iter().map(|host| Box::from(*host)).collect();
            let pattern = Pattern::parse(name).unwrap();
            router.add(&hosts, &pattern, name).map_err(|error| ((*name).to_owned(), error))?;
        }
        Ok(router)
    }

    #[test]
    fn the_more_specific_wins_whatever_the_order() {
        let mut routes: Vec<(&'static str, &[&str])> = vec![
            ("GET /orders/{id}", &[]),
            ("DELETE /orders/{order}", &[]),
            ("GET /orders/mine", &[]),
            ("GET /orders/{id}/items", &[]),
            ("GET /files/{path...}", &[]),
            ("GET /files/a/b", &[]),
            ("GET /", &[]),
            ("POST /orders", &[]),
            ("GET /orders", &["api.example"]),
            ("GET /b/{x}/c", &[]),
            ("GET /b/d/e", &[]),
        ];
        for _ in 0..2 {
            let router = router(&routes).unwrap();
            for (host, method, path, expected) in [
                ("", "GET", "/orders/7", "GET /orders/{id}"),
                ("", "HEAD", "/orders/7", "GET /orders/{id}"),
                ("", "DELETE", "/orders/7", "DELETE /orders/{order}"),
                ("", "GET", "/orders/mine", "GET /orders/mine"),
                ("", "DELETE", "/orders/mine", "405 GET,HEAD"),
                ("", "GET", "/orders/7/items", "GET /orders/{id}/items"),
                ("", "GET", "/orders/7/", "404"),
                ("", "GET", "/orders/", "404"),
                ("", "GET", "/orders", "405 POST"),
                ("api.example", "GET", "/orders", "GET /orders"),
                ("api.example", "POST", "/orders", "405 GET,HEAD"),
                ("api.example", "GET", "/orders/7", "GET /orders/{id}"),
                ("", "GET", "/files/x", "GET /files/{path...}"),
                ("", "GET", "/files/x/y/z", "GET /files/{path...}"),
                ("", "GET", "/files/a/b", "GET /files/a/b"),
                ("", "GET", "/files/a/c", "GET /files/{path...}"),
                ("", "GET", "/files/", "404"),
                ("", "GET", "/b/d/c", "GET /b/{x}/c"),
                ("", "GET", "/", "GET /"),
                ("", "PUT", "/orders/7", "405 DELETE,GET,HEAD"),
                ("", "GET", "/Orders/7", "404"),
            ] {
                let got = match router.find(host, &method.parse().unwrap(), path) {
                    Found::Route(route) => (*route).to_owned(),
                    Found::OtherMethods(methods) => format!("405 {}", methods.join(",")),
                    Found::Nothing => "404".to_owned(),
                };
                assert_eq!(got, expected, "{host} {method} {path}");
            }
            routes.reverse();
        }
    }

    #[test]
    fn two_routes_for_the_same_request_are_a_conflict() {
        for (routes, expected) in [
            (&["GET /a/{x}", "GET /a/{y}"] as &[&'static str], Some(Conflict::Same("GET /a/{x}"))),
            (&["GET /a", "GET /a"], Some(Conflict::Same("GET /a"))),
            (&["GET /a/{x}", "GET /a/{y...}"], Some(Conflict::Ambiguous)),
            (&["GET /a/{x}", "POST /a/{y}"], None),
            (&["GET /a/{x}", "GET /a/b"], None),
        ] {
            let routes: Vec<(&'static str, &[&str])> = routes.iter().map(|name| (*name, &[] as &[&str])).collect();
            assert_eq!(router(&routes).err().map(|(_, conflict)| conflict), expected, "{routes:?}");
        }
    }

    #[test]
    fn patterns_are_read_strictly() {
        for (text, good) in [
            ("GET /", true),
            ("GET /a/{id}/b", true),
            ("GET /a/{rest...}", true),
            ("GET /caf%C3%A9", true),
            ("GET /a/", true),
            ("get /a", false),
            ("FETCH /a", false),
            ("CONNECT /a", false),
            ("GET", false),
            ("GET a", false),
            ("GET  /a", false),
            ("GET /a//b", false),
            ("GET /a/../b", false),
            ("GET /a/{id}.json", false),
            ("GET /a/{}", false),
            ("GET /a/{id}/{id}", false),
            ("GET /a/{rest...}/b", false),
            ("GET /a?b=c", false),
            ("GET /a b", false),
            ("GET /é", false),
            ("GET /%zz", false),
            ("GET /%c3%a9", false),
        ] {
            assert_eq!(Pattern::parse(text).is_ok(), good, "{text}: {:?}", Pattern::parse(text));
        }
    }
}
