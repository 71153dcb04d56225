//! Whole descriptions: what they compile to, and what is reported.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::policy::catalog::Catalog;
use crate::policy::diagnostic::Severity;
use crate::stages::schema::json::JsonSchema;
use crate::stages::schema::media_type::MediaRange;

/// Reads a description in a folder. Returns what is reported, as `line:column error|warning message`.
fn read_in(folder: &Path, path: &str) -> (Option<Description>, Vec<String>) {
    let policy = folder.join("policy.yaml");
    std::fs::write(&policy, "version: 1\n").unwrap();
    let mut sources = Sources::open_with(&policy, Box::new(|_| Err(std::env::VarError::NotPresent))).unwrap();
    let source = sources.read(path).unwrap();
    let mut problems = Problems::new();
    let description =
        Description::read(&mut sources, &Catalog::default(), &source, path, &Options::default(), &mut problems);
    assert!(description.is_some() || problems.has_errors());
    let line = |problem: &crate::policy::diagnostic::Problem| {
        let (line, column) = problem.place.as_ref().map_or((0, 0), Place::start);
        let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
        format!("{line}:{column} {severity} {}", problem.message)
    };
    (description, problems.iter().map(line).collect())
}

fn read(text: &str) -> (Option<Description>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("api.yaml"), text).unwrap();
    read_in(folder.path(), "api.yaml")
}

/// Without the reports that an operation is closed, unless one of them is expected: what closes it is reported as well.
fn reported<'d>(diagnostics: &'d [String], expected: &str) -> Vec<&'d String> {
    let closed = "this operation is closed";
    diagnostics.iter().filter(|one| expected.contains(closed) || !one.contains(closed)).collect()
}

/// What a contract demands is never read as absent because it is malformed.
#[test]
fn a_malformed_part_closes_its_operation() {
    const ON: &str = "name: a, in: query";
    for (written, expected) in [
        ("parameters: { a: 1 }".to_owned(), "`parameters` is not a list"),
        (format!("parameters: [{{ {ON}, required: 'true' }}]"), "`required` is not `true` or `false`"),
        (format!("parameters: [{{ {ON}, content: [] }}]"), "`content` is not a map of media types"),
        ("requestBody: []".to_owned(), "`requestBody` is not a description of a body"),
        ("requestBody: { required: yes please, content: {} }".to_owned(), "`required` is not `true` or `false`"),
        ("requestBody: { content: [application/json] }".to_owned(), "`content` is not a map of media types"),
        ("requestBody: { content: { application/json: text } }".to_owned(), "this says nothing of `application/json`"),
        (
            "responses: { '200': { content: { application/json: [] } } }".to_owned(),
            "this says nothing of `application/json`",
        ),
        (format!("parameters: [{{ {ON}, explode: 'false', schema: {{}} }}]"), "`explode` is `true` or `false`"),
        ("responses: [200]".to_owned(), "`responses` is not a map of statuses"),
        ("responses: { '200': fine }".to_owned(), "this is not a description of a response"),
        ("responses: { '200': { content: json } }".to_owned(), "`content` is not a map of media types"),
    ] {
        let (description, _) = read(&operation("3.1.0", &written, ""));
        let description = description.unwrap();
        let why: Vec<&str> = description.closed.iter().map(|closed| &*closed.why).collect();
        assert_eq!((description.operations.len(), why), (0, vec![expected]), "{written}");
    }
}

/// A description of one operation, as flow YAML.
fn operation(version: &str, operation: &str, more: &str) -> String {
    format!("openapi: {version}\npaths: {{ /a: {{ post: {{ {operation} }} }} }}\n{more}\n")
}

