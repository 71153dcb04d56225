//! Finds what one document identifies: its resources and anchors, and the references in it.
//!
//! It looks where schemas are, by the draft's own keywords: an `$id` in an example identifies nothing (2020-12 core, §8.2.1).
//! A place that a reference points at is a schema, whatever the keyword above it.

use std::collections::HashSet;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::keywords::{Step, subschemas};
use super::metaschemas;
use super::uri::{self, escaped};

/// A schema that identifies itself, or the root of a document.
#[derive(Debug)]
pub(super) struct Resource<'v> {
    pub(super) uri: String,
    pub(super) schema: &'v Value,
    pub(super) draft: Draft,
    /// Where it is in its document.
    pub(super) pointer: String,
    /// Whether it has `$recursiveAnchor: true`.
    pub(super) recursive: bool,
}

/// A name for a schema in its resource.
#[derive(Debug)]
pub(super) struct Anchor<'v> {
    /// The position of the resource.
    pub(super) resource: usize,
    pub(super) name: &'v str,
    pub(super) schema: &'v Value,
    pub(super) pointer: String,
    pub(super) dynamic: bool,
}

/// What a document identifies.
#[derive(Debug, Default)]
pub(super) struct Scan<'v> {
    /// The first one is the document itself.
    pub(super) resources: Vec<Resource<'v>>,
    pub(super) anchors: Vec<Anchor<'v>>,
    /// `$ref`, `$dynamicRef` and a `$schema` that is no known draft, each with the position of its resource.
    pub(super) references: Vec<(usize, &'v str)>,
}

/// Scans a document whose root is in `draft`, and which `uri` identifies where it has no `$id`.
pub(super) fn scan<'v>(document: &'v Value, draft: Draft, uri: &str) -> Scan<'v> {
    let root = identifier(document, draft).map_or_else(|| uri.to_owned(), |id| uri::resolve(uri, id));
    let mut scanner = Scanner { scan: Scan::default(), pointer: String::new(), visited: None };
    scanner.add(document, draft, root);
    scanner.visit(document, 0);
    scanner.follow_pointers();
    scanner.scan
}

/// What a schema says that it is called, without a fragment.
fn identifier(schema: &Value, draft: Draft) -> Option<&str> {
    let map = schema.as_object()?;
    // Beside `$ref`, it says nothing in the older drafts (draft-07 core, §8.3).
    if draft < Draft::Draft201909 && map.contains_key("$ref") {
        return None;
    }
    let id = map.get(id_keyword(draft))?.as_str()?;
    let id = id.split('#').next().unwrap_or_default();
    (!id.is_empty()).then_some(id)
}

pub(super) fn id_keyword(draft: Draft) -> &'static str {
    if draft == Draft::Draft4 { "id" } else { "$id" }
}

struct Scanner<'v> {
    scan: Scan<'v>,
    pointer: String,
    /// The schemas that were visited, by address; only kept while places are visited that may have been before.
    visited: Option<HashSet<*const Value, ahash::RandomState>>,
}

impl<'v> Scanner<'v> {
    fn add(&mut self, schema: &'v Value, draft: Draft, uri: String) -> usize {
        let recursive = schema.get("$recursiveAnchor") == Some(&Value::Bool(true));
        self.scan.resources.push(Resource { uri, schema, draft, pointer: self.pointer.clone(), recursive });
        self.scan.resources.len() - 1
    }

