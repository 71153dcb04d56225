//! Paths and their operations.

use super::content::{self, Content};
use super::extensions::{self, Extensions};
use super::files::{Node, Spot};
use super::parameters::{self, Parameters};
use super::reading::Reading;
use super::schema::Direction;
use super::security::{self, Security};
use super::{path, servers};
use crate::policy::source::quote;

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
    /// Its `x-bartizan` settings.
    pub(crate) extensions: Extensions,
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Whether a body is required.
    pub(crate) required: bool,
    /// Ranges of media types, and how bodies of each are validated.
    pub(crate) contents: Vec<(String, Content)>,
}

/// The responses with a status, or with a class of statuses.
#[derive(Debug)]
pub(crate) struct Response {
    /// `200`, `2XX` or `default`.
    pub(crate) status: String,
    /// Ranges of media types, and how bodies of each are validated; empty where no body is described.
    pub(crate) contents: Vec<(String, Content)>,
}

/// All operations of a document.
pub(super) fn all<'d>(reading: &mut Reading<'d>, root: &Node<'d>) -> Vec<Operation> {
    let mut operations = Vec::new();
    let paths = root.get("paths");
    for (template, written) in paths.iter().flat_map(Node::entries) {
        if template.starts_with("x-") {
            continue;
        }
        let item = match written.resolved() {
            Ok(item) => item,
            Err(problem) => {
                reading.diagnostics.error(&written, problem);
                continue;
            }
        };
        for (key, operation) in item.entries() {
            if METHODS.contains(&key) {
                operations.extend(one(reading, root, &item, &operation, template, &key.to_ascii_uppercase()));
            } else if key == "trace" {
                reading.diagnostics.warning(&operation, "TRACE requests are never forwarded").at_key();
            } else if key.eq_ignore_ascii_case("get") || METHODS.contains(&key.to_ascii_lowercase().as_str()) {
                reading.diagnostics.error(&operation, "methods are written in lower case").at_key();
            }
        }
    }
    if operations.is_empty() && !reading.diagnostics.has_errors() {
        reading.diagnostics.error(paths.as_ref().unwrap_or(root), "no operation is described here");
    }
    operations
}

fn one<'d>(
    reading: &mut Reading<'d>,
    root: &Node<'d>,
    item: &Node<'d>,
    operation: &Node<'d>,
    template: &str,
    method: &str,
) -> Option<Operation> {
    let base = servers::base_path(operation, item, root, &mut reading.diagnostics);
    let extensions = extensions::read(&[root, item, operation], &mut reading.diagnostics);
    let security = security::read(reading, operation, root);
    let parameters = parameters::read(reading, operation, item, template);
    let request = request(reading, operation);
    let responses = responses(reading, operation);
    let route = match path::route(method, &base, template) {
        Ok(route) => route,
        Err(problem) => {
            // Not an error: without a route, requests are refused.
            let message = format!("this operation has no route, so it is closed: {problem}");
            reading.diagnostics.warning(operation, message).at_key();
            return None;
        }
    };
    let tag = operation.get("tags").and_then(|tags| tags.items().next()).and_then(|tag| tag.value.as_str());
    Some(Operation {
        route,
        spot: Spot::of(operation),
        tag: tag.map(str::to_owned),
        summary: operation.text("summary").or_else(|| operation.text("description")).map(str::to_owned),
        security,
        parameters,
        request,
        responses,
        extensions,
    })
}

fn request<'d>(reading: &mut Reading<'d>, operation: &Node<'d>) -> Option<Request> {
    let written = operation.get("requestBody")?;
    match written.resolved() {
        Ok(body) => {
            let contents = match body.get("content") {
                Some(content) => content::read(reading, &content, Direction::Request),
                None => Vec::new(),
            };
            Some(Request { required: body.flag("required"), contents })
        }
        Err(problem) => {
            reading.diagnostics.error(&written, problem);
            None
        }
    }
}

fn responses<'d>(reading: &mut Reading<'d>, operation: &Node<'d>) -> Vec<Response> {
    let mut responses = Vec::new();
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
                let contents = match response.get("content") {
                    Some(content) => content::read(reading, &content, Direction::Response),
                    None => Vec::new(),
                };
                responses.push(Response { status: status.to_owned(), contents });
            }
            Err(problem) => {
                reading.diagnostics.error(&written, problem);
            }
        }
    }
    responses
}