#[test]
fn what_cannot_be_honoured_is_reported_at_its_place() {
    let one = |text: &str| operation("3.1.0", text, "");
    for (text, expected) in [
        ("swagger: '2.0'\n".to_owned(), "1:1 error this is Swagger 2.0; only OpenAPI 3.0 and 3.1 are supported"),
        ("openapi: 3.2.0\n".to_owned(), "1:10 error this version of OpenAPI is not supported"),
        ("info: {}\n".to_owned(), "1:1 error this is not an OpenAPI document: it has no `openapi`"),
        ("openapi: 3.1\npaths: {}\n".to_owned(), "2:8 error no operation is described here"),
        (
            operation("3.1.0", "", "jsonSchemaDialect: https://example.com/mine"),
            "3:20 error this dialect of JSON Schema is not supported",
        ),
        (
            "openapi: 3.1.0\npaths: {}\npaths: {}\n".to_owned(),
            "3:1 error `paths` is defined twice; the first is on line 2",
        ),
        ("a: [\n".to_owned(), "1:4 error `[` is never closed"),
        (
            "openapi: 3.1.0\npaths:\n  /a: { $ref: '#/paths/~1a' }\n  /b: { get: {} }\n".to_owned(),
            "3:7 warning this reference refers back to itself",
        ),
        (
            one("requestBody: { $ref: '#/components/x' }"),
            "2:37 warning the reference `#/components/x` cannot be resolved: there is nothing there",
        ),
        (
            one("requestBody: { $ref: 'https://example.com/x.yaml' }"),
            "2:37 warning the reference `https://example.com/x.yaml` cannot be resolved: it is a URL; say where it is: `catalog: { \"https://example.com/\": FOLDER/ }` at the policy's top; nothing is fetched",
        ),
        (
            one("requestBody: { $ref: '../x.yaml' }"),
            "2:37 warning the reference `../x.yaml` cannot be resolved: `../x.yaml` is outside the folder that files are read from",
        ),
        (
            "openapi: 3.1.0\npaths:\n  /a: { get: {}, trace: {} }\n".to_owned(),
            "3:18 warning TRACE requests are never forwarded",
        ),
        (
            "openapi: 3.1.0\npaths:\n  /a: { get: {} }\n  /{b}{c}.json: { get: {} }\n".to_owned(),
            "4:19 warning this operation is closed: two names without text between them cannot be told apart",
        ),
        ("openapi: 3.1.0\npaths: { /a: { GET: {} } }\n".to_owned(), "2:16 warning methods are written in lower case"),
        (one("x-bartizan: { rates: 1/s }"), "2:38 error unknown key `rates` in `x-bartizan`"),
        (one("x-bartizan: { public: true }"), "2:38 error a description cannot make its operations public"),
        (one("x-bartizan: { rate: '5' }"), "2:44 error `5` has no unit of time"),
        (
            one("parameters: [{ name: a, in: path, schema: {} }]"),
            "2:37 warning the path has no `{a}`, so this is not checked",
        ),
        (
            one("parameters: [{ name: a, in: body }]"),
            "2:37 warning a parameter needs a `name`, and `in`: path, query, header or cookie",
        ),
        (
            one("parameters: [{ name: a, in: header, style: form }]"),
            "2:67 warning the style `form` cannot be used here",
        ),
        (
            one("parameters: [{ name: a, in: query, content: { text/x: {} } }]"),
            "2:70 warning values in `text/x` are not checked",
        ),
        (
            one("requestBody: { content: { application/xml: { schema: { type: object } } } }"),
            "2:50 warning bodies in `application/xml` are not checked by this schema",
        ),
        (
            one("requestBody: { content: { '*/*': { schema: { type: object } } } }"),
            "2:50 warning only the JSON bodies of `*/*` are checked",
        ),
        (
            one("requestBody: { content: { examples: {}, text/plain: {} } }"),
            "2:50 warning `examples` is not a media type, so it is ignored",
        ),
        (one("responses: { 2: {} }"), "2:37 warning `2` is not a status, so its responses are not checked"),
    ] {
        let (_, diagnostics) = read(&text);
        let found: Vec<_> = reported(&diagnostics, expected);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}\n{diagnostics:?}");
    }
}

