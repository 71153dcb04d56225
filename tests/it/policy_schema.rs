//! `bartizan schema`: every policy that is shipped is valid, and what the compiler refuses is refused by editors, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use granit_parser::{Event, Parser, ScalarStyle};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// What a policy begins with, so that editors find its schema.
const EDITOR_LINE: &str = "# yaml-language-server: $schema=./bartizan.schema.json\n";

/// A policy with every key, whose files do not exist.
const WHOLE: &str = include_str!("../cases/every-key.yaml");

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn bartizan(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&bartizan(&["schema"])).unwrap()
}

fn validator() -> Validator {
    jsonschema::validator_for(&schema()).unwrap()
}

/// The JSON of a YAML document. Keys are text.
fn json_of(text: &str) -> Value {
    fn value<'a>(events: &mut impl Iterator<Item = Event<'a>>, event: Event<'a>) -> Value {
        match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => {
                serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))
            }
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match events.next().unwrap() {
                        Event::SequenceEnd => return Value::Array(items),
                        item => items.push(value(events, item)),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut members = Map::new();
                loop {
                    match events.next().unwrap() {
                        Event::MappingEnd => return Value::Object(members),
                        Event::Scalar(key, ..) => {
                            let next = events.next().unwrap();
                            members.insert(key.into_owned(), value(events, next));
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let events = Parser::new_from_str(text).map(|event| event.unwrap().0);
    let mut events = events.filter(|event| !matches!(event, Event::Comment(..)));
    let content = |event: &Event<'_>| matches!(event, Event::Scalar(..) | Event::MappingStart(..));
    let first = events.find(content).unwrap();
    value(&mut events, first)
}

#[track_caller]
fn is_valid(validator: &Validator, name: &str, text: &str) {
    let errors: Vec<String> = validator
        .iter_errors(&json_of(text))
        .map(|error| format!("{name}{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// Every policy of the repository that is a file.
fn shipped() -> Vec<PathBuf> {
    let entries =
        |folder: &str| std::fs::read_dir(repository().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let configurations = entries("config").filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    let examples = entries("examples").map(|example| example.join("policy.yaml")).filter(|policy| policy.exists());
    configurations.chain(examples).collect()
}

/// What `bartizan init` writes.
fn drafted() -> String {
    let description = repository().join("examples/openapi-onboarding/orders.openapi.yaml");
    bartizan(&["init", "--openapi", description.to_str().unwrap(), "--upstream", "http://127.0.0.1:9000"])
}

#[test]
fn every_policy_is_valid_and_names_the_schema() {
    let (validator, shipped) = (validator(), shipped());
    assert!(shipped.len() >= 9, "{shipped:?}");
    for path in shipped {
        let (name, text) = (path.display().to_string(), std::fs::read_to_string(&path).unwrap());
        assert!(text.starts_with(EDITOR_LINE), "{name} does not begin with {EDITOR_LINE}");
        is_valid(&validator, &name, &text);
    }
    let drafted = drafted();
    assert!(drafted.starts_with(EDITOR_LINE), "{drafted}");
    is_valid(&validator, "init", &drafted);
    is_valid(&validator, "every-key", WHOLE);
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let policy = readme.split("policy.yaml <<EOF\n").nth(1).unwrap().split("\nEOF\n").next().unwrap();
    // The shell reads `\$` as `$`.
    is_valid(&validator, "README", &policy.replace("\\$", "$"));
    assert!(bartizan(&["schema", "--help"]).contains(EDITOR_LINE.trim()));
}

/// The path of every object in a value.
fn objects(value: &Value, path: &str, found: &mut Vec<String>) {
    let escaped = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(members) => {
            found.push(path.to_owned());
            members.iter().for_each(|(key, value)| objects(value, &escaped(key), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| objects(item, &format!("{path}/{index}"), found));
        }
        _ => {}
    }
}

#[test]
fn an_unknown_key_is_refused_at_every_level() {
    let (validator, whole) = (validator(), json_of(WHOLE));
    let mut levels = Vec::new();
    objects(&whole, "", &mut levels);
    assert!(levels.len() > 40, "{levels:?}");
    for level in levels {
        let mut changed = whole.clone();
        let object = changed.pointer_mut(&level).and_then(Value::as_object_mut).unwrap();
        object.insert("nonsense".to_owned(), json!({"nonsense": 7}));
        assert!(!validator.is_valid(&changed), "`nonsense` is accepted at `{level}`");
    }
}

#[test]
fn wrong_types_are_refused() {
    let (validator, whole) = (validator(), json_of(WHOLE));
    let route = |key: &str| format!("/apis/orders/routes/POST ~1orders/{key}");
    for (pointer, wrong) in [
        ("/version".to_owned(), json!("1")),
        ("/version".to_owned(), json!(2)),
        ("/workers".to_owned(), json!("many")),
        ("/workers".to_owned(), json!(0)),
        ("/listen".to_owned(), json!("127.0.0.1:8080")),
        ("/listen/0/tls/client_certificate".to_owned(), json!("maybe")),
        ("/trusted_proxies".to_owned(), json!({})),
        ("/admin".to_owned(), Value::Null),
        ("/admin/tokens/0/rights".to_owned(), json!("write")),
        ("/timeouts/idle".to_owned(), json!(75)),
        ("/timeouts/idle".to_owned(), json!("75")),
        ("/timeouts/idle".to_owned(), json!("1m1h")),
        ("/timeouts/idle".to_owned(), json!("0m")),
        ("/limits/header_size".to_owned(), json!("32KB")),
        ("/limits/headers".to_owned(), json!("100")),
        ("/limits/headers".to_owned(), json!(-1)),
        ("/store".to_owned(), json!([])),
        ("/store/on_failure".to_owned(), json!("ignore")),
        ("/auth/issuers/corp/audience".to_owned(), json!("orders")),
        ("/auth/dpop/nonce".to_owned(), json!("false")),
        ("/roles/clerk".to_owned(), json!("orders:read")),
        ("/plans/free/rate".to_owned(), json!("5/m")),
        ("/plans/free/rate".to_owned(), json!("0/s")),
        ("/plans/free/burst".to_owned(), json!(1.5)),
        ("/consumers/acme/keys".to_owned(), json!({})),
        ("/apis/orders/upstream/forward_credentials".to_owned(), json!("no")),
        ("/apis/orders/openapi/responses".to_owned(), json!("warn")),
        (route("scopes"), json!("orders:write")),
        (route("public"), json!(1)),
        (route("proof_of_possession"), json!(["tls"])),
        (route("mode/schema"), json!("observe")),
        (route("request/max_size"), json!(65_536)),
        (route("response/mode"), json!("enforce")),
        (route("response/200"), json!("order.json")),
        ("/audit".to_owned(), json!("stdout")),
        ("/audit/to/0".to_owned(), json!("stderr")),
    ] {
        let mut changed = whole.clone();
        *changed.pointer_mut(&pointer).unwrap_or_else(|| panic!("no {pointer}")) = wrong.clone();
        assert!(!validator.is_valid(&changed), "{wrong} is accepted at `{pointer}`");
    }
}

#[test]
fn a_reference_takes_the_place_of_any_value() {
    let (validator, whole) = (validator(), json_of(WHOLE));
    for pointer in ["/limits/headers", "/timeouts/idle", "/auth/dpop/nonce", "/store/on_failure", "/plans/free/rate"] {
        let mut changed = whole.clone();
        *changed.pointer_mut(pointer).unwrap() = json!("${env:VALUE}");
        assert!(validator.is_valid(&changed), "{pointer}");
    }
}

/// Names and descriptions of all properties of a schema.
fn properties(schema: &Value, found: &mut Vec<(String, String)>) {
    for (key, value) in schema.as_object().into_iter().flatten() {
        if key == "properties" {
            for (name, property) in value.as_object().unwrap() {
                let description = property["description"].as_str().unwrap_or_default();
                found.push((name.clone(), description.to_owned()));
            }
        }
        properties(value, found);
    }
    schema.as_array().into_iter().flatten().for_each(|item| properties(item, found));
}

#[test]
fn the_reference_has_every_key_and_each_is_described() {
    let reference = std::fs::read_to_string(repository().join("config/reference.yaml")).unwrap();
    let mut keys = Vec::new();
    properties(&schema(), &mut keys);
    assert!(keys.len() > 100, "{}", keys.len());
    let stages = ["auth", "scope", "rate_limit", "schema", "response"];
    // The description of a sink, or of a place of tokens, is beside its name.
    let beside = ["file", "elasticsearch", "otlp", "syslog", "http", "cookie", "header"];
    for (key, description) in keys {
        let is_stage = stages.contains(&key.as_str());
        assert!(is_stage || reference.contains(&format!("{key}:")), "config/reference.yaml lacks `{key}`");
        assert!(beside.contains(&key.as_str()) || !description.is_empty(), "`{key}` has no description");
    }
}

#[test]
fn the_compiler_knows_every_key_and_every_word_of_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, WHOLE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.args(["check", "--format", "json"]).arg(&policy).output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = said["problems"].as_array().unwrap();
    assert!(!problems.is_empty());
    for problem in problems {
        // What is wrong with this policy is that its files do not exist.
        let line = WHOLE.lines().nth(usize::try_from(problem["line"].as_u64().unwrap()).unwrap() - 1).unwrap();
        let names_a_file =
            [".json", ".xsd", ".wsdl", ".pem", ".key", ".crt", ".yaml"].iter().any(|end| line.contains(end));
        assert!(names_a_file, "{line}: {problem}");
    }
}
