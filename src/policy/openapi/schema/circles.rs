//! Schemas that hold themselves at the same place of a value, so that judging one would never end.
//!
//! A schema may recur beneath a property or an item, where the value gets smaller. `a: {allOf: [a]}` says nothing, and
//! the crate finds everything valid where it sees such a circle, so it is reported.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::definitions::Name;
use crate::policy::openapi::diagnostics::Diagnostics;
use crate::policy::openapi::files::Node;

/// Keywords whose schemas judge the very value that their own schema judges.
const IN_PLACE: [&str; 9] = ["$ref", "allOf", "anyOf", "dependentSchemas", "else", "if", "not", "oneOf", "then"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
}

/// Tells of every definition that leads back to itself.
pub(super) fn tell(defs: &Map<String, Value>, origins: &HashMap<Name, Node<'_>>, diagnostics: &mut Diagnostics) {
    let mut states: HashMap<&str, State> = HashMap::new();
    for start in defs.keys() {
        if states.contains_key(start.as_str()) {
            continue;
        }
        // Depth first, by a list: each entry is a definition, and those it leads to that are not looked at yet.
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
                        let message = "this schema holds itself at the same place of a value, so it decides nothing";
                        diagnostics
                            .error(node, message)
                            .at_key()
                            .help("let it refer to itself only beneath properties or items");
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

/// The definitions that judge the same value.
fn targets(schema: Option<&Value>) -> Vec<&str> {
    let mut found = Vec::new();
    let mut left: Vec<&Value> = schema.into_iter().collect();
    while let Some(schema) = left.pop() {
        let Some(map) = schema.as_object() else { continue };
        for keyword in IN_PLACE {
            match map.get(keyword) {
                Some(Value::String(reference)) => found.extend(reference.strip_prefix("#/$defs/")),
                Some(Value::Array(schemas)) => left.extend(schemas),
                Some(Value::Object(schemas)) if keyword == "dependentSchemas" => left.extend(schemas.values()),
                Some(schema) => left.push(schema),
                None => {}
            }
        }
    }
    found
}
