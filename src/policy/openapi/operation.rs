//! Paths and their operations.

use std::collections::HashMap;

use http::Method;
use serde_json::Value;

use super::content::{self, Content};
use super::diagnostics::Diagnostics;
use super::extensions::{self, Extensions};
use super::files::{Node, Spot};
use super::parameters::{self, Parameters};
use super::reading::Reading;
use super::schema::{Direction, Name};
use super::security::{self, Security};
use super::{path, servers, visible};
use crate::policy::router::{Closed, Pattern};
use crate::policy::source::quote;
use crate::stages::mask::Rule;
use crate::stages::schema::media_type::MediaRange;

/// The methods that can have routes; TRACE cannot.
const METHODS: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];

/// One operation.
#[derive(Debug)]
pub(crate) struct Operation {
    /// `METHOD /path`, as routes are named; the path begins with that of the server.
    pub(crate) route: String,
    /// Where it is.
    pub(crate) spot: Spot,
    /// Its first tag.
    pub(crate) tag: Option<String>,
    /// Its summary, or else its description.
    pub(crate) summary: Option<String>,
    /// Who may call it.
    pub(crate) security: Security,
    /// Its parameters, by location.
    pub(crate) parameters: Vec<Parameters>,
    /// Its body, where one is described.
    pub(crate) request: Option<Request>,
    /// Its responses.
    pub(crate) responses: Vec<Response>,
    /// What some callers do not see of its responses.
    pub(crate) mask: Vec<Rule>,
    /// Its `x-bartizan` settings.
    pub(crate) extensions: Extensions,
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Whether a body is required.
    pub(crate) required: bool,
    /// Ranges of media types, and how bodies of each are validated.
    pub(crate) contents: Vec<(MediaRange, Content)>,
}

/// The responses with a status, or with a class of statuses.
#[derive(Debug)]
pub(crate) struct Response {
    /// `200`, `2XX` or `default`.
    pub(crate) status: String,
    /// Ranges of media types, and how bodies of each are validated; empty where no body is described.
    pub(crate) contents: Vec<(MediaRange, Content)>,
}

/// An operation without a route. Its requests are refused, whatever wider route there is.
#[derive(Debug)]
pub(crate) struct ClosedOperation {
    /// What it matches; `None` where the proxy refuses its path anyway.
    pub(crate) closed: Option<Closed>,
    /// `METHOD /path`, as written.
    pub(crate) name: String,
    pub(crate) why: String,
    /// Where it is.
    pub(crate) spot: Spot,
    /// Whether the policy left it out, so that nothing needs to be reported.
    pub(crate) skipped: bool,
}

/// The operations of a description, with a route and without.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) open: Vec<Operation>,
    pub(super) closed: Vec<ClosedOperation>,
}

/// An operation as it is found in a description.
struct Written<'n, 'd> {
    root: &'n Node<'d>,
    item: &'n Node<'d>,
    node: &'n Node<'d>,
    template: &'n str,
    /// In capitals.
    method: String,
}

/// All operations of a document.
pub(super) fn all<'d>(reading: &mut Reading<'d>, root: &Node<'d>) -> Operations {
    let mut operations = Operations::default();
    let paths = root.get("paths");
    for (template, node) in paths.iter().flat_map(Node::entries) {
        if template.starts_with("x-") {
            continue;
        }
        let item = match node.resolved() {
            Ok(item) => item,
            Err(problem) => {
                reading.diagnostics.closing(&node, problem.clone());
                for method in METHODS.map(str::to_ascii_uppercase) {
                    let written = Written { root, item: &node, node: &node, template, method };
                    let closed = written.close(reading, problem.clone(), false);
                    operations.closed.push(closed);
                }
                continue;
            }
        };
        for (key, node) in item.entries() {
            let lower = key.to_ascii_lowercase();
            if METHODS.contains(&lower.as_str()) {
                if key != lower {
                    reading.diagnostics.closing(&node, "methods are written in lower case").at_key();
                }
                let method = key.to_ascii_uppercase();
                Written { root, item: &item, node: &node, template, method }.read(
                    reading,
                    key != lower,
                    &mut operations,
                );
            } else if key == "trace" {
                reading.diagnostics.warning(&node, "TRACE requests are never forwarded").at_key();
            }
        }
    }
    let none = operations.open.is_empty() && operations.closed.is_empty();
    if none && !reading.diagnostics.has_errors() {
        reading.diagnostics.error(paths.as_ref().unwrap_or(root), "no operation is described here");
    }
    operations
}