#[test]
fn what_schemas_cannot_say_is_reported_at_its_place() {
    for (version, schema, expected) in [
        (
            "3.0.3",
            "{ type: string, const: x }",
            "warning `const` is not a keyword of OpenAPI 3.0, so it is not checked",
        ),
        ("3.1.0", "{ maxlength: 3 }", "warning `maxlength` is not a keyword, so it is not checked"),
        ("3.1.0", "{ maxLength: long }", "warning `maxLength` is a whole number from 0; this value is not checked"),
        ("3.1.0", "{ type: file }", "warning `type` is a type of JSON, or a list of them; this value is not checked"),
        (
            "3.1.0",
            "{ minimum: 1, exclusiveMinimum: true }",
            "warning `exclusiveMinimum` is a number; this value is not checked",
        ),
        ("3.1.0", "{ pattern: '(?P<x>y)' }", "warning this pattern is not checked"),
        (
            "3.1.0",
            "{ $recursiveRef: '#' }",
            "warning `$recursiveRef` is not supported: references are resolved by path and JSON pointer only",
        ),
        (
            "3.1.0",
            "{ $schema: 'https://e.example/mine', type: string }",
            "warning `$schema` is not supported: the schema is read in the dialect of the description",
        ),
        (
            "3.1.0",
            "{ prefixItems: [{ $dynamicAnchor: a }, { $dynamicAnchor: a }], items: { $dynamicRef: '#a' } }",
            "warning the reference `#a` cannot be resolved: several schemas have the anchor `a`",
        ),
        // What no value can meet is a slip.
        (
            "3.1.0",
            "{ type: string, minLength: 5, maxLength: 3 }",
            "warning no string meets this schema: `minLength` is more than `maxLength`",
        ),
        (
            "3.0.3",
            "{ minimum: 3, maximum: 3, exclusiveMinimum: true }",
            "warning no number meets this schema: `exclusiveMinimum` is not less than `maximum`",
        ),
        (
            "3.0.3",
            "{ properties: { a: { type: integer, enum: ['1'] } } }",
            "warning no value meets this schema: no value of `enum` is of `type: integer`",
        ),
        (
            "3.1.0",
            "{ items: { required: [a], additionalProperties: false } }",
            "warning no object meets this schema: `a` is required, and `additionalProperties: false` does not allow it",
        ),
        (
            "3.1.0",
            "{ prefixItems: [{ $id: 'urn:a' }, { $id: 'urn:a', type: string }], items: { $ref: 'urn:a' } }",
            "warning the reference `urn:a` cannot be resolved: several schemas have the `$id` urn:a",
        ),
        ("3.1.0", "{ $dynamicRef: '#x' }", "warning the reference `#x` cannot be resolved: there is nothing there"),
        (
            "3.0.3",
            "{ $dynamicRef: '#x' }",
            "warning `$dynamicRef` is a keyword of 2020-12, but not of OpenAPI 3.0: it is not checked",
        ),
        ("3.1.0", "{ $ref: '#x' }", "warning the reference `#x` cannot be resolved: there is nothing there"),
        ("3.1.0", "{ properties: { a: 5 } }", "warning this is not a schema"),
        (
            "3.0.3",
            "{ discriminator: { propertyName: a }, oneOf: [{ type: object }] }",
            "warning only schemas behind a `$ref` have a name, so this discriminator has no effect",
        ),
        (
            "3.0.3",
            "{ discriminator: { propertyName: a } }",
            "warning a discriminator without `oneOf` or `anyOf` has no effect: values are checked against this schema only",
        ),
        (
            "3.1.0",
            "{ $ref: '#/components/loop' }",
            "warning this schema refers to itself for the same value, so it has no effect",
        ),
        (
            "3.1.0",
            "{ allOf: [{ $ref: '#/components/again' }] }",
            "warning this schema refers to itself for the same value, so it has no effect",
        ),
    ] {
        let body = format!("requestBody: {{ content: {{ application/json: {{ schema: {schema} }} }} }}");
        let more = "components: { loop: { $ref: '#/components/loop' }, again: { anyOf: [{ not: { $ref: '#/components/again' } }] } }";
        let (_, diagnostics) = read(&operation(version, &body, more));
        let found: Vec<_> = reported(&diagnostics, expected);
        assert!(found.len() == 1 && found[0].contains(expected), "{schema}\n{diagnostics:?}");
    }
}

/// Whether a value keeps to a schema in a request, and in an answer.
pub(super) fn judge(version: &str, schema: &str, components: &str, value: &serde_json::Value) -> (bool, bool) {
    let content = format!("content: {{ application/json: {{ schema: {schema} }} }}");
    let text = format!("requestBody: {{ {content} }}, responses: {{ 200: {{ {content} }} }}");
    let (description, diagnostics) = read(&operation(version, &text, components));
    let description = description.unwrap_or_else(|| panic!("{schema} {diagnostics:?}"));
    let operation = &description.operations[0];
    let judged = |contents: &[(MediaRange, Content)], document| {
        let Content::Json(name) = &contents[0].1 else { panic!("{contents:?}") };
        let schema = JsonSchema::definitions_alone(document, &[name]).unwrap().pop().unwrap();
        schema.check(value.to_string().as_bytes()).is_ok()
    };
    let request = judged(&operation.request.as_ref().unwrap().contents, &description.requests.document);
    (request, judged(&operation.responses[0].contents, &description.responses.document))
}