    fn visit(&mut self, schema: &'v Value, resource: usize) {
        let Value::Object(map) = schema else { return };
        if self.visited.as_mut().is_some_and(|visited| !visited.insert(schema)) {
            return;
        }
        let Some(around) = self.scan.resources.get(resource) else { return };
        let mut draft = around.draft;
        let mut resource = resource;
        if !std::ptr::eq(around.schema, schema) {
            let named = map.get("$schema").and_then(Value::as_str);
            draft = named.map_or(draft, |named| metaschemas::draft(named).unwrap_or(Draft::Unknown));
            if let Some(id) = identifier(schema, draft) {
                let uri = uri::resolve(&around.uri, id);
                resource = self.add(schema, draft, uri);
            }
        }
        self.names(schema, map, draft, resource);
        let mut below = Vec::new();
        subschemas(known(draft), map, |keyword, step, inner| below.push((keyword, step, inner)));
        let length = self.pointer.len();
        for (keyword, step, inner) in below {
            self.pointer.push('/');
            self.pointer.push_str(keyword);
            match step {
                Step::Itself => {}
                Step::Index(index) => self.pointer.push_str(&format!("/{index}")),
                Step::Name(name) => {
                    self.pointer.push('/');
                    self.pointer.push_str(&escaped(name));
                }
            }
            self.visit(inner, resource);
            self.pointer.truncate(length);
        }
    }

    /// Anchors and references of one schema.
    fn names(&mut self, schema: &'v Value, map: &'v Map<String, Value>, draft: Draft, resource: usize) {
        let text = |key: &str| map.get(key).and_then(Value::as_str);
        let mut anchor = |name: Option<&'v str>, dynamic: bool| {
            if let Some(name) = name {
                let pointer = self.pointer.clone();
                self.scan.anchors.push(Anchor { resource, name, schema, pointer, dynamic });
            }
        };
        if draft < Draft::Draft201909 {
            let id = if map.contains_key("$ref") { None } else { text(id_keyword(draft)) };
            anchor(id.and_then(|id| id.split_once('#')).map(|(_, name)| name).filter(|name| !name.is_empty()), false);
        } else {
            anchor(text("$anchor"), false);
            if draft >= Draft::Draft202012 {
                anchor(text("$dynamicAnchor"), true);
            }
        }
        self.scan.references.extend(text("$ref").map(|reference| (resource, reference)));
        self.scan.references.extend(text("$dynamicRef").map(|reference| (resource, reference)));
        let dialect = text("$schema").filter(|named| metaschemas::draft(named).is_none());
        self.scan.references.extend(dialect.map(|named| (resource, named)));
    }

    /// Visits the places that local references point at below words that are no keywords.
    fn follow_pointers(&mut self) {
        let mut next = 0;
        let mut seen: HashSet<(usize, &str), ahash::RandomState> = HashSet::default();
        while let Some((resource, reference)) = self.scan.references.get(next).copied() {
            next += 1;
            let Some(pointer) = reference.strip_prefix("#/") else { continue };
            let mut steps = pointer.split('/');
            let usual =
                matches!((steps.next(), steps.next(), steps.next()), (Some("definitions" | "$defs"), Some(_), None));
            if usual || !seen.insert((resource, pointer)) {
                continue;
            }
            let Some(Resource { schema, pointer: above, .. }) = self.scan.resources.get(resource) else { continue };
            let (_, pointer) = uri::split(reference);
            let Some(target) = schema.pointer(&pointer) else { continue };
            let place = format!("{above}{pointer}");
            if self.visited.is_none() {
                self.visit_again();
            }
            self.pointer = place;
            self.visit(target, resource);
            self.pointer.clear();
        }
    }

    /// Notes what has been visited.
    fn visit_again(&mut self) {
        let mut visited = HashSet::default();
        let mut left: Vec<(&Value, Draft)> =
            self.scan.resources.first().map(|root| (root.schema, root.draft)).into_iter().collect();
        while let Some((schema, draft)) = left.pop() {
            let Value::Object(map) = schema else { continue };
            visited.insert(std::ptr::from_ref(schema));
            let named = map.get("$schema").and_then(Value::as_str).and_then(metaschemas::draft);
            let draft = named.unwrap_or(draft);
            subschemas(known(draft), map, |_, _, inner| left.push((inner, draft)));
        }
        self.visited = Some(visited);
    }
}

/// The draft whose keywords a schema has that names a meta-schema of its own.
fn known(draft: Draft) -> Draft {
    if draft == Draft::Unknown { Draft::Draft202012 } else { draft }
}
