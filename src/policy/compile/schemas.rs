//! The schema files that routes name: each is read once, and compiled once, however many routes use it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::context::Context;
use super::json_schemas::Loader;
use crate::policy::catalog::Catalog;
use crate::policy::document::{self, Document};
use crate::policy::source::Place;
use crate::policy::tree::At;
use crate::stages::schema::json::{DocumentId, JsonSchema, Root};
use crate::stages::schema::xml::{Soap, XmlProblem, XmlSchema, XmlSettings};

/// A JSON Schema file.
#[derive(Clone)]
pub(super) struct SchemaFile {
    /// What is written in it.
    pub(super) value: Arc<Value>,
    /// Compiled.
    pub(super) schema: Arc<JsonSchema>,
    /// The same for a query, where parameters that it does not name are refused.
    pub(super) closed: Option<Arc<JsonSchema>>,
}

/// All of a policy, by path. `None`: its problems have been reported.
#[derive(Default)]
pub(super) struct Schemas {
    json: HashMap<String, Option<SchemaFile>>,
    /// By path, and what the body is wrapped in.
    xml: HashMap<(String, Option<Soap>), Option<XmlSchema>>,
}

impl Schemas {
    /// Reads all JSON Schema files that routes name, and compiles them together.
    pub(super) fn load(context: &mut Context<'_>, catalog: &Catalog, document: &Document, at: At<'_>) -> Self {
        let mut loader = Loader::new(context, catalog);
        // By path: the document, and whether a query needs it closed.
        let mut named: BTreeMap<String, (Option<DocumentId>, bool)> = BTreeMap::new();
        each_file(document, at, &mut |path, closed, at| {
            let known = named.entry(path.to_owned()).or_insert_with(|| (loader.named(path, at), false));
            known.1 |= closed;
        });
        let documents = loader.finish();
        let roots = named.values().filter_map(|(document, closed)| Some(((*document)?, *closed)));
        let roots: Vec<Root> = roots
            .flat_map(|(document, closed)| {
                let root = |closed| Root { document, closed };
                [Some(root(false)), closed.then(|| root(true))].into_iter().flatten()
            })
            .collect();
        let (schemas, problems) = JsonSchema::all(&documents.documents, &roots);
        let good = problems.is_empty();
        for problem in &problems {
            documents.tell(context, problem);
        }
        let mut compiled: HashMap<Root, Arc<JsonSchema>> =
            roots.into_iter().zip(schemas).filter_map(|(root, schema)| Some((root, Arc::new(schema?)))).collect();
        let file = |(path, (document, _)): (String, (Option<DocumentId>, bool))| {
            let mut schema = |closed| compiled.remove(&Root { document: document?, closed });
            let found = schema(false).zip(document.and_then(|document| documents.documents.value(document)));
            let file = found.filter(|_| good).map(|(schema_, value)| SchemaFile {
                value: Arc::clone(value),
                schema: schema_,
                closed: schema(true),
            });
            (path, file)
        };
        Self { json: named.into_iter().map(file).collect(), xml: HashMap::new() }
    }

    /// The schema of a file that was read.
    pub(super) fn json(&mut self, context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<SchemaFile> {
        let known = self.json.get(path);
        if known.is_none() {
            context.error(at, "this schema was not read");
        }
        known.cloned().flatten()
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

/// Visits the paths of all JSON Schema files that routes name, and whether a query needs the schema closed.
fn each_file(document: &Document, at: At<'_>, visit: &mut impl FnMut(&str, bool, At<'_>)) {
    for (api, written) in &document.apis {
        for (name, route) in &written.routes {
            let at = at.key("apis").key(api).key("routes").key(name);
            if let Some(request) = &route.request {
                let at = at.key("request");
                let strict = request.strict == Some(true);
                for (key, path) in files_of(request) {
                    visit(path, strict && key == "query", at.key(key));
                }
            }
            if let Some(response) = &route.response {
                let at = at.key("response");
                if let Some(path) = response.successful.as_ref().and_then(|content| content.json.as_ref()) {
                    visit(path, false, at.key("json"));
                }
                for (status, content) in &response.statuses {
                    content.json.iter().for_each(|path| visit(path, false, at.key(status).key("json")));
                }
            }
        }
    }
}

/// The JSON Schema files of a request, by key.
fn files_of(request: &document::Request) -> impl Iterator<Item = (&'static str, &String)> {
    let keys = [
        ("json", &request.json),
        ("form", &request.form),
        ("multipart", &request.multipart),
        ("path", &request.path),
        ("query", &request.query),
        ("headers", &request.headers),
        ("cookies", &request.cookies),
    ];
    keys.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?)))
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

/// The byte at a line and a column, both from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len().saturating_sub(1))
}
