//! Schema files: read once, with the files they refer to, and compiled once, however many routes use them.
//!
//! References lead to files of the policy's folder and into them, never to the network.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::context::Context;
use crate::policy::diagnostic::Problems;
use crate::policy::source::{Place, SourceText, beside};
use crate::policy::tree::At;
use crate::policy::yaml;
use crate::stages::schema::json::{Files, JsonSchema, SchemaProblem};
use crate::stages::schema::xml::{Soap, XmlProblem, XmlSchema, XmlSettings};
use crate::stages::strict_json;

/// A JSON Schema file.
#[derive(Clone)]
pub(super) struct SchemaFile {
    /// What is written in it.
    pub(super) value: Arc<Value>,
    /// Compiled.
    pub(super) schema: Arc<JsonSchema>,
}

/// All of a policy, by path. `None`: its problems have been told.
#[derive(Default)]
pub(super) struct Schemas {
    json: HashMap<String, Option<SchemaFile>>,
    /// By path, and what the body is wrapped in.
    xml: HashMap<(String, Option<Soap>), Option<XmlSchema>>,
}

impl Schemas {
    /// The schema of a file; its problems are reported at their place in that file.
    pub(super) fn json(&mut self, context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<SchemaFile> {
        if let Some(known) = self.json.get(path) {
            return known.clone();
        }
        let schema = json(context, path, at);
        self.json.insert(path.to_owned(), schema.clone());
        schema
    }

    /// The schema of an XSD file; problems are reported at their place in the file that has them.
    pub(super) fn xml(
        &mut self,
        context: &mut Context<'_>,
        path: &str,
        soap: Option<Soap>,
        at: At<'_>,
    ) -> Option<XmlSchema> {
        let key = (path.to_owned(), soap);
        if let Some(known) = self.xml.get(&key) {
            return known.clone();
        }
        let schema = xml(context, path, soap, at);
        self.xml.insert(key, schema.clone());
        schema
    }
}

fn xml(context: &mut Context<'_>, path: &str, soap: Option<Soap>, at: At<'_>) -> Option<XmlSchema> {
    context.read(at, path)?;
    let settings = XmlSettings { soap, ..XmlSettings::default() };
    let sources = &mut context.sources;
    let mut read = |name: &str| match sources.read(name) {
        Ok(source) => Ok(Arc::from(source.text.as_str())),
        Err(error) => Err(error.to_string()),
    };
    match XmlSchema::new(path, settings, &mut read) {
        Ok(schema) => Some(schema),
        Err(XmlProblem { file, line, column, message, help }) => {
            let source = context.sources.read(&file).ok().filter(|_| line.is_some());
            let place = match (&source, line) {
                (Some(source), Some(line)) => {
                    let start = offset(&source.text, line as usize, column.unwrap_or(1) as usize);
                    Place::new(source, start..start + 1)
                }
                _ => at.place(),
            };
            let problem = context.problems.error(place, format!("not an XML schema that can be kept: {message}"));
            if let Some(help) = help {
                problem.help(help);
            }
            None
        }
    }
}

fn json(context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<SchemaFile> {
    let source = context.read(at, path)?;
    let value = parse(context, &source)?;
    let files = referred(context, path, &value)?;
    match JsonSchema::with_files(&value, path, files) {
        Ok(schema) => Some(SchemaFile { value: Arc::new(value), schema: Arc::new(schema) }),
        Err(problem) => {
            tell(context, &source, &problem);
            None
        }
    }
}

/// Tells what is wrong with a schema, at its place.
pub(super) fn tell(context: &mut Context<'_>, source: &Arc<SourceText>, problem: &SchemaProblem) {
    let SchemaProblem { pointer, message } = problem;
    let place = pointed(source, pointer);
    context.problems.error(place, format!("not a JSON Schema that can be kept: {message}")).help(
        "drafts 2020-12, 2019-09, 7, 6 and 4 are known; patterns have no look-around and no back-references; references \
         lead to files of the policy's folder",
    );
}

/// Parses a file, strictly.
fn parse(context: &mut Context<'_>, source: &Arc<SourceText>) -> Option<Value> {
    match strict_json::parse(source.text.as_bytes()) {
        Ok(value) => Some(value),
        Err(error) => {
            let start = offset(&source.text, error.line(), error.column());
            context.problems.error(Place::new(source, start..start + 1), format!("not acceptable JSON: {error}"));
            None
        }
    }
}

/// The files that a schema refers to, and those that they refer to.
fn referred(context: &mut Context<'_>, path: &str, value: &Value) -> Option<Files> {
    let mut files = Files::new();
    let mut waiting = paths(path, value);
    while let Some(path) = waiting.pop() {
        if files.contains_key(&path) {
            continue;
        }
        // What cannot be read may be no reference, but a property of that name; if it is one, the compiler will miss it.
        let Ok(source) = context.sources.read(&path) else { continue };
        let value = parse(context, &source)?;
        waiting.extend(paths(&path, &value));
        files.insert(path, value);
    }
    Some(files)
}

/// Where the references of a document to other files lead, as paths from the policy's folder.
fn paths(from: &str, document: &Value) -> Vec<String> {
    let (mut paths, mut left) = (Vec::new(), vec![document]);
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(members) => {
                left.extend(members.values());
                paths.extend(
                    members.get("$ref").and_then(Value::as_str).and_then(|reference| referred_path(from, reference)),
                );
            }
            _ => {}
        }
    }
    paths
}

/// The path of what a file refers to; none where it stays in the file, or climbs out of the policy's folder.
fn referred_path(from: &str, reference: &str) -> Option<String> {
    let file = reference.split('#').next().filter(|file| !file.is_empty())?;
    let file = percent_encoding::percent_decode_str(file).decode_utf8().ok()?;
    let climbs = |path: &str| path.split('/').filter(|step| *step == "..").count();
    beside(from, &file).ok().filter(|path| climbs(path) <= climbs(from))
}

/// The byte at a line and a column, both from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len().saturating_sub(1))
}

/// The place of a JSON pointer (RFC 6901). JSON is YAML, so the policy's own reader knows the places.
pub(super) fn pointed(source: &Arc<SourceText>, pointer: &str) -> Place {
    match yaml::parse(source, &mut Problems::new()) {
        Some(tree) => tree.at().pointer(pointer).place(),
        None => Place::new(source, 0..1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_stay_in_the_folder_of_the_policy() {
        for (from, reference, path) in [
            ("schemas/order.json", "line.json", Some("schemas/line.json")),
            ("schemas/order.json", "./line.json#/$defs/a", Some("schemas/line.json")),
            ("schemas/order.json", "../common/a%20b.json", Some("common/a b.json")),
            ("order.json", "a/../line.json", Some("line.json")),
            ("order.json", "#/$defs/a", None),
            ("order.json", "../line.json", None),
            ("schemas/order.json", "../../line.json", None),
            ("order.json", "/etc/passwd", None),
            ("order.json", "https://example.com/a.json", None),
            ("order.json", "file:///etc/passwd", None),
        ] {
            assert_eq!(referred_path(from, reference).as_deref(), path, "{from} {reference}");
        }
    }
}