#[test]
fn schemas_of_either_version_mean_what_it_says() {
    let (both, neither, request, response) = ((true, true), (false, false), (true, false), (false, true));
    for (version, schema, value, expected) in [
        ("3.0.3", "{ type: string, nullable: true }", json!(null), both),
        ("3.0.3", "{ type: string }", json!(null), neither),
        ("3.1.0", "{ type: string, nullable: true }", json!(null), neither),
        ("3.0.3", "{ $ref: '#/components/id', nullable: true }", json!(null), neither),
        ("3.0.3", "{ allOf: [{ $ref: '#/components/id' }], nullable: true }", json!(null), both),
        ("3.0.3", "{ $ref: '#/components/id', maxLength: 1 }", json!("abc"), both),
        ("3.1.0", "{ $ref: '#/components/id', maxLength: 1 }", json!("abc"), neither),
        ("3.0.3", "{ minimum: 1, exclusiveMinimum: true }", json!(1), neither),
        ("3.0.3", "{ minimum: 1, exclusiveMinimum: false }", json!(1), both),
        ("3.0.3", "{ maximum: 1, exclusiveMaximum: true }", json!(0.5), both),
        ("3.1.0", "{ exclusiveMinimum: 1 }", json!(1), neither),
        ("3.1.0", "{ const: 1 }", json!(2), neither),
        ("3.1.0", "{ type: [string, 'null'] }", json!(null), both),
        ("3.1.0", "{ prefixItems: [{ type: string }], items: false }", json!(["a", 1]), neither),
        ("3.1.0", "{ patternProperties: { '^a': { type: string } } }", json!({"ab": 1}), neither),
        ("3.1.0", "{ unevaluatedProperties: false, allOf: [{ properties: { a: true } }] }", json!({"a": 1}), both),
        ("3.1.0", "{ unevaluatedProperties: false, allOf: [{ properties: { a: true } }] }", json!({"b": 1}), neither),
        ("3.1.0", "{ if: { type: string }, then: { maxLength: 1 } }", json!("ab"), neither),
        ("3.1.0", "{ dependentRequired: { a: [b] } }", json!({"a": 1}), neither),
        ("3.0.3", "{ type: integer, format: int32 }", json!(2_147_483_648_u64), neither),
        ("3.0.3", "{ type: integer, format: int32, minimum: 5 }", json!(4), neither),
        ("3.0.3", "{ type: integer, format: int64 }", json!(9_223_372_036_854_775_808_u64), neither),
        ("3.0.3", "{ type: integer, format: int64 }", json!(9_223_372_036_854_775_807_u64), both),
        ("3.0.3", "{ type: number, format: float }", json!(1e39), neither),
        ("3.0.3", "{ type: number, format: double }", json!(1e39), both),
        ("3.0.3", "{ type: string, format: byte }", json!("aGk="), both),
        ("3.0.3", "{ type: string, format: byte }", json!("aGk"), neither),
        ("3.0.3", "{ type: string, format: date }", json!("soon"), neither),
        ("3.0.3", "{ type: string, format: colour }", json!("soon"), both),
        ("3.0.3", "{ type: object, additionalProperties: false }", json!({"a": 1}), neither),
        (
            "3.0.3",
            "{ required: [id, id, secret] , properties: { id: { readOnly: true }, secret: { writeOnly: true } } }",
            json!({"secret": 1}),
            request,
        ),
        (
            "3.0.3",
            "{ required: [id, secret] , properties: { id: { readOnly: true }, secret: { writeOnly: true } } }",
            json!({"id": 1}),
            response,
        ),
        ("3.1.0", "{ properties: { id: { $ref: '#/components/hidden' } } }", json!({"id": "a"}), request),
        ("3.0.3", "{ required: [id], allOf: [{ properties: { id: { readOnly: true } } }] }", json!({}), request),
        ("3.1.0", "{ $ref: '#/components/tree' }", json!({"left": {"left": {}, "value": 1}}), both),
        ("3.1.0", "{ $ref: '#/components/tree' }", json!({"left": {"left": {"value": "x"}}}), neither),
        // References are resolved against the identifier of the schema around them.
        ("3.1.0", "{ $ref: 'https://e.example/s/book' }", json!({"isbn": "1", "author": "a", "id": "x"}), both),
        ("3.1.0", "{ $ref: 'https://e.example/s/book' }", json!({"isbn": 1}), neither),
        ("3.1.0", "{ $ref: 'https://e.example/s/book' }", json!({"author": 1}), neither),
        ("3.1.0", "{ $ref: '#/components/book' }", json!({"id": 1}), neither),
        ("3.1.0", "{ $ref: '#/components/book' }", json!({"other": 1}), neither),
        // The only schema with its anchor.
        ("3.1.0", "{ $ref: '#/components/list' }", json!({"next": {"next": {}}}), both),
        ("3.1.0", "{ $ref: '#/components/list' }", json!({"next": {"nxt": {}}}), neither),
        ("3.1.0", "{ $dynamicRef: '#item', maxProperties: 1 }", json!({"nxt": {}}), neither),
        ("3.0.3", "{ $ref: '#/components/pet' }", json!({"kind": "Dog", "bark": true}), both),
        ("3.0.3", "{ $ref: '#/components/pet' }", json!({"kind": "hound", "bark": true}), both),
        ("3.0.3", "{ $ref: '#/components/pet' }", json!({"kind": "Cat", "bark": true}), both),
        ("3.0.3", "{ $ref: '#/components/pet' }", json!({"kind": "Cat", "purr": 1}), neither),
        ("3.0.3", "{ $ref: '#/components/pet' }", json!({"kind": "Cow"}), neither),
        ("3.0.3", "{ $ref: '#/components/pet' }", json!({"bark": true}), neither),
        // A branch that is made of the choice itself has what its branches have in common.
        ("3.0.3", "{ $ref: '#/components/pet' }", json!({"kind": "Dog", "bark": true, "name": 1}), neither),
        (
            "3.0.3",
            "{ nullable: true, oneOf: [{ $ref: '#/components/Cat' }], discriminator: { propertyName: kind } }",
            json!(null),
            both,
        ),
    ] {
        let components = "components: { id: { type: string }, hidden: { type: string, writeOnly: true }, \
             list: { $dynamicAnchor: item, type: object, properties: { next: { $dynamicRef: '#item' } }, additionalProperties: false }, \
             book: { $id: 'https://e.example/s/book', $defs: { isbn: { type: string } }, properties: { \
                 isbn: { $ref: '#/$defs/isbn' }, author: { $ref: 'person' }, other: { $ref: 'person#named' }, id: { $ref: '#/components/id' } } }, \
             person: { $id: 'https://e.example/s/person', type: string, $defs: { n: { $anchor: named, type: string } } }, \
             tree: { type: object, properties: { left: { $ref: '#/components/tree' }, value: { type: integer } } }, \
             pet: { type: object, properties: { name: { type: string } }, oneOf: [{ $ref: '#/components/Dog' }, { $ref: '#/components/Cat' }], \
                    discriminator: { propertyName: kind, mapping: { hound: Dog } } }, \
             Dog: { allOf: [{ $ref: '#/components/pet' }, { required: [bark] }] }, \
             Cat: { type: object, properties: { purr: { type: boolean } } } }";
        assert_eq!(judge(version, schema, components, &value), expected, "{version} {schema} {value}");
    }
}

