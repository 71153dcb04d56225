//! Where references lead, in all documents together: by identifier first, then by where the reader of files found them.

use std::borrow::Cow;
use std::collections::HashMap;

use jsonschema::Draft;
use serde_json::Value;

use super::documents::{Document, DocumentId, Documents};
use super::metaschemas;
use super::scan;
use super::uri;

/// The position of a resource.
pub(super) type ResourceId = usize;
/// Longest chain of meta-schemas, each of which is written in the next.
const MAX_DIALECTS: usize = 8;

/// A schema that identifies itself, or the root of a document.
#[derive(Debug)]
pub(super) struct Resource<'d> {
    pub(super) document: DocumentId,
    pub(super) uri: String,
    pub(super) schema: &'d Value,
    pub(super) draft: Draft,
    pub(super) pointer: String,
    pub(super) recursive: bool,
    /// Its dynamic anchors, by name.
    dynamic: Vec<&'d str>,
}

impl Resource<'_> {
    /// Whether it has the other one of the same document in it.
    fn is_around(&self, other: &Self) -> bool {
        other.pointer.strip_prefix(&self.pointer).is_some_and(|below| below.starts_with('/'))
    }
}

/// A named place in a resource.
#[derive(Debug)]
struct Anchor<'d> {
    schema: &'d Value,
    pointer: String,
    dynamic: bool,
}

/// A place that a reference leads to.
#[derive(Debug)]
pub(super) struct Target<'d> {
    pub(super) schema: &'d Value,
    pub(super) resource: ResourceId,
    pub(super) pointer: String,
    /// The name of the dynamic anchor that the reference used.
    pub(super) dynamic: Option<String>,
}

/// Why a reference leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// No document has this URI.
    Document(String),
    /// Several documents have it.
    Ambiguous(String, DocumentId, DocumentId),
    /// A resource has no such place.
    Place(ResourceId, String),
}

/// What a document has in one draft.
#[derive(Debug)]
pub(super) struct Part<'d> {
    pub(super) schema: Cow<'d, Value>,
    pub(super) draft: Draft,
    pub(super) pointer: String,
}

