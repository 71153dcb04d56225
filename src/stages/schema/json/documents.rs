//! The documents that schemas are made of: files, and the meta-schemas that are built in.
//!
//! They are resources of one whole. The reader of files adds each once, and says which document a reference leads to where
//! identifiers do not ([`Documents::locate`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jsonschema::Draft;
use serde_json::Value;

use super::metaschemas;
use super::scan::{self, Scan};
use super::uri;

/// The position of a document.
pub(crate) type DocumentId = usize;

/// One document.
#[derive(Debug)]
pub(crate) struct Document {
    /// How messages call it: the path of its file, or the URI of a meta-schema.
    pub(super) name: Arc<str>,
    /// Identifies it where it has no `$id`.
    pub(super) uri: String,
    pub(super) value: Arc<Value>,
    /// Of its root.
    pub(super) draft: Draft,
}

/// All documents.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    pub(super) all: Vec<Document>,
    /// By the document that refers to it, and the URI: where it is.
    pub(super) located: HashMap<(DocumentId, String), DocumentId>,
    /// The same: why it cannot be had.
    pub(super) refused: HashMap<(DocumentId, String), String>,
}

/// What a document is called, and what it refers to.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// Of its root; `Unknown` if it names a meta-schema that is not built in.
    pub(crate) draft: Draft,
    /// The URIs of its resources.
    pub(crate) identifiers: Vec<String>,
    /// What its references lead to that is not in it, each once. Its `$schema` is one of them.
    pub(crate) wanted: Vec<Wanted>,
}

/// A resource that a document refers to and does not have.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// As it is written, without its fragment.
    pub(crate) written: String,
    /// What it identifies.
    pub(crate) uri: String,
    /// The URI of the document that has the reference, which relates URIs to files.
    pub(crate) base: String,
}

impl Wanted {
    /// The path, if the URI is one of a file.
    pub(crate) fn file(&self) -> Option<String> {
        uri::file_of(&self.uri)
    }

    /// How its place relates to that of the document which refers to it: a path, such as `../common/b.json`.
    pub(crate) fn beside(&self) -> Vec<String> {
        let written = self.written.replace('\\', "/");
        let as_written = (!uri::has_scheme(&written) && !written.starts_with('/')).then(|| uri::resolve("", &written));
        let mut paths: Vec<String> = as_written.into_iter().chain(uri::relative(&self.base, &self.uri)).collect();
        paths.dedup();
        paths
    }
}

impl Documents {
    /// Adds a document that was read from the file at `path`. Without `$schema`, it is in `draft`.
    pub(crate) fn add(&mut self, path: &str, value: Arc<Value>, draft: Draft) -> DocumentId {
        self.insert(path.into(), uri::of_file(path), value, draft)
    }

    /// Adds a meta-schema that is built in, if there is one of this URI.
    pub(crate) fn add_built_in(&mut self, uri: &str) -> Option<DocumentId> {
        let value = metaschemas::find(uri)?;
        Some(self.insert(uri.into(), uri.to_owned(), value, Draft::default()))
    }

    /// Adds the meta-schemas that the documents refer to, for schemas that are in no file.
    pub(super) fn add_all_built_in(&mut self) {
        let mut known: HashMap<String, DocumentId> = HashMap::new();
        let mut next = 0;
        while next < self.all.len() {
            for Wanted { uri, .. } in self.outline(next).wanted {
                if self.located.contains_key(&(next, uri.clone())) {
                    continue;
                }
                if let Some(id) = known.get(&uri).copied().or_else(|| self.add_built_in(&uri)) {
                    self.locate(next, &uri, id);
                    known.insert(uri, id);
                }
            }
            next += 1;
        }
    }

    fn insert(&mut self, name: Arc<str>, uri: String, value: Arc<Value>, draft: Draft) -> DocumentId {
        let named = value.get("$schema").and_then(Value::as_str);
        // A meta-schema of one's own is found among the documents, once all are known.
        let draft = named.map_or(draft, |named| metaschemas::draft(named).unwrap_or(Draft::Unknown));
        self.all.push(Document { name, uri, value, draft });
        self.all.len() - 1
    }

    /// What a document is called, and what it refers to.
    pub(crate) fn outline(&self, id: DocumentId) -> Outline {
        let Some(document) = self.all.get(id) else { return Outline::default() };
        let Scan { resources, references, .. } = scan::scan(&document.value, document.draft, &document.uri);
        let base = resources.first().map_or_else(|| document.uri.clone(), |root| root.uri.clone());
        let own: HashSet<&str> = resources.iter().map(|resource| resource.uri.as_str()).collect();
        let mut wanted = BTreeMap::new();
        for (from, reference) in references {
            let (written, _) = uri::split(reference);
            let Some(resource) = resources.get(from).filter(|_| !written.is_empty()) else { continue };
            let uri = uri::resolve(&resource.uri, written);
            if !own.contains(uri.as_str()) {
                wanted.entry(uri).or_insert_with(|| written.to_owned());
            }
        }
        let one = |(uri, written)| Wanted { written, uri, base: base.clone() };
        let wanted = wanted.into_iter().map(one).collect();
        // A file is known by its place, too.
        let place = Some(&document.uri).filter(|uri| !own.contains(uri.as_str())).cloned();
        let identifiers = own.into_iter().map(str::to_owned).chain(place).collect();
        Outline { draft: document.draft, identifiers, wanted }
    }

    /// Says which document a reference to this URI leads to, unless another one has this identifier.
    pub(crate) fn locate(&mut self, from: DocumentId, uri: &str, target: DocumentId) {
        self.located.insert((from, uri.to_owned()), target);
    }

    /// Says why what a reference to this URI leads to cannot be had, for the message if it is needed.
    pub(crate) fn refuse(&mut self, from: DocumentId, uri: &str, why: &str) {
        self.refused.insert((from, uri.to_owned()), why.to_owned());
    }

    /// What is written in a document.
    pub(crate) fn value(&self, id: DocumentId) -> Option<&Arc<Value>> {
        self.all.get(id).map(|document| &document.value)
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.all.iter().map(|document| Arc::clone(&document.name)).collect()
    }

    pub(super) fn name(&self, id: DocumentId) -> Arc<str> {
        self.all.get(id).map_or_else(|| "".into(), |document| Arc::clone(&document.name))
    }
}
