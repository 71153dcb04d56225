//! The schemas of a description, collected into one JSON Schema 2020-12 document for each direction.
//!
//! Each schema that an operation needs becomes a named definition ([`definitions`]), once, however many refer to it;
//! references are `#/$defs/NAME`. So a description is compiled twice (for requests and for responses), not once for
//! each operation. [`lower`] translates the keywords of OpenAPI.

mod circles;
mod definitions;
mod discriminator;
mod keywords;
mod lower;
mod nullable;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

pub(crate) use self::definitions::{Direction, Name};
pub(super) use self::definitions::{Schemas, reference};
use super::diagnostics::Diagnostics;
use super::files::Spot;

impl Schemas<'_> {
    /// Translates all definitions, and those they refer to. Returns `{"$defs": …}`, and adds where each comes from.
    pub(super) fn finish(mut self, diagnostics: &mut Diagnostics, origins: &mut HashMap<Name, Spot>) -> Value {
        self.drain(diagnostics);
        circles::tell(&self.defs, &self.origins, diagnostics);
        origins.extend(self.origins.iter().map(|(name, node)| (Arc::clone(name), Spot::of(node))));
        Value::Object(Map::from_iter([("$defs".to_owned(), Value::Object(self.defs))]))
    }

    fn drain(&mut self, diagnostics: &mut Diagnostics) {
        // A work list, not recursion: chains of references can be of any length.
        while let Some((node, key, name)) = self.waiting.pop() {
            let schema = lower::Lowering { schemas: self, diagnostics, within: &key }.whole(&node);
            self.defs.insert(name.to_string(), schema);
        }
    }
}
