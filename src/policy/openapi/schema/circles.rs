//! Finds schemas that refer to themselves for the same value, so that validation would never end.
//!
//! A schema may recur below a property or an item, where the value gets smaller. `a: {allOf: [a]}` says nothing, and
//! the validator accepts everything where it finds such a cycle, so it is reported.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::definitions::{self, Name};
use crate::policy::openapi::diagnostics::Diagnostics;
use crate::policy::openapi::files::Node;

/// Keywords whose subschemas apply to the same value as the schema they are in.
const IN_PLACE: [&str; 9] = ["$ref", "allOf", "anyOf", "dependentSchemas", "else", "if", "not", "oneOf", "then"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
}

/// Reports every definition that refers back to itself.
pub(super) fn tell(
    defs: &Map<String, Value>,
    origins: &HashMap<Name, Node<'_>>,
    broken: &mut HashMap<Name, String>,
    diagnostics: &mut Diagnostics,
) {
    let mut states: HashMap<&str, State> = HashMap::new();
    for start in defs.keys() {
        if states.contains_key(start.as_str()) {
            continue;
        }
        // Depth first, with an explicit stack: each entry is a definition, and the ones it refers to that are not
        // visited yet.
        states.insert(start, State::Open);
        let mut path = vec![(start.as_str(), targets(defs.get(start)))];
        while let Some((name, left)) = path.last_mut() {
            let Some(next) = left.pop() else {
                states.insert(name, State::Done);
                path.pop();
                continue;
            };
            match states.get(next) {
                Some(State::Done) => {}
                Some(State::Open) => {
                    if let Some(node) = origins.get(next) {
                        let message = "this schema refers to itself for the same value, so it has no effect";
                        broken.insert(next.into(), message.to_owned());
                        diagnostics
                            .closing(node, message)
                            .at_key()
                            .help("a schema may refer to itself only below `properties` or `items`");
                    }
                }
                None => {
                    states.insert(next, State::Open);
                    path.push((next, targets(defs.get(next))));
                }
            }
        }
    }
}

/// The definitions that apply to the same value.
fn targets(schema: Option<&Value>) -> Vec<&str> {
    let mut found = Vec::new();
    let mut left: Vec<&Value> = schema.into_iter().collect();
    while let Some(schema) = left.pop() {
        let Some(map) = schema.as_object() else { continue };
        for keyword in IN_PLACE {
            match map.get(keyword) {
                Some(Value::String(reference)) => found.extend(definitions::named(reference)),
                Some(Value::Array(schemas)) => left.extend(schemas),
                Some(Value::Object(schemas)) if keyword == "dependentSchemas" => left.extend(schemas.values()),
                Some(schema) => left.push(schema),
                None => {}
            }
        }
    }
    found
}
