//! The schema files that routes name: each is read once, and compiled once, however many routes use it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::context::Context;
use super::json_schemas::{EntryId, Group, Loader};
use super::xml_schemas;
use crate::policy::catalog::Catalog;
use crate::policy::document::{self, Document};
use crate::policy::tree::At;
use crate::stages::schema::json::{DocumentId, JsonSchema, Root, Shared, bundles};
use crate::stages::schema::xml::{Soap, XmlSchema};

/// A JSON Schema file.
#[derive(Clone)]
pub(super) struct SchemaFile {
    /// Compiled.
    pub(super) schema: Arc<JsonSchema>,
    /// The same for a query, where parameters that it does not name are refused.
    pub(super) closed: Option<Arc<JsonSchema>>,
    /// What is written in it, with what it refers to, if its properties are fields or parameters, or if callers are shown it.
    pub(super) value: Option<Arc<Value>>,
}

/// What routes need of a schema file.
#[derive(Debug, Clone, Copy, Default)]
struct Need {
    closed: bool,
    value: bool,
}

/// All of a policy, by path. `None`: its problems have been reported.
#[derive(Default)]
pub(super) struct Schemas {
    json: HashMap<String, Option<SchemaFile>>,
    xml: HashMap<String, Option<XmlSchema>>,
    catalog: Catalog,
}

impl Schemas {
    /// Reads all JSON Schema files that routes name, and compiles them, those together that refer to each other.
    pub(super) fn load(context: &mut Context<'_>, catalog: &Catalog, document: &Document, at: At<'_>) -> Self {
        let mut loader = Loader::new(context, catalog);
        let mut named: BTreeMap<String, Option<EntryId>> = BTreeMap::new();
        let mut needs: BTreeMap<EntryId, Need> = BTreeMap::new();
        each_file(document, at, &mut |path, need, at| {
            let id = *named.entry(path.to_owned()).or_insert_with(|| loader.named(path, at));
            if let Some(known) = id.map(|id| needs.entry(id).or_default()) {
                known.closed |= need.closed;
                known.value |= need.value;
            }
        });
        let mut read = loader.finish();
        let mut compiled: HashMap<EntryId, SchemaFile> = HashMap::new();
        let mut shared = Shared::default();
        for members in read.groups() {
            let needs: Vec<(EntryId, Need)> = members.iter().filter_map(|id| Some((*id, *needs.get(id)?))).collect();
            compile(context, &read.group(&members), &needs, &mut shared, &mut compiled);
        }
        let file = |(path, id): (String, Option<EntryId>)| (path, id.and_then(|id| compiled.get(&id).cloned()));
        Self { json: named.into_iter().map(file).collect(), xml: HashMap::new(), catalog: catalog.clone() }
    }

    /// The catalog, and what was found by it.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The schema of a file that was read.
    pub(super) fn json(&mut self, context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<SchemaFile> {
        let known = self.json.get(path);
        if known.is_none() {
            context.error(at, "this schema was not read");
        }
        known.cloned().flatten()
    }

    /// What is written in a file, with what it refers to, if that is kept.
    pub(super) fn value(&self, path: &str) -> Option<Arc<Value>> {
        self.json.get(path)?.as_ref()?.value.clone()
    }

    /// The schema of an XSD file or a WSDL; problems are reported at their place in the file that has them.
    pub(super) fn xml(
        &mut self,
        context: &mut Context<'_>,
        path: &str,
        soap: Option<Soap>,
        at: At<'_>,
    ) -> Option<XmlSchema> {
        let schema = match self.xml.get(path) {
            Some(known) => known.clone(),
            None => {
                let schema = xml_schemas::compile(context, &self.catalog, path, at);
                self.xml.insert(path.to_owned(), schema.clone());
                schema
            }
        };
        let schema = schema?;
        if soap.is_none() && schema.is_wsdl() {
            context.error(at, "this is a WSDL, which describes SOAP messages").help("write `soap:` in place of `xml:`");
        }
        Some(soap.map_or_else(|| schema.clone(), |soap| schema.in_envelope(soap)))
    }
}

/// Compiles the files of a group that routes need; reports problems.
fn compile(
    context: &mut Context<'_>,
    group: &Group,
    needs: &[(EntryId, Need)],
    shared: &mut Shared,
    compiled: &mut HashMap<EntryId, SchemaFile>,
) {
    let documents = needs.iter().filter_map(|(id, need)| Some((*group.ids.get(id)?, need.closed)));
    let roots: Vec<Root> = documents
        .flat_map(|(document, closed)| {
            let root = |closed| Root { document, closed };
            [Some(root(false)), closed.then(|| root(true))].into_iter().flatten()
        })
        .collect();
    let (schemas, problems) = JsonSchema::all(&group.documents, &roots, shared);
    for problem in &problems {
        group.tell(context, problem);
    }
    if !problems.is_empty() {
        return;
    }
    let mut schemas: HashMap<Root, Arc<JsonSchema>> =
        roots.into_iter().zip(schemas).filter_map(|(root, schema)| Some((root, Arc::new(schema?)))).collect();
    let with_values = needs.iter().filter(|(_, need)| need.value).filter_map(|(id, _)| group.ids.get(id).copied());
    let with_values: Vec<DocumentId> = with_values.collect();
    let values = bundles(&group.documents, &with_values).into_iter().map(Arc::new);
    let values: HashMap<DocumentId, Arc<Value>> = with_values.into_iter().zip(values).collect();
    for (id, document) in needs.iter().filter_map(|(id, _)| Some((*id, *group.ids.get(id)?))) {
        let mut schema = |closed| schemas.remove(&Root { document, closed });
        if let Some(open) = schema(false) {
            let value = values.get(&document).cloned();
            compiled.insert(id, SchemaFile { schema: open, closed: schema(true), value });
        }
    }
}

/// Visits the paths of all JSON Schema files that routes name, and what they need of them.
fn each_file(document: &Document, at: At<'_>, visit: &mut impl FnMut(&str, Need, At<'_>)) {
    let is_shown = document.self_service.is_some();
    let body = Need { closed: false, value: is_shown };
    for (api, written) in &document.apis {
        for (name, route) in &written.routes {
            let at = at.key("apis").key(api).key("routes").key(name);
            if let Some(request) = &route.request {
                let at = at.key("request");
                let strict = request.strict == Some(true);
                for (key, path) in files_of(request) {
                    visit(
                        path,
                        Need { closed: strict && key == "query", value: is_shown || key != "json" },
                        at.key(key),
                    );
                }
            }
            if let Some(response) = &route.response {
                let at = at.key("response");
                if let Some(path) = response.successful.as_ref().and_then(|content| content.json.as_ref()) {
                    visit(path, body, at.key("json"));
                }
                for (status, content) in &response.statuses {
                    content.json.iter().for_each(|path| visit(path, body, at.key(status).key("json")));
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