impl<'d> Written<'_, 'd> {
    fn read(&self, reading: &mut Reading<'d>, misspelt: bool, operations: &mut Operations) {
        if self.is_skipped(reading) {
            // What its responses hide is meant for them, and does nothing wrong here.
            visible::read(self.node, &mut reading.unused, &mut Diagnostics::default());
            let closed = self.close(reading, "the policy skips this operation".to_owned(), true);
            operations.closed.push(closed);
            return;
        }
        let before = reading.diagnostics.closings();
        let Self { root, item, node, template, .. } = *self;
        let base = servers::base_path(node, item, root, &mut reading.diagnostics);
        let extensions = extensions::read(&[root, item, node], &mut reading.diagnostics);
        let security = security::read(reading, node, root);
        let parameters = parameters::read(reading, node, item, template);
        let request = request(reading, node);
        let responses = responses(reading, node);
        let mask = visible::read(node, &mut reading.unused, &mut reading.diagnostics);
        let route = path::route(&self.method, &format!("{base}{template}"));
        let odd = reading.diagnostics.closed_since(before).map(str::to_owned);
        let odd = odd.or_else(|| misspelt.then(|| "its method is not written in lower case".to_owned()));
        let route = match (odd, route) {
            (Some(why), _) | (None, Err(why)) => {
                let closed = self.close(reading, why, false);
                operations.closed.push(closed);
                return;
            }
            (None, Ok(route)) => route,
        };
        let tag = node.get("tags").and_then(|tags| tags.items().next()).and_then(|tag| tag.value.as_str());
        operations.open.push(Operation {
            route,
            spot: Spot::of(node),
            tag: tag.map(str::to_owned),
            summary: node.text("summary").or_else(|| node.text("description")).map(str::to_owned),
            security,
            parameters,
            request,
            responses,
            mask,
            extensions,
        });
    }

    /// Whether the policy leaves it out, by its id or by its method and path, with or without that of the server.
    fn is_skipped(&self, reading: &mut Reading<'d>) -> bool {
        if reading.options.skip.is_empty() {
            return false;
        }
        let base = servers::base_path(self.node, self.item, self.root, &mut Diagnostics::default());
        let path = |text: &str| {
            text.split_once(' ').is_some_and(|(method, path)| {
                method == self.method && (path == self.template || path == format!("{base}{}", self.template))
            })
        };
        let id = self.node.text("operationId");
        let mut skipped = false;
        for (text, known) in reading.options.skip.iter().zip(&mut reading.skipped) {
            if Some(text.as_str()) == id || path(text) {
                *known = true;
                skipped = true;
            }
        }
        skipped
    }

    fn close(&self, reading: &mut Reading<'d>, why: String, skipped: bool) -> ClosedOperation {
        let base = servers::base_path(self.node, self.item, self.root, &mut reading.diagnostics);
        let template = format!("{base}{}", self.template);
        let method = Method::from_bytes(self.method.as_bytes()).unwrap_or_default();
        ClosedOperation {
            closed: Closed::parse(method, &template),
            name: format!("{} {template}", self.method),
            why,
            spot: Spot::of(self.node),
            skipped,
        }
    }
}

