//! A document with what it refers to in one value, for those that read what a schema says of types: parameters and fields
//! are decoded by it.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::documents::{DocumentId, Documents};
use super::index::{Index, ResourceId};

/// Most values that are copied from other documents. Types are sought a few references deep only.
const MOST: usize = 100_000;
/// Where they are kept.
const PLACE: &str = "$files";

/// The values of some documents, in which every reference is a JSON pointer from the root.
pub(crate) fn bundles(documents: &Documents, wanted: &[DocumentId]) -> Vec<Value> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let index = Index::new(documents);
    let one = |id: &DocumentId| {
        let root = index.root(*id).and_then(|resource| Some((resource, index.resources.get(resource)?.schema)));
        let Some((resource, schema)) = root else { return Value::Null };
        let mut bundle = Bundle { index: &index, own: *id, names: HashMap::new(), waiting: Vec::new(), left: MOST };
        bundle.whole(schema, resource)
    };
    wanted.iter().map(one).collect()
}

struct Bundle<'i, 'd> {
    index: &'i Index<'d>,
    own: DocumentId,
    /// By address: the position of a copy.
    names: HashMap<usize, usize>,
    /// In the order of their positions.
    waiting: Vec<(&'d Value, ResourceId)>,
    left: usize,
}

impl<'d> Bundle<'_, 'd> {
    fn whole(&mut self, root: &'d Value, resource: ResourceId) -> Value {
        let mut root = self.copy(root, resource);
        let mut files = Vec::new();
        while let Some((schema, resource)) = self.waiting.get(files.len()).copied() {
            let mut values = vec![schema];
            while let Some(value) = values.pop() {
                self.left = self.left.saturating_sub(1);
                match value {
                    Value::Object(members) => values.extend(members.values()),
                    Value::Array(items) => values.extend(items),
                    _ => {}
                }
            }
            if self.left == 0 {
                break;
            }
            let copy = self.copy(schema, resource);
            files.push(copy);
        }
        if let Value::Object(members) = &mut root
            && !files.is_empty()
        {
            members.insert(PLACE.to_owned(), Value::Array(files));
        }
        root
    }

    fn copy(&mut self, value: &'d Value, around: ResourceId) -> Value {
        match value {
            Value::Object(members) => {
                let resource = self.index.resource_at(value).unwrap_or(around);
                let mut copy = Map::new();
                for (key, value) in members {
                    let reference = value.as_str().filter(|_| key == "$ref" || key == "$dynamicRef");
                    match reference.and_then(|reference| self.pointer(resource, reference)) {
                        Some(pointer) => copy.insert("$ref".to_owned(), pointer.into()),
                        None => copy.insert(key.clone(), self.copy(value, resource)),
                    };
                }
                Value::Object(copy)
            }
            Value::Array(items) => items.iter().map(|item| self.copy(item, around)).collect(),
            scalar => scalar.clone(),
        }
    }

    /// Where the target of a reference is in the bundle.
    fn pointer(&mut self, from: ResourceId, reference: &str) -> Option<String> {
        let target = self.index.follow(from, reference).ok()?;
        if self.index.resources.get(target.resource)?.document == self.own {
            return Some(format!("#{}", target.pointer));
        }
        let next = self.waiting.len();
        let position = *self.names.entry(std::ptr::from_ref(target.schema) as usize).or_insert(next);
        if position == next {
            self.waiting.push((target.schema, target.resource));
        }
        Some(format!("#/{PLACE}/{position}"))
    }
}
