//! What a caller may call, as an OpenAPI 3.1 document. Nothing in it is about what others may call.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::components::Components;
use super::kept::{self, Format};
use super::key_use::KeyUse;
use super::offer::{self, Reader, method_and_path};
use super::service::{Service, private};
use crate::exchange::Answer;
use crate::policy::self_service::{SelfEndpoint, SelfService};
use crate::policy::shown::ShownParameter;
use crate::policy::{Access, Policy, Route};
use crate::stages::auth::Caller;
use crate::stages::auth::cache::SentAs;
use crate::stages::auth::locations::TokenLocation;
use crate::stages::scope::{Alternative, By};

/// Answers `GET openapi.json`.
pub(super) fn answer(service: &Service<'_>, caller: &Caller) -> Box<Answer> {
    let request = service.request;
    let server = format!("{}://{}", request.scheme, request.authority);
    let reader = Reader::of(caller, request);
    let make = || document(&service.in_force.policy, service.config, &reader, &server).to_string().into();
    let body = kept::document(service, Format::OpenApi, &reader, &server, make);
    private(StatusCode::OK, "application/json", body)
}

/// The document for somebody who calls this server.
fn document(policy: &Policy, config: &SelfService, reader: &Reader<'_>, server: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut components = Components::new(Map::from_iter([("Problem".to_owned(), problem())]));
    let mut put = |path: String, method: &str, parameters: Vec<Value>, operation: Value| {
        let item = paths.entry(path).or_insert_with(|| json!({"parameters": parameters}));
        if let Value::Object(item) = item {
            // The first is the one that answers on this host.
            item.entry(method.to_ascii_lowercase()).or_insert(operation);
        }
    };
    for route in offer::open_routes(policy, reader) {
        let (method, template) = method_and_path(route);
        let (path, parameters) = path_of(template);
        put(path, method, parameters, operation(route, reader, &mut components));
    }
    for (endpoint, method, _) in SelfEndpoint::ALL.into_iter().filter(|(endpoint, ..)| !endpoint.is_public()) {
        let (path, parameters) = path_of(&config.path_of(endpoint));
        put(path, method, parameters, own_operation(endpoint));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": format!("What {} may call", reader.consumer), "version": policy.digest().get(..12).unwrap_or_default(),
        },
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": KeyUse::of(policy).scheme(),
                "token": token_scheme(policy),
            },
            "responses": {"refused": {
                "description": "The request was refused; `code` and `detail` say why, and `errors` where",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
            "schemas": components.finish(),
        },
    })
}

/// The path of a template as OpenAPI writes it, and its parameters.
fn path_of(template: &str) -> (String, Vec<Value>) {
    let mut parameters = Vec::new();
    let mut path = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        let (name, is_rest) = name.strip_suffix("...").map_or((name, false), |name| (name, true));
        let mut parameter = json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
        if let (Value::Object(parameter), true) = (&mut parameter, is_rest) {
            parameter.insert("description".to_owned(), json!("The rest of the path, which may have slashes."));
        }
        parameters.push(parameter);
        path.push_str(&format!("{before}{{{name}}}"));
        rest = after;
    }
    path.push_str(rest);
    (path, parameters)
}

fn operation(route: &Route, reader: &Reader<'_>, components: &mut Components) -> Value {
    let mut operation = json!({"tags": [&**route.api().name()], "responses": responses(route, reader, components)});
    let Value::Object(members) = &mut operation else { return operation };
    let mut say = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    let shown = route.shown.as_deref();
    if let Some(summary) = shown.and_then(|shown| shown.summary.as_ref()) {
        say("summary", json!(summary));
    }
    let notes = offer::notes(route, reader);
    if !notes.is_empty() {
        say("description", json!(notes.join(" ")));
    }
    say("security", security(route));
    let parameters = shown.map(|shown| shown.parameters.as_slice()).unwrap_or_default();
    if !parameters.is_empty() {
        say("parameters", parameters.iter().map(|one| parameter(one, components)).collect());
    }
    if let Some(types) = route.request.media_types() {
        let mut content: Map<String, Value> = types.into_iter().map(|media| (media, json!({}))).collect();
        for (media, schema) in shown.iter().flat_map(|shown| &shown.bodies) {
            content.insert(media.to_string(), json!({"schema": components.refer(schema)}));
        }
        let most = format!("At most {} bytes.", route.request.max_size());
        say("requestBody", json!({"required": route.request.is_required(), "content": content, "description": most}));
    }
    operation
}

fn parameter(one: &ShownParameter, components: &mut Components) -> Value {
    let ShownParameter { name, location, required, style, schema } = one;
    let schema = components.refer(schema);
    let mut parameter = json!({"name": name, "in": location, "required": required});
    let Value::Object(members) = &mut parameter else { return parameter };
    let mut say = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    match style {
        Some(("json", _)) => say("content", json!({"application/json": {"schema": schema}})),
        Some((style, explode)) => {
            say("style", json!(style));
            say("explode", json!(explode));
            say("schema", schema);
        }
        None => say("schema", schema),
    }
    parameter
}