#[test]
fn who_may_call_is_read_from_security() {
    const SCHEMES: &str = "components: { securitySchemes: { \
        login: { type: openIdConnect, openIdConnectUrl: 'https://login.example/.well-known/openid-configuration' }, \
        oauth: { type: oauth2, flows: { clientCredentials: { tokenUrl: 'https://login.example/token' } } }, \
        bearer: { type: http, scheme: Bearer }, basic: { type: http, scheme: basic }, \
        key: { type: apiKey, in: header, name: X-Key }, other: { type: apiKey, in: header, name: X-Other }, query: { type: apiKey, in: query, name: k }, cookie: { type: apiKey, in: cookie, name: sid }, placeless: { type: apiKey, name: k }, nameless: { type: apiKey, in: header }, \
        tls: { type: mutualTLS } } }";
    for (security, expected, diagnostics) in [
        ("", "open", 0),
        ("security: [], ", "open", 0),
        ("security: [{}], ", "open", 0),
        ("security: [{ login: [a, b] }], ", "token a b", 0),
        ("security: [{ login: [a] }, { oauth: [b, c] }], ", "token a | token b c", 0),
        ("security: [{ login: [a], oauth: [b] }], ", "token a b", 1),
        ("security: [{ login: [a], bearer: [] }], ", "token a", 1),
        ("security: [{ key: [], tls: [] }], ", "key X-Key tls", 0),
        ("security: [{ nameless: [] }], ", "`nameless`: an API key in a header needs its `name`", 0),
        // F2: two keys are not one.
        ("security: [{ key: [], other: [] }], ", "a request with two credentials is not accepted", 0),
        ("security: [{ key: [], other: [] }, { key: [] }], ", "key X-Key", 1),
        ("security: [{ bearer: [] }, { key: [] }], ", "token | key X-Key", 0),
        ("security: [{ tls: [], login: [a] }, { tls: [] }], ", "token tls a | tls", 0),
        ("security: [{ login: [a] }, {}], ", "token a", 1),
        ("security: [{ query: [] }, { key: [] }], ", "query key k | key X-Key", 0),
        ("security: [{ query: [], key: [] }], ", "a request with two credentials is not accepted", 0),
        ("security: [{ cookie: [] }], ", "token in sid", 0),
        ("security: [{ cookie: [], query: [] }], ", "a request with two credentials is not accepted", 0),
        (
            "security: [{ placeless: [] }], ",
            "`placeless`: an API key needs `in`, `header`, `query` or `cookie`, and a `name`",
            0,
        ),
        ("security: [{ basic: [] }], ", "`basic`: `bearer` is the only HTTP scheme that is supported", 0),
        ("security: [{ login: [], key: [] }], ", "a request with two credentials is not accepted", 0),
        ("security: [{ nobody: [] }], ", "there is no security scheme `nobody` under `components`", 0),
        ("security: [{ login: ['a b'] }], ", "this is not a scope", 0),
        // What is malformed never asks for less.
        ("security: [{ login: a }], ", "`login`: its scopes are a list", 0),
        ("security: [{ login: { a: 1 } }], ", "`login`: its scopes are a list", 0),
        ("security: [{ login: }], ", "`login`: its scopes are a list", 0),
        ("security: [{ login: [1] }], ", "this is not a scope", 0),
        ("security: [login], ", "a requirement has security schemes, each with a list of scopes", 0),
        ("security: [login, { key: [] }], ", "key X-Key", 1),
        ("security: { login: [a] }, ", "`security` is a list of requirements", 0),
        ("security: , ", "`security` is a list of requirements", 0),
    ] {
        let (description, problems) = read(&operation("3.1.0", security, SCHEMES));
        let description = description.unwrap();
        let got = match &description.operations[0].security {
            Security::Open => "open".to_owned(),
            Security::Unknown(_, problem) => problem.clone(),
            Security::AnyOf(alternatives) => {
                let one = |alternative: &Alternative| {
                    let mut words = Vec::new();
                    words.extend(alternative.bearer.then_some("token"));
                    words.extend(alternative.cookie.iter().flat_map(|cookie| ["in", cookie]));
                    match &alternative.key {
                        Some(DescribedKey::Header(name)) => words.extend(["key", name]),
                        Some(DescribedKey::Query(name)) => words.extend(["query key", name]),
                        None => {}
                    }
                    words.extend(alternative.certificate.then_some("tls"));
                    words.extend(alternative.scopes.iter().map(String::as_str));
                    words.join(" ")
                };
                alternatives.iter().map(one).collect::<Vec<_>>().join(" | ")
            }
        };
        assert_eq!(got, expected, "{security}");
        assert_eq!(problems.len(), diagnostics, "{security} {problems:?}");
        let issuers: Vec<_> = description.issuers.iter().map(|issuer| (&*issuer.url, issuer.discovery)).collect();
        let discovery = "https://login.example/.well-known/openid-configuration";
        assert_eq!(issuers, [(discovery, true), ("https://login.example/token", false)]);
    }
}

