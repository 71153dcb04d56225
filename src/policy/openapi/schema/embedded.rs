//! Schemas of a description that name another draft in `$schema`: they keep to it (OpenAPI 3.1, §4.8.24.4).
//!
//! Each is a definition, and a resource of its own. What it refers to in itself stays there. What it refers to elsewhere in the
//! description is translated as anything else is.

use jsonschema::Draft;
use serde_json::{Map, Value, json};

use super::definitions::{MAIN, reference};
use super::lower::Lowering;
use crate::policy::openapi::files::Node;
use crate::policy::openapi::version::{self, Version};
use crate::stages::schema::json::keywords::find;
use crate::stages::schema::json::{Form, draft_of, uri};

impl<'d> Lowering<'_, 'd> {
    /// Translates a schema that names another draft; `None` if it names none that is known.
    pub(super) fn embedded(&mut self, node: &Node<'d>) -> Option<Value> {
        let named = node.text("$schema").filter(|named| !version::is_dialect(named));
        let draft = draft_of(named.filter(|_| self.schemas.version == Version::V3_1)?)?;
        if node.file != self.within.file || node.pointer != self.within.pointer {
            let name = self.schemas.define_in(self.scope, node);
            return Some(reference(&name));
        }
        let mut copy = self.copied(node, node, draft);
        // In the older drafts, nothing beside a reference counts, not even an identifier (draft-07 core, §8.3).
        if draft < Draft::Draft201909
            && let Some(target) = copy.remove("$ref")
        {
            copy = Map::from_iter([("allOf".to_owned(), json!([{ "$ref": target }]))]);
        }
        let id = if draft == Draft::Draft4 { "id" } else { "$id" };
        copy.insert("$schema".to_owned(), named.into());
        copy.insert(id.to_owned(), node.made_uri().into());
        Some(Value::Object(copy))
    }

    /// A schema in the embedded one at `root`, with its references as they are in the definition.
    fn copied(&mut self, root: &Node<'d>, node: &Node<'d>, draft: Draft) -> Map<String, Value> {
        let mut copy = Map::new();
        for (name, child) in node.entries() {
            let form = find(name).filter(|keyword| keyword.is_of(draft)).map(|keyword| keyword.form);
            let value = match (name, form, child.value) {
                // All references are by pointer here.
                ("$id" | "id", Some(_), Value::String(_)) => continue,
                ("$ref", _, Value::String(written)) => match self.pointed(root, node, written) {
                    Ok(reference) => reference.into(),
                    Err(problem) => {
                        self.diagnostics.closing(&child, problem);
                        continue;
                    }
                },
                (_, Some(Form::Schema | Form::SchemaOrSchemas), Value::Object(_)) => self.part(root, &child, draft),
                (_, Some(Form::Schemas | Form::SchemaOrSchemas), Value::Array(_)) => {
                    child.items().map(|item| self.part(root, &item, draft)).collect()
                }
                (_, Some(Form::ByName | Form::Definitions), Value::Object(_)) => {
                    let members = child.entries().map(|(name, item)| (name.to_owned(), self.part(root, &item, draft)));
                    Value::Object(members.collect())
                }
                (_, _, value) => value.clone(),
            };
            copy.insert(name.to_owned(), value);
        }
        copy
    }

    fn part(&mut self, root: &Node<'d>, node: &Node<'d>, draft: Draft) -> Value {
        if node.value.is_object() { Value::Object(self.copied(root, node, draft)) } else { node.value.clone() }
    }

    /// A reference as it is in the definition.
    fn pointed(&mut self, root: &Node<'d>, node: &Node<'d>, written: &str) -> Result<String, String> {
        let target = node.follow(written).or_else(|problem| {
            // Many mean the root of the embedded schema, though it has no identifier.
            let place = written.strip_prefix('#').and_then(|pointer| root.at(pointer));
            place.ok_or(problem)
        })?;
        let own = target.pointer.strip_prefix(&root.pointer).filter(|_| target.file == root.file);
        if let Some(pointer) = own.filter(|below| below.is_empty() || below.starts_with('/')) {
            return Ok(uri::of_own_place(pointer));
        }
        let name = self.schemas.define_in(self.scope, &target);
        Ok(format!("{MAIN}#/$defs/{name}"))
    }
}