/// The responses of a route, without what is hidden from its reader.
fn responses(route: &Route, reader: &Reader<'_>, components: &mut Components) -> Value {
    let hidden = offer::hidden(route, reader);
    let mut responses = Map::new();
    for (status, contents) in route.shown.iter().flat_map(|shown| &shown.responses) {
        let mut content = Map::new();
        for (media, schema) in contents {
            let schema = if hidden.is_empty() { components.refer(schema) } else { components.without(schema, &hidden) };
            content.insert(media.to_string(), json!({"schema": schema}));
        }
        responses.insert(status.to_string(), json!({"description": format!("Status {status}"), "content": content}));
    }
    if responses.is_empty() {
        responses.insert("2XX".to_owned(), json!({"description": "Success"}));
    }
    for status in ["4XX", "5XX"] {
        let refused = || json!({"$ref": "#/components/responses/refused"});
        responses.entry(status).or_insert_with(refused);
    }
    Value::Object(responses)
}

/// How tokens are sent.
fn token_scheme(policy: &Policy) -> Value {
    match policy.auth().locations.tokens.first() {
        Some(TokenLocation::Cookie(name)) => json!({"type": "apiKey", "in": "cookie", "name": name}),
        Some(TokenLocation::Header(name)) => json!({"type": "apiKey", "in": "header", "name": name.as_str()}),
        Some(TokenLocation::Authorization) | None => json!({"type": "http", "scheme": "bearer"}),
    }
}

/// Who may call a route, one way per alternative: OpenAPI writes scopes beside the scheme.
fn security(route: &Route) -> Value {
    let Access::Scoped(requirement) = &route.access else { return json!([]) };
    let taken = route.api().credentials();
    let ways = requirement.alternatives().iter().flat_map(|Alternative { scopes, by, .. }| {
        let token = (*by != Some(By::Key) && taken.takes(SentAs::Token)).then(|| json!({"token": scopes}));
        let key = (*by != Some(By::Token) && taken.takes(SentAs::Key)).then(|| json!({"key": scopes}));
        [key, token].into_iter().flatten()
    });
    ways.collect()
}

fn own_operation(endpoint: SelfEndpoint) -> Value {
    let summary = match endpoint {
        SelfEndpoint::Me => "Who you are, what is left of your limits, and your keys",
        SelfEndpoint::RotateKey => "Replaces one of your keys; the old one stays valid for `overlap`",
        SelfEndpoint::OpenApi => "What you may call, as this document",
        SelfEndpoint::Docs => "What you may call, as a page",
        SelfEndpoint::RotateSecret => "Replaces the secret of a client; the old one stays valid for `overlap`",
        SelfEndpoint::ClaimInvitation => "Claims an invitation",
    };
    let mut operation = json!({
        "tags": ["self-service"], "summary": summary, "security": [{"key": []}, {"token": []}],
        "responses": {"default": {"$ref": "#/components/responses/refused"}, "2XX": {"description": "Success"}},
    });
    if let (Value::Object(operation), SelfEndpoint::RotateKey) = (&mut operation, endpoint) {
        let overlap = json!({"type": "string", "description": "Such as `24h`; at most `30d`, default `7d`"});
        let schema = json!({"type": "object", "properties": {"overlap": overlap}, "additionalProperties": false});
        let body = json!({"required": false, "content": {"application/json": {"schema": schema}}});
        operation.insert("requestBody".to_owned(), body);
        operation.insert("security".to_owned(), json!([{"key": []}]));
    }
    operation
}

/// What refusals are (RFC 9457).
fn problem() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let error = json!({"type": "object", "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}}});
    json!({
        "type": "object", "required": ["type", "title", "status", "detail", "instance", "code"],
        "properties": {
            "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
            "detail": {"type": "string"}, "instance": {"type": "string"}, "code": {"type": "string"},
            "required_scopes": texts, "granted_scopes": texts, "errors": {"type": "array", "items": error},
            "retry_after": {"type": "integer", "description": "Seconds"},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_become_those_of_openapi() {
        for (template, path, names) in [
            ("/orders", "/orders", vec![]),
            ("/orders/{id}", "/orders/{id}", vec!["id"]),
            ("/orders/{id}:refund", "/orders/{id}:refund", vec!["id"]),
            ("/a/{x}/{y}.json", "/a/{x}/{y}.json", vec!["x", "y"]),
            ("/files/{path...}", "/files/{path}", vec!["path"]),
        ] {
            let (got, parameters) = path_of(template);
            let got_names: Vec<_> = parameters.iter().map(|one| one["name"].as_str().unwrap()).collect();
            assert_eq!((got.as_str(), got_names), (path, names), "{template}");
        }
    }
}