#[test]
fn paths_stand_under_that_of_their_server() {
    for (servers, route, diagnostics) in [
        ("", "POST /a", 0),
        ("servers: []", "POST /a", 0),
        ("servers: [{ url: / }]", "POST /a", 0),
        ("servers: [{ url: /v1/ }]", "POST /v1/a", 0),
        ("servers: [{ url: 'https://x.example:8443/v1?y#z' }]", "POST /v1/a", 0),
        ("servers: [{ url: 'https://x.example' }, { url: 'http://y.example/' }]", "POST /a", 0),
        ("servers: [{ url: ./v2 }]", "POST /v2/a", 0),
        ("servers: [{ url: 'https://x/{v}', variables: { v: { default: v3 } } }]", "POST /v3/a", 0),
        ("servers: [{ url: /v1 }, { url: /v2 }]", "POST /v1/a", 1),
    ] {
        let (description, problems) = read(&operation("3.0.0", "", servers));
        assert_eq!(description.unwrap().operations[0].route, route, "{servers}");
        assert_eq!(problems.len(), diagnostics, "{servers} {problems:?}");
    }
    let text = "openapi: 3.1.0\nservers: [{ url: /d }]\npaths:\n  /a: { servers: [{ url: /p }], get: {}, put: { servers: [{ url: /o }] } }\n  /b: { get: {} }\n";
    let routes: Vec<_> = read(text).0.unwrap().operations.into_iter().map(|operation| operation.route).collect();
    assert_eq!(routes, ["GET /p/a", "PUT /o/a", "GET /d/b"]);
}

