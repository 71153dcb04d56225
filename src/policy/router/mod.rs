//! Finds the route of a request by host, method and path.
//!
//! The rules:
//! - A path template is matched segment by segment: `{name}` takes one, or the part of one that the text beside it leaves;
//!   `{name...}` at the end takes one or more.
//! - The most specific template wins, regardless of order: text before names with text, those before `{name}`, that before
//!   `{name...}`.
//! - An API that names the host takes precedence over one that names it by a wildcard (`*.example.com`, one label), and that over
//!   one that names none.
//! - The path is matched first, then the method: a known path with another method is `405`, as in OpenAPI.
//! - HEAD uses the GET route, unless the path has a HEAD route.
//! - A closed operation takes part like a route, and refuses its requests, so that no wider route takes them.
//! - A path that another parser may read as that of another route is refused ([`readings`]).
//! - Two routes that would match the same request are an error when the policy is compiled.

mod closed;
mod pattern;
mod readings;
mod tree;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use http::Method;

use self::closed::QueryCondition;
pub(crate) use self::closed::{Closed, normal};
pub(crate) use self::pattern::Segment;
pub(crate) use self::pattern::{PathName, Pattern};
use self::tree::Node;

/// All routes of a policy.
pub(crate) struct Router<R> {
    /// By host, lower case.
    hosts: HashMap<Box<str>, Paths<R>, ahash::RandomState>,
    /// By what follows the first label of a host.
    wildcards: HashMap<Box<str>, Paths<R>, ahash::RandomState>,
    /// Routes of APIs without hosts.
    any: Paths<R>,
}

struct Paths<R> {
    tree: Node,
    /// The tree holds positions in this list.
    endpoints: Vec<Endpoint<R>>,
}

/// One path template and its methods.
struct Endpoint<R> {
    methods: Vec<(Method, Entry<R>)>,
    /// Requests that are refused although others with this path have a route.
    queries: Vec<(Method, QueryCondition, Arc<str>)>,
}

enum Entry<R> {
    Route(R),
    /// Why the operation is closed.
    Closed(Arc<str>),
}

/// The result of a lookup.
#[derive(Debug)]
pub(crate) enum Found<'a, R> {
    /// The route.
    Route(&'a R),
    /// The path exists, with these methods.
    OtherMethods(Vec<Box<str>>),
    /// The request is for an operation that is closed; why.
    Closed(&'a str),
    /// Another parser may read the path as that of another route.
    Ambiguous,
    /// No route has this path.
    Nothing,
}

/// Another route matches the same requests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict<R>(pub(crate) R);

impl<R> Default for Router<R> {
    fn default() -> Self {
        Self { hosts: HashMap::default(), wildcards: HashMap::default(), any: Paths::default() }
    }
}

impl<R> Default for Paths<R> {
    fn default() -> Self {
        Self { tree: Node::default(), endpoints: Vec::new() }
    }
}

impl<R: Clone> Router<R> {
    /// Adds a route for these hosts, or for any host if there are none.
    pub(crate) fn add(&mut self, hosts: &[Box<str>], pattern: &Pattern, route: &R) -> Result<(), Conflict<R>> {
        self.each(hosts, |paths| paths.add(pattern, route))
    }

    /// Refuses the requests of a closed operation, unless a route matches exactly the same requests.
    pub(crate) fn close(&mut self, hosts: &[Box<str>], closed: &Closed, why: &Arc<str>) {
        let Ok(()) = self.each(hosts, |paths| {
            paths.close(closed, why);
            Ok::<(), Infallible>(())
        });
    }

    fn each<E>(&mut self, hosts: &[Box<str>], mut change: impl FnMut(&mut Paths<R>) -> Result<(), E>) -> Result<(), E> {
        if hosts.is_empty() {
            return change(&mut self.any);
        }
        hosts.iter().try_for_each(|host| match host.strip_prefix("*.") {
            Some(domain) => change(self.wildcards.entry(domain.into()).or_default()),
            None => change(self.hosts.entry(host.clone()).or_default()),
        })
    }

    /// Finds the route of a request; `host` is lower case and has no port, and `path` is normalised.
    pub(crate) fn find(&self, host: &str, method: &Method, path: &str, query: Option<&str>) -> Found<'_, R> {
        let named = if self.hosts.is_empty() { None } else { self.hosts.get(host) };
        match named.map(|paths| paths.find(method, path, query)) {
            None | Some(Found::Nothing) => {}
            Some(found) => return found,
        }
        let wild = if self.wildcards.is_empty() { None } else { domain(host) };
        match wild.and_then(|domain| self.wildcards.get(domain)).map(|paths| paths.find(method, path, query)) {
            None | Some(Found::Nothing) => self.any.find(method, path, query),
            Some(found) => found,
        }
    }
}

