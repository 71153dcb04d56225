//! Where references lead: identifiers, anchors and pointers are looked up by the `referencing` crate, in the schema and
//! in the files that were read with it. Nothing is fetched.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::{Draft, Registry, Retrieve, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use referencing::{Resolver, ResourceRef};
use serde_json::Value;

use super::problem::SchemaProblem;

/// Documents that schemas may refer to, by path relative to the policy's directory.
pub(crate) type Files = HashMap<String, Value>;

/// Base URI for resolving paths. It does not exist on any network.
const BASE: &str = "policy:///";
/// Characters of paths that must be encoded in a URI (RFC 3986 §3.3).
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Retrieves only documents that have already been read.
struct LoadedFiles(Arc<Files>);

impl Retrieve for LoadedFiles {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let path = uri.as_str().strip_prefix(BASE).map(|path| percent_decode_str(path).decode_utf8_lossy());
        let known = path.and_then(|path| self.0.get(&*path)).cloned();
        known.ok_or_else(|| "it is not a file in the policy's folder".into())
    }
}

/// The URI of the file at `path`.
pub(super) fn uri_of(path: &str) -> String {
    format!("{BASE}{}", utf8_percent_encode(path, PATH))
}

/// Indexes a schema and every file that it refers to, directly or not.
pub(super) fn registry<'s>(
    schema: &'s Value,
    draft: Draft,
    base: &str,
    files: &Arc<Files>,
) -> Result<Registry<'s>, SchemaProblem> {
    let builder = Registry::new().retriever(LoadedFiles(Arc::clone(files))).draft(draft);
    let added = builder.add(base, draft.create_resource_ref(schema));
    added.and_then(jsonschema::RegistryBuilder::prepare).map_err(|error| SchemaProblem::at("", error.to_string()))
}

/// A place in the documents: where it is, and how references from there are resolved.
#[derive(Clone)]
pub(super) struct Place<'r> {
    pub(super) schema: &'r Value,
    pub(super) draft: Draft,
    pub(super) resolver: Resolver<'r>,
    /// A JSON pointer in its document, after the path of the document if that is another file.
    pub(super) pointer: String,
}

impl<'r> Place<'r> {
    /// The place of a subschema, which may have an identifier of its own.
    pub(super) fn enter(&self, schema: &'r Value, step: &str) -> Result<Self, SchemaProblem> {
        let pointer = format!("{}{step}", self.pointer);
        let draft = match self.draft.detect(schema) {
            Draft::Unknown => return Err(SchemaProblem::at(&pointer, "its `$schema` is no known draft".to_owned())),
            draft => draft,
        };
        let resource = ResourceRef::new(schema, draft);
        let resolver = match resource.id().filter(|id| !id.starts_with('#')) {
            None => self.resolver.clone(),
            // Looked up, not just entered: the resource around it stays in the dynamic scope.
            Some(id) => match self.resolver.lookup(id) {
                Ok(resolved) => resolved.resolver().clone(),
                Err(error) => return Err(SchemaProblem::at(&pointer, error.to_string())),
            },
        };
        Ok(Self { schema, draft, resolver, pointer })
    }

    /// The place that a `$ref` or `$dynamicRef` here leads to.
    pub(super) fn follow(&self, reference: &str, step: &str) -> Result<Self, SchemaProblem> {
        let problem =
            |error: &referencing::Error| SchemaProblem::at(&format!("{}{step}", self.pointer), error.to_string());
        let resolved = self.resolver.lookup(reference).map_err(|error| problem(&error))?;
        let (schema, resolver, draft) = resolved.into_inner();
        Ok(Self { schema, draft, resolver, pointer: self.pointer_of(reference) })
    }

    /// The place that `$recursiveRef` leads to (2019-09 core, §8.2.4.2.1).
    pub(super) fn recurse(&self, step: &str) -> Result<Self, SchemaProblem> {
        let problem =
            |error: &referencing::Error| SchemaProblem::at(&format!("{}{step}", self.pointer), error.to_string());
        let resolved = self.resolver.lookup_recursive_ref().map_err(|error| problem(&error))?;
        let (schema, resolver, draft) = resolved.into_inner();
        let pointer = self.pointer_of(resolver.base_uri().as_str());
        Ok(Self { schema, draft, resolver, pointer })
    }

    /// How a place is named in problems: by its pointer in this document, else as the reference names it.
    fn pointer_of(&self, reference: &str) -> String {
        let decoded = percent_decode_str(reference).decode_utf8_lossy();
        match decoded.split_once('#') {
            Some(("", pointer)) if pointer.is_empty() || pointer.starts_with('/') => pointer.to_owned(),
            _ => decoded.strip_prefix(BASE).unwrap_or(&decoded).to_owned(),
        }
    }

    /// The resources that evaluation has passed on its way here, outermost first, each once: a dynamic reference takes
    /// the outermost that has its anchor, so a second pass adds nothing (2020-12 core, §7.1).
    pub(super) fn dynamic_scope(&self) -> Vec<String> {
        let scopes = self.resolver.dynamic_scope();
        let mut outer: Vec<&str> = scopes.iter().map(Uri::as_str).collect();
        outer.reverse();
        let base = self.resolver.base_uri();
        outer.push(base.as_str());
        let mut once: Vec<String> = Vec::new();
        for uri in outer {
            if !once.iter().any(|known| known == uri) {
                once.push(uri.to_owned());
            }
        }
        once
    }
}

/// A step of a JSON pointer (RFC 6901 §3).
pub(super) fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}