#[derive(Debug, Default)]
pub(super) struct Index<'d> {
    pub(super) resources: Vec<Resource<'d>>,
    /// The first resource of each document, which is its root.
    roots: Vec<ResourceId>,
    by_uri: HashMap<String, Vec<ResourceId>, ahash::RandomState>,
    by_address: HashMap<usize, ResourceId, ahash::RandomState>,
    anchors: HashMap<(ResourceId, &'d str), Anchor<'d>, ahash::RandomState>,
    located: HashMap<(DocumentId, &'d str), DocumentId>,
}

impl<'d> Index<'d> {
    /// Indexes all documents.
    pub(super) fn new(documents: &'d Documents) -> Self {
        let mut index = Self::default();
        for (id, document) in documents.all.iter().enumerate() {
            index.add(id, document);
        }
        index.located = documents.located.iter().map(|((from, uri), to)| ((*from, uri.as_str()), *to)).collect();
        for resource in 0..index.resources.len() {
            index.settle(resource);
        }
        index
    }

    fn add(&mut self, document: DocumentId, read: &'d Document) {
        let scanned = scan::scan(&read.value, read.draft, &read.uri);
        let first = self.resources.len();
        self.roots.push(first);
        for resource in scanned.resources {
            let id = self.resources.len();
            self.by_uri.entry(resource.uri.clone()).or_default().push(id);
            self.by_address.insert(std::ptr::from_ref(resource.schema) as usize, id);
            let scan::Resource { uri, schema, draft, pointer, recursive } = resource;
            self.resources.push(Resource { document, uri, schema, draft, pointer, recursive, dynamic: Vec::new() });
        }
        for scan::Anchor { resource, name, schema, pointer, dynamic } in scanned.anchors {
            let resource = first + resource;
            if let Some(resource) = self.resources.get_mut(resource).filter(|_| dynamic) {
                resource.dynamic.push(name);
            }
            self.anchors.insert((resource, name), Anchor { schema, pointer, dynamic });
        }
        // A file is known by its place, too.
        if self.resources.get(first).is_some_and(|root| root.uri != read.uri) {
            self.by_uri.entry(read.uri.clone()).or_default().push(first);
        }
    }

    /// Finds the draft of a resource whose meta-schema is one of the documents.
    fn settle(&mut self, resource: ResourceId) {
        let mut named = resource;
        for _ in 0..MAX_DIALECTS {
            let Some(Resource { document, uri, schema, draft, .. }) = self.resources.get(named) else { return };
            if *draft != Draft::Unknown {
                let draft = *draft;
                if let Some(resource) = self.resources.get_mut(resource) {
                    resource.draft = draft;
                }
                return;
            }
            let Some(dialect) = schema.get("$schema").and_then(Value::as_str) else { return };
            let (dialect, _) = uri::split(dialect);
            let Ok(next) = self.resource(*document, &uri::resolve(uri, dialect)) else { return };
            named = next;
        }
    }

    pub(super) fn root(&self, document: DocumentId) -> Option<ResourceId> {
        self.roots.get(document).copied()
    }

    /// The parts of a document that are in one draft each, without those in them that are in another.
    pub(super) fn by_draft(&self, document: DocumentId) -> Vec<Part<'d>> {
        let own: Vec<&Resource<'d>> = self.resources.iter().filter(|resource| resource.document == document).collect();
        let Some(root) = own.first() else { return Vec::new() };
        let mut parts = vec![*root];
        if own.iter().any(|resource| resource.draft != root.draft) {
            parts.extend(own.iter().skip(1).filter(|resource| {
                let around = own.iter().filter(|other| other.is_around(resource));
                around.max_by_key(|other| other.pointer.len()).is_some_and(|around| around.draft != resource.draft)
            }));
        }
        let part = |resource: &&Resource<'d>| {
            let mut schema = Cow::Borrowed(resource.schema);
            for other in parts.iter().filter(|other| resource.is_around(other)) {
                let below = other.pointer.get(resource.pointer.len()..).unwrap_or_default();
                if let Some(inner) = schema.to_mut().pointer_mut(below) {
                    *inner = Value::Bool(true);
                }
            }
            Part { schema, draft: resource.draft, pointer: resource.pointer.clone() }
        };
        parts.iter().map(part).collect()
    }

    pub(super) fn resource_at(&self, schema: &Value) -> Option<ResourceId> {
        self.by_address.get(&(std::ptr::from_ref(schema) as usize)).copied()
    }

    /// The resource that a document calls by this URI: one of its own, the only one of another document, or the root of the
    /// document that was found for it.
    fn resource(&self, from: DocumentId, uri: &str) -> Result<ResourceId, Lost> {
        let document = |id: &ResourceId| self.resources.get(*id).map(|resource| resource.document);
        let known = self.by_uri.get(uri).map(Vec::as_slice).unwrap_or_default();
        if let Some(own) = known.iter().find(|id| document(id) == Some(from)) {
            return Ok(*own);
        }
        let located = self.located.get(&(from, uri)).and_then(|document| self.root(*document));
        match (known, located) {
            ([only], _) => Ok(*only),
            (_, Some(located)) => Ok(located),
            ([], None) => Err(Lost::Document(uri.to_owned())),
            ([first, others @ ..], None) => {
                let schema = |id: &ResourceId| self.resources.get(*id).map(|resource| resource.schema);
                // Equal copies of one file are one.
                match others.iter().find(|other| schema(other) != schema(first)).and_then(document).zip(document(first))
                {
                    None => Ok(*first),
                    Some((other, first)) => Err(Lost::Ambiguous(uri.to_owned(), first, other)),
                }
            }
        }
    }

    /// Resolves a reference in a resource.
    pub(super) fn follow(&self, from: ResourceId, reference: &str) -> Result<Target<'d>, Lost> {
        let nowhere = || Lost::Document(reference.to_owned());
        let resource = self.resources.get(from).ok_or_else(nowhere)?;
        let (written, place) = uri::split(reference);
        let id = match written {
            "" => from,
            written => self.resource(resource.document, &uri::resolve(&resource.uri, written))?,
        };
        self.place(id, &place)
    }

    /// A place in a resource: its root, by a pointer, or by an anchor.
    fn place(&self, id: ResourceId, place: &str) -> Result<Target<'d>, Lost> {
        let lost = || Lost::Place(id, place.to_owned());
        let resource = self.resources.get(id).ok_or_else(lost)?;
        if place.is_empty() {
            return Ok(Target {
                schema: resource.schema,
                resource: id,
                pointer: resource.pointer.clone(),
                dynamic: None,
            });
        }
        if !place.starts_with('/') {
            let anchor = self.anchors.get(&(id, place)).ok_or_else(lost)?;
            let dynamic = anchor.dynamic.then(|| place.to_owned());
            return Ok(Target { schema: anchor.schema, resource: id, pointer: anchor.pointer.clone(), dynamic });
        }
        let (mut schema, mut inner) = (resource.schema, id);
        for step in place.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match schema {
                Value::Object(members) => members.get(&step),
                Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => None,
            };
            schema = next.ok_or_else(lost)?;
            inner = self.resource_at(schema).unwrap_or(inner);
        }
        let pointer = format!("{}{place}", resource.pointer);
        Ok(Target { schema, resource: inner, pointer, dynamic: None })
    }

    /// The place of a dynamic anchor of a resource.
    pub(super) fn dynamic(&self, resource: ResourceId, name: &str) -> Option<Target<'d>> {
        self.place(resource, name).ok().filter(|target| target.dynamic.is_some())
    }

    /// The dynamic anchors of a resource that evaluation passes.
    pub(super) fn dynamic_anchors(&self, resource: ResourceId) -> &[&'d str] {
        self.resources.get(resource).map(|resource| resource.dynamic.as_slice()).unwrap_or_default()
    }

    /// Whether a `$schema` names a draft, or a meta-schema that leads to one.
    pub(super) fn draft_of(&self, named: &str, around: ResourceId) -> Option<Draft> {
        metaschemas::draft(named).or_else(|| {
            let Resource { document, uri, .. } = self.resources.get(around)?;
            let (named, _) = uri::split(named);
            let found = self.resource(*document, &uri::resolve(uri, named)).ok()?;
            self.resources.get(found).map(|resource| resource.draft).filter(|draft| *draft != Draft::Unknown)
        })
    }
}