/// Whether one of these hosts, which may be wildcards, is this host.
pub(crate) fn has_host(hosts: &[Box<str>], host: &str) -> bool {
    hosts.iter().any(|known| match known.strip_prefix("*.") {
        Some(wild) => domain(host) == Some(wild),
        None => **known == *host,
    })
}

/// What follows the first label of a host name.
fn domain(host: &str) -> Option<&str> {
    host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, domain)| domain)
}

impl<R: Clone> Paths<R> {
    fn add(&mut self, pattern: &Pattern, route: &R) -> Result<(), Conflict<R>> {
        let Some(endpoint) = self.endpoint(&pattern.segments) else { return Ok(()) };
        match endpoint.methods.iter_mut().find(|(method, _)| *method == pattern.method) {
            Some((_, Entry::Route(other))) => return Err(Conflict(other.clone())),
            Some((_, closed)) => *closed = Entry::Route(route.clone()),
            None => endpoint.methods.push((pattern.method.clone(), Entry::Route(route.clone()))),
        }
        Ok(())
    }

    fn close(&mut self, closed: &Closed, why: &Arc<str>) {
        let method = &closed.pattern.method;
        let Some(endpoint) = self.endpoint(&closed.pattern.segments) else { return };
        match &closed.query {
            Some(query) => endpoint.queries.push((method.clone(), query.clone(), Arc::clone(why))),
            None if endpoint.methods.iter().any(|(known, _)| known == method) => {}
            None => endpoint.methods.push((method.clone(), Entry::Closed(Arc::clone(why)))),
        }
    }

    fn endpoint(&mut self, segments: &[Segment]) -> Option<&mut Endpoint<R>> {
        let position = self.tree.insert(segments, self.endpoints.len());
        if position == self.endpoints.len() {
            self.endpoints.push(Endpoint { methods: Vec::new(), queries: Vec::new() });
        }
        self.endpoints.get_mut(position)
    }

    fn find(&self, method: &Method, path: &str, query: Option<&str>) -> Found<'_, R> {
        let lookup = |path: &str| {
            let answers = |end: usize| self.endpoints.get(end).is_some_and(|one| one.answers(method, query));
            self.tree.find(path.strip_prefix('/').unwrap_or(path), &answers)
        };
        let Some(position) = lookup(path) else { return Found::Nothing };
        if readings::of(path).any(|other| lookup(&other).is_some_and(|other| other != position)) {
            return Found::Ambiguous;
        }
        self.endpoints.get(position).map_or(Found::Nothing, |endpoint| endpoint.find(method, query))
    }
}

impl<R> Endpoint<R> {
    /// Whether it decides about requests with this method and query. An endpoint that only closes some queries leaves all
    /// others to wider templates.
    fn answers(&self, method: &Method, query: Option<&str>) -> bool {
        !self.methods.is_empty() || self.closes(method, query).is_some()
    }

    fn closes(&self, method: &Method, query: Option<&str>) -> Option<&str> {
        let served = |other: &Method| other == method || (*method == Method::HEAD && *other == Method::GET);
        let closed = self.queries.iter().find(|(other, condition, _)| served(other) && condition.is_met(query));
        closed.map(|(.., why)| &**why)
    }

