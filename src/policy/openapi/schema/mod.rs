//! The schemas of a description, collected into one JSON Schema 2020-12 document for each direction.
//!
//! Each schema that an operation needs becomes a named definition ([`definitions`]), once, however many refer to it;
//! references are `#/$defs/NAME`. So a description is compiled twice (for requests and for responses), not once for
//! each operation. [`lower`] translates the keywords of OpenAPI.

mod circles;
mod definitions;
mod discriminator;
mod embedded;
mod lower;
mod nullable;
mod scopes;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

pub(crate) use self::definitions::{Direction, Name};
pub(super) use self::definitions::{Schemas, reference};
use super::diagnostics::Diagnostics;
use super::files::Spot;

/// The translated definitions of one direction.
pub(super) struct Translated {
    /// `{"$defs": …}`.
    pub(super) document: Value,
    /// By definition: why it, or one that it refers to, cannot be enforced.
    pub(super) broken: HashMap<Name, String>,
}

impl Schemas<'_> {
    /// Translates all definitions, and those they refer to; adds where each comes from.
    pub(super) fn finish(mut self, diagnostics: &mut Diagnostics, origins: &mut HashMap<Name, Spot>) -> Translated {
        self.drain(diagnostics);
        let Self { mut defs, mut broken, origins: own, .. } = self;
        circles::tell(&defs, &own, &mut broken, diagnostics);
        origins.extend(own.iter().map(|(name, node)| (Arc::clone(name), Spot::of(node))));
        for name in broken.keys() {
            defs.insert(name.to_string(), Value::Bool(false));
        }
        spread(&defs, &mut broken);
        Translated { document: Value::Object(Map::from_iter([("$defs".to_owned(), Value::Object(defs))])), broken }
    }

    fn drain(&mut self, diagnostics: &mut Diagnostics) {
        // A work list, not recursion: chains of references can be of any length.
        while let Some((node, key, name)) = self.waiting.pop() {
            let before = diagnostics.closings();
            let schema = lower::Lowering { schemas: self, diagnostics, within: &key, scope: key.scope }.whole(&node);
            if let Some(why) = diagnostics.closed_since(before) {
                self.broken.insert(Arc::clone(&name), why.to_owned());
            }
            self.defs.insert(name.to_string(), schema);
        }
    }
}

/// Adds the definitions that refer to broken ones.
fn spread(defs: &Map<String, Value>, broken: &mut HashMap<Name, String>) {
    if broken.is_empty() {
        return;
    }
    let mut users: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, schema) in defs {
        let mut left = vec![schema];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(members) => {
                    let target = members.get("$ref").and_then(Value::as_str);
                    if let Some(target) = target.and_then(definitions::named) {
                        users.entry(target).or_default().push(name);
                    }
                    left.extend(members.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
    }
    let mut left: Vec<(Name, String)> = broken.iter().map(|(name, why)| (Arc::clone(name), why.clone())).collect();
    while let Some((name, why)) = left.pop() {
        for user in users.get(&*name).into_iter().flatten() {
            if !broken.contains_key(*user) {
                let user = Name::from(*user);
                broken.insert(Arc::clone(&user), why.clone());
                left.push((user, why.clone()));
            }
        }
    }
}