impl Operations {
    /// Closes the operations whose requests cannot be told apart, and those that `why` gives a reason for.
    pub(super) fn close(&mut self, why: impl Fn(&Operation) -> Option<String>) {
        let patterns: Vec<_> = self.open.iter().map(|one| Pattern::parse(&one.route).ok()).collect();
        // By the requests that they match: the names of operations.
        let mut same: HashMap<_, Vec<&str>> = HashMap::new();
        let closed = self.closed.iter().filter(|one| !one.skipped);
        let closed = closed.filter_map(|one| Some((one.closed.as_ref()?.requests()?, &*one.name)));
        let open = patterns
            .iter()
            .zip(&self.open)
            .filter_map(|(pattern, one)| Some((pattern.as_ref()?.requests(), &*one.route)));
        for (requests, name) in open.chain(closed) {
            same.entry(requests).or_default().push(name);
        }
        let reason = |(pattern, operation): (&Option<Pattern>, &Operation)| {
            let others = same.get(&pattern.as_ref()?.requests())?;
            let other = others.iter().find(|name| **name != operation.route).or_else(|| others.get(1));
            other.map(|name| format!("it matches the same requests as `{name}`")).or_else(|| why(operation))
        };
        let reasons: Vec<Option<String>> = patterns.iter().zip(&self.open).map(reason).collect();
        drop(same);
        let open = std::mem::take(&mut self.open).into_iter().zip(patterns).zip(reasons);
        for ((operation, pattern), reason) in open {
            match reason {
                None => self.open.push(operation),
                Some(why) => self.closed.push(ClosedOperation {
                    closed: pattern.as_ref().map(Closed::of),
                    name: operation.route,
                    why,
                    spot: operation.spot,
                    skipped: false,
                }),
            }
        }
    }
}

impl Operation {
    /// The names of all definitions that it needs: of requests, and of responses.
    pub(super) fn schemas(&self) -> (Vec<&Name>, Vec<&Name>) {
        let parameters = self
            .parameters
            .iter()
            .flat_map(|group| group.fields.iter().map(|field| &field.schema).chain(std::iter::once(&group.schema)));
        let bodies = self.request.iter().flat_map(|request| &request.contents);
        let requests = parameters.chain(bodies.flat_map(|(_, content)| content.schemas())).collect();
        let answers = self.responses.iter().flat_map(|response| &response.contents);
        (requests, answers.flat_map(|(_, content)| content.schemas()).collect())
    }
}

fn request<'d>(reading: &mut Reading<'d>, operation: &Node<'d>) -> Option<Request> {
    let written = operation.get("requestBody")?;
    reading.require(operation, "requestBody", Value::is_object, "a description of a body");
    match written.resolved() {
        Ok(body) => {
            reading.require(&body, "required", Value::is_boolean, "`true` or `false`");
            reading.require(&body, "content", Value::is_object, "a map of media types");
            let contents = match body.get("content") {
                Some(content) => content::read(reading, &content, Direction::Request),
                None => Vec::new(),
            };
            Some(Request { required: body.flag("required"), contents })
        }
        Err(problem) => {
            reading.diagnostics.closing(&written, problem);
            None
        }
    }
}

fn responses<'d>(reading: &mut Reading<'d>, operation: &Node<'d>) -> Vec<Response> {
    let mut responses = Vec::new();
    reading.require(operation, "responses", Value::is_object, "a map of statuses");
    for (status, written) in operation.get("responses").iter().flat_map(Node::entries) {
        if status.starts_with("x-") {
            continue;
        }
        let digits = status.bytes().filter(|byte| byte.is_ascii_digit()).count();
        let class = status.to_ascii_uppercase().ends_with("XX") && digits == 1;
        if !(status == "default" || (status.len() == 3 && (digits == 3 || class))) {
            reading
                .diagnostics
                .warning(&written, format!("{} is not a status, so its responses are not checked", quote(status)))
                .at_key();
            continue;
        }
        match written.resolved() {
            Ok(response) => {
                if !response.value.is_object() {
                    reading.diagnostics.closing(&response, "this is not a description of a response");
                }
                reading.require(&response, "content", Value::is_object, "a map of media types");
                let contents = match response.get("content") {
                    Some(content) => content::read(reading, &content, Direction::Response),
                    None => Vec::new(),
                };
                responses.push(Response { status: status.to_owned(), contents });
            }
            Err(problem) => {
                reading.diagnostics.closing(&written, problem);
            }
        }
    }
    responses
}