#[test]
fn a_description_may_be_in_many_files_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("in/api.yaml", "openapi: 3.1.0\npaths:\n  /a: { $ref: 'paths/a%20b.yaml' }\n");
    write("in/paths/a b.yaml", "get: { parameters: [{ $ref: '../more.json#/a~1b' }] }\n");
    write(
        "in/more.json",
        r##"{"a/b": {"$ref": "#/c"}, "c": {"name": "x", "in": "query", "schema": {"$ref": "more.json#/d"}}, "d": {"type": "integer"}}"##,
    );
    let (description, diagnostics) = read_in(folder.path(), "in/api.yaml");
    let description = description.unwrap_or_else(|| panic!("{diagnostics:?}"));
    assert_eq!(description.operations[0].parameters[0].fields[0].name, "x");
    assert_eq!(description.requests.document["$defs"]["d"], json!({"type": "integer"}));

    write("in/more.json", r#"{"a/b": {"a": 1, "a": 2}}"#);
    let (_, diagnostics) = read_in(folder.path(), "in/api.yaml");
    assert!(
        diagnostics.iter().any(|diagnostics| diagnostics.contains("not acceptable JSON: a member name occurs twice")),
        "{diagnostics:?}"
    );

    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.json"), "{}").unwrap();
    std::fs::remove_file(folder.path().join("in/more.json")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.json"), folder.path().join("in/more.json")).unwrap();
    let (_, diagnostics) = read_in(folder.path(), "in/api.yaml");
    assert!(
        diagnostics.iter().any(|one| one.ends_with("`in/more.json` is outside the folder that files are read from")),
        "{diagnostics:?}"
    );
}

#[test]
fn extensions_are_laid_over_each_other() {
    let text = "openapi: 3.1.0\nx-bartizan: { rate: 5/s, max_age: 1h, scopes: [all] }\npaths:\n  /a:\n    x-bartizan: { rate: 6/s }\n    get: { x-bartizan: { scopes: [one], only: [acme], max_size: 1KiB } }\n    put: {}\n";
    let operations = read(text).0.unwrap().operations;
    let rates: Vec<_> = operations.iter().map(|one| one.extensions.rate.map(|rate| rate.count.get())).collect();
    assert_eq!(rates, [Some(6), Some(6)]);
    let scopes: Vec<_> = operations.iter().map(|one| one.extensions.scopes.clone().unwrap()).collect();
    assert_eq!(scopes, [["one"], ["all"]]);
    assert_eq!(operations[0].extensions.only.as_deref(), Some(&["acme".to_owned()][..]));
    assert!(operations[0].extensions.max_age.is_some() && operations[1].extensions.max_size.is_none());
}
