//! Compiles the schemas of a description, with the JSON Schema files that they refer to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jsonschema::Draft;
use serde_json::Value;

use crate::policy::catalog::Catalog;
use crate::policy::compile::context::Context;
use crate::policy::compile::json_schemas::{Group, Loader};
use crate::policy::openapi::{Definitions, Description, Name};
use crate::stages::schema::json::{JsonSchema, Shared, bundles};

/// Compiled definitions, by name.
type ByName = HashMap<Name, Arc<JsonSchema>>;

/// The compiled schemas of one direction.
pub(super) struct Compiled {
    pub(super) schemas: ByName,
    /// Where members of the other direction are only reported: the same schemas, which accept them.
    pub(super) lenient: Option<ByName>,
    /// `{"$defs": …}`, with what they refer to in other files.
    pub(super) root: Arc<Value>,
}

/// Compiles the schemas of a description.
pub(super) struct DefinitionsCompiler<'c, 'a> {
    context: &'c mut Context<'a>,
    description: &'c Description,
    /// The JSON Schema files.
    files: Group,
    shared: Shared,
}

impl<'c, 'a> DefinitionsCompiler<'c, 'a> {
    /// Reads the JSON Schema files that a description refers to.
    pub(super) fn new(context: &'c mut Context<'a>, catalog: &Catalog, description: &'c Description) -> Self {
        let mut loader = Loader::new(context, catalog);
        for (path, folder) in description.schema_files() {
            loader.referred(path, folder);
        }
        Self { files: loader.finish().whole(), context, description, shared: Shared::default() }
    }

    /// Compiles the definitions with these names; reports problems, and then returns `None`.
    pub(super) fn compile(&mut self, definitions: &Definitions, names: &BTreeSet<&str>) -> Option<Compiled> {
        let (schemas, root) = self.document(&definitions.document, names)?;
        let lenient = match &definitions.lenient {
            Some(document) => Some(self.document(document, names)?.0),
            None => None,
        };
        Some(Compiled { schemas, lenient, root })
    }

    fn document(&mut self, document: &Arc<Value>, names: &BTreeSet<&str>) -> Option<(ByName, Arc<Value>)> {
        let names: Vec<&str> = names.iter().copied().collect();
        let alone = self.files.is_empty() && !has_resources(document);
        let documents = &mut self.files.documents;
        let id = documents.add("", Arc::clone(document), Draft::Draft202012);
        let (schemas, problems) = JsonSchema::definitions(documents, id, &names, &mut self.shared);
        let root = match alone {
            true => Arc::clone(document),
            false => Arc::new(bundles(documents, &[id]).pop()?),
        };
        for problem in &problems {
            if problem.file.is_empty() {
                let place = self.description.origin(&problem.pointer);
                let message = format!("this schema cannot be enforced: {}", problem.message);
                self.context.problems.error(place, message);
            } else {
                self.files.tell(self.context, problem);
            }
        }
        let schemas = names.iter().map(|name| Name::from(*name)).zip(schemas.into_iter().map(Arc::new)).collect();
        problems.is_empty().then_some((schemas, root))
    }
}

/// Whether a definition is a resource of its own, so that its references are not pointers from the root.
fn has_resources(document: &Value) -> bool {
    let definitions = document.get("$defs").and_then(Value::as_object).into_iter().flatten();
    definitions.into_iter().any(|(_, definition)| definition.get("$schema").is_some())
}
