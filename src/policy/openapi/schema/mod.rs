//! The schemas of a description, gathered into one document of JSON Schema 2020-12 for each direction.
//!
//! Whatever an operation needs becomes a definition with a name, once, however many refer to it; references lead to
//! `#/$defs/NAME`. So a description is compiled twice (for requests and for answers), not once for each operation.
//! [`lower`] says what the keywords of OpenAPI mean there.

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
    /// Lowers all that was asked for, and what that refers to. Returns `{"$defs": …}`; adds where each is from.
    pub(super) fn finish(mut self, diagnostics: &mut Diagnostics, origins: &mut HashMap<Name, Spot>) -> Value {
        self.drain(diagnostics);
        circles::tell(&self.defs, &self.origins, diagnostics);
        origins.extend(self.origins.iter().map(|(name, node)| (Arc::clone(name), Spot::of(node))));
        Value::Object(Map::from_iter([("$defs".to_owned(), Value::Object(self.defs))]))
    }

    fn drain(&mut self, diagnostics: &mut Diagnostics) {
        // A list, not recursion: references chain as long as a description likes.
        while let Some((node, key, name)) = self.waiting.pop() {
            let schema = lower::Lowering { schemas: self, diagnostics, within: &key }.whole(&node);
            self.defs.insert(name.to_string(), schema);
        }
    }
}