    fn find(&self, method: &Method, query: Option<&str>) -> Found<'_, R> {
        if let Some(why) = self.closes(method, query) {
            return Found::Closed(why);
        }
        let by = |wanted: &Method| self.methods.iter().find(|(method, _)| method == wanted).map(|(_, entry)| entry);
        match by(method).or_else(|| if *method == Method::HEAD { by(&Method::GET) } else { None }) {
            Some(Entry::Route(route)) => Found::Route(route),
            Some(Entry::Closed(why)) => Found::Closed(why),
            None => match self.allowed() {
                none if none.is_empty() => Found::Nothing,
                methods => Found::OtherMethods(methods),
            },
        }
    }

    fn allowed(&self) -> Vec<Box<str>> {
        let open = self.methods.iter().filter(|(_, entry)| matches!(entry, Entry::Route(_)));
        let mut names: Vec<Box<str>> = open.map(|(method, _)| method.as_str().into()).collect();
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
        write!(
            f,
            "Router({} hosts, {} paths for any)",
            self.hosts.len() + self.wildcards.len(),
            self.any.endpoints.len()
        )
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

    /// Finds `METHOD /path?query` for any host.
    fn found(router: &Router<&'static str>, host: &str, request: &str) -> String {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        match router.find(host, &method.parse().unwrap(), path, query) {
            Found::Route(route) => (*route).to_owned(),
            Found::OtherMethods(methods) => format!("405 {}", methods.join(",")),
            Found::Closed(why) => format!("closed {why}"),
            Found::Ambiguous => "400".to_owned(),
            Found::Nothing => "404".to_owned(),
        }
    }

    #[test]
    fn the_more_specific_wins_whatever_the_order() {
        let mut routes: Vec<(&'static str, &[&str])> = vec![
            ("GET /orders/{id}", &[]),
            ("DELETE /orders/{order}", &[]),
            ("GET /orders/mine", &[]),
            ("GET /orders/{id}/items", &[]),
            ("GET /files/{path...}", &[]),
            ("GET /files/{name}", &[]),
            ("GET /files/a/b", &[]),
            ("GET /", &[]),
            ("POST /orders", &[]),
            ("GET /orders", &["api.example"]),
            ("GET /b/{x}/c", &[]),
            ("GET /b/d/e", &[]),
        ];
        for _ in 0..2 {
            let router = router(&routes).unwrap();
            for (host, request, expected) in [
                ("", "GET /orders/7", "GET /orders/{id}"),
                ("", "HEAD /orders/7", "GET /orders/{id}"),
                ("", "DELETE /orders/7", "DELETE /orders/{order}"),
                ("", "GET /orders/mine", "GET /orders/mine"),
                ("", "DELETE /orders/mine", "405 GET,HEAD"),
                ("", "GET /orders/7/items", "GET /orders/{id}/items"),
                ("", "GET /orders/7/", "404"),
                ("", "GET /orders/", "404"),
                ("", "GET /orders", "405 POST"),
                ("api.example", "GET /orders", "GET /orders"),
                ("api.example", "POST /orders", "405 GET,HEAD"),
                ("api.example", "GET /orders/7", "GET /orders/{id}"),
                ("", "GET /files/x", "GET /files/{name}"),
                ("", "GET /files/x/y/z", "GET /files/{path...}"),
                ("", "GET /files/a/b", "GET /files/a/b"),
                ("", "GET /files/a/c", "GET /files/{path...}"),
                ("", "GET /files/", "404"),
                ("", "GET /b/d/c", "GET /b/{x}/c"),
                ("", "GET /", "GET /"),
                ("", "PUT /orders/7", "405 DELETE,GET,HEAD"),
                ("", "GET /Orders/7", "404"),
            ] {
                assert_eq!(found(&router, host, request), expected, "{host} {request}");
            }
            routes.reverse();
        }
    }

    /// F1
    #[test]
    fn text_beside_a_name_wins_over_the_name_alone_in_every_spelling() {
        let mut routes: Vec<(&'static str, &[&str])> = vec![
            ("GET /keys/{id}", &[]),
            ("GET /keys/{id}:reveal", &[]),
            ("GET /keys/{id}.json", &[]),
            ("GET /keys/{id}.v2.json", &[]),
            ("GET /keys/{a}-{b}/diff", &[]),
            ("POST /keys/{id}:revoke", &[]),
            ("GET /keys/{id}/{rest...}", &[]),
        ];
        for _ in 0..2 {
            let router = router(&routes).unwrap();
            for (request, expected) in [
                ("GET /keys/7", "GET /keys/{id}"),
                ("GET /keys/7:reveal", "GET /keys/{id}:reveal"),
                ("GET /keys/7:other", "GET /keys/{id}"),
                ("GET /keys/:reveal", "GET /keys/{id}:reveal"),
                ("GET /keys/7:reveal:reveal", "GET /keys/{id}:reveal"),
                ("GET /keys/7.json", "GET /keys/{id}.json"),
                ("GET /keys/7.v2.json", "GET /keys/{id}.v2.json"),
                ("GET /keys/1-2-3/diff", "GET /keys/{a}-{b}/diff"),
                ("GET /keys/12/diff", "GET /keys/{id}/{rest...}"),
                ("GET /keys/7:revoke", "405 POST"),
                // Parsers that decode, or that remove parameters of segments, would find another route.
                ("GET /keys/7%3Areveal", "400"),
                ("GET /keys/7:reveal;x=1", "400"),
                ("GET /keys/7%3Areveal%3Bx", "400"),
                ("GET /keys/7%3Aother", "GET /keys/{id}"),
                ("GET /keys/7;x=1", "GET /keys/{id}"),
                ("GET /keys/7%3Areveal/x", "GET /keys/{id}/{rest...}"),
            ] {
                assert_eq!(found(&router, "", request), expected, "{request}");
            }
            routes.reverse();
        }
    }

    /// F1
    #[test]
    fn a_closed_operation_takes_its_requests_from_wider_routes() {
        let routes: [(&'static str, &[&str]); 5] = [
            ("GET /orders", &[]),
            ("GET /orders/{id}", &[]),
            ("GET /{rest...}", &[]),
            ("PUT /own/{id}.x", &[]),
            ("POST /{rest...}", &[]),
        ];
        let mut router = router(&routes).unwrap();
        for (method, template) in [
            ("GET", "/orders?action=export"),
            ("GET", "/orders/{id}:reveal"),
            ("GET", "/made/{a}{b}"),
            ("GET", "/twice/{x}/{x}"),
            ("GET", "/tree/{+path}"),
            ("GET", "/only?acl"),
            ("PUT", "/own/{id}.x"),
            ("GET", "//never"),
        ] {
            let method = method.parse().unwrap();
            if let Some(closed) = Closed::parse(method, template) {
                router.close(&[], &closed, &template.into());
            }
        }
        for (request, expected) in [
            ("GET /orders", "GET /orders"),
            ("GET /orders?action=list", "GET /orders"),
            ("GET /orders?action=export", "closed /orders?action=export"),
            ("HEAD /orders?action=export", "closed /orders?action=export"),
            ("GET /orders?x=1&Action=EXPORT", "closed /orders?action=export"),
            ("GET /orders?%61ction=ex%70ort", "closed /orders?action=export"),
            ("GET /orders?action=list&action=export", "closed /orders?action=export"),
            ("GET /orders?x;action=export", "closed /orders?action=export"),
            ("GET /orders?action[]=export", "closed /orders?action=export"),
            ("GET /orders?action=%ff", "closed /orders?action=export"),
            ("POST /orders?action=export", "405 GET,HEAD"),
            ("GET /orders/7", "GET /orders/{id}"),
            ("GET /orders/7:reveal", "closed /orders/{id}:reveal"),
            ("HEAD /orders/7:reveal", "closed /orders/{id}:reveal"),
            ("GET /orders/7%3Areveal", "400"),
            ("DELETE /orders/7:reveal", "404"),
            ("GET /made/ab", "closed /made/{a}{b}"),
            ("GET /twice/a/b", "closed /twice/{x}/{x}"),
            ("GET /tree/a/b/c", "closed /tree/{+path}"),
            ("GET /only", "GET /{rest...}"),
            ("GET /only?acl", "closed /only?acl"),
            ("GET /only?acl=x", "closed /only?acl"),
            ("POST /only?acl", "POST /{rest...}"),
            ("PUT /own/7.x", "PUT /own/{id}.x"),
        ] {
            assert_eq!(found(&router, "", request), expected, "{request}");
        }
    }

    #[test]
    fn two_routes_for_the_same_request_are_a_conflict() {
        for (routes, expected) in [
            (&["GET /a/{x}", "GET /a/{y}"] as &[&'static str], Some(Conflict("GET /a/{x}"))),
            (&["GET /a", "GET /a"], Some(Conflict("GET /a"))),
            (&["GET /a/{x}.b", "GET /a/{y}.b"], Some(Conflict("GET /a/{x}.b"))),
            (&["GET /a/{x...}", "GET /a/{y...}"], Some(Conflict("GET /a/{x...}"))),
            (&["GET /a/{x}", "GET /a/{y...}"], None),
            (&["GET /a/{x}", "POST /a/{y}"], None),
            (&["GET /a/{x}", "GET /a/b"], None),
        ] {
            let routes: Vec<(&'static str, &[&str])> = routes.iter().map(|name| (*name, &[] as &[&str])).collect();
            assert_eq!(router(&routes).err().map(|(_, conflict)| conflict), expected, "{routes:?}");
        }
    }
}
