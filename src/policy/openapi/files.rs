//! The files of a description: nodes, their places, and the targets of references.
//!
//! All files that any `$ref` names are read first, so that everything read from them can borrow from them. Files are
//! read from the policy's folder only (or from the description's folder, where the policy names a description
//! elsewhere, and from where `catalog` says), never over the network.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::reference::{self, Origin, Target, TargetFile};
use super::schema_file;
use crate::policy::catalog::{self, Catalog};
use crate::policy::diagnostic::Problems;
use crate::policy::json_file::JsonFile;
use crate::policy::source::{Place, SourceText, Sources, quote};
use crate::policy::yaml;
use crate::stages::schema::json::uri;

/// Most files of one description.
const MAX_FILES: usize = 1000;
/// Most bytes of all files of a description.
const MAX_BYTES: usize = 64 << 20;
/// Longest chain of references to references.
const MAX_HOPS: usize = 64;

/// All files of a description.
#[derive(Debug)]
pub(super) struct Files {
    files: Vec<File>,
    /// By path relative to the policy's folder; an error says why a file cannot be used.
    known: HashMap<String, Result<usize, String>>,
    /// By URI: the files of the schemas with this `$id`, and where each is.
    identified: HashMap<String, Vec<(usize, String)>>,
    catalog: Catalog,
    /// How many schemas have each dynamic anchor, counted when it is first needed.
    dynamic_anchors: OnceCell<HashMap<String, usize>>,
}

#[derive(Debug)]
struct File {
    /// Relative to the policy's folder.
    path: String,
    /// The folder that its references stay in. Empty: the policy's.
    folder: String,
    file: JsonFile,
    /// By JSON pointer: the URI of each schema with an `$id`.
    identifiers: BTreeMap<String, String>,
    /// Whether it is a JSON Schema of its own, which keeps to its own draft and resolves its references itself.
    is_schema: bool,
}

impl File {
    /// The innermost schema with an `$id` around a place: where it is, and its URI.
    fn resource(&self, mut place: &str) -> Option<(&str, &str)> {
        if self.identifiers.is_empty() {
            return None;
        }
        loop {
            if let Some((pointer, uri)) = self.identifiers.get_key_value(place) {
                return Some((pointer, uri));
            }
            place = place.rsplit_once('/')?.0;
        }
    }
}

/// One value in one of the files.
#[derive(Debug, Clone)]
pub(super) struct Node<'d> {
    pub(super) files: &'d Files,
    pub(super) file: usize,
    /// JSON pointer from the root of its file.
    pub(super) pointer: String,
    pub(super) value: &'d Value,
}

/// A position in a description; its place in the text is looked up when it is needed.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    pub(super) file: usize,
    pub(super) pointer: String,
}

impl Spot {
    pub(super) fn of(node: &Node<'_>) -> Self {
        Self { file: node.file, pointer: node.pointer.clone() }
    }
}

impl Files {
    /// Reads a description and every file it refers to. Reports it and returns `None` when it is not YAML or JSON.
    pub(super) fn read(
        sources: &mut Sources,
        catalog: &Catalog,
        source: &Arc<SourceText>,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        let root = JsonFile::read(source, yaml::OPENAPI, problems)?;
        let mut files = Self {
            files: Vec::new(),
            known: HashMap::new(),
            identified: HashMap::new(),
            catalog: catalog.clone(),
            dynamic_anchors: OnceCell::new(),
        };
        let mut bytes = source.text.len();
        // A description outside the policy's folder is named by the policy itself, so its folder is allowed.
        files.add(path.to_owned(), catalog::folder_of(path), root);
        let mut next = 0;
        while let Some(file) = files.files.get(next) {
            let own = file.folder.clone();
            for (path, folder) in named(file, catalog) {
                if files.known.contains_key(&path) {
                    continue;
                }
                let folder = folder.unwrap_or_else(|| own.clone());
                let room = files.files.len() < MAX_FILES && bytes < MAX_BYTES;
                let read = match room {
                    false => Err(format!("a description is at most {MAX_FILES} files, and {} MiB", MAX_BYTES >> 20)),
                    true => open(sources, &folder, &path, problems),
                };
                match read {
                    Ok(file) => {
                        bytes += file.source.text.len();
                        files.add(path, folder, file);
                    }
                    Err(problem) => {
                        files.known.insert(path, Err(problem));
                    }
                }
            }
            next += 1;
        }
        Some(files)
    }

    fn add(&mut self, path: String, folder: String, file: JsonFile) {
        self.known.insert(path.clone(), Ok(self.files.len()));
        let identifiers = reference::identifiers(&file.value, &path);
        for (pointer, uri) in &identifiers {
            self.identified.entry(uri.clone()).or_default().push((self.files.len(), pointer.clone()));
        }
        let is_schema = !self.files.is_empty() && schema_file::is_schema(&file.value);
        self.files.push(File { path, folder, file, identifiers, is_schema });
    }

    /// The files that are JSON Schemas of their own: the path of each, and the folder that its references stay in.
    pub(super) fn schemas(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter(|file| file.is_schema).map(|file| (&*file.path, &*file.folder))
    }

    /// The root of the description.
    pub(super) fn root(&self) -> Option<Node<'_>> {
        let value = &*self.files.first()?.file.value;
        Some(Node { files: self, file: 0, pointer: String::new(), value })
    }

    /// The target of a reference at a place in `file`. The error says why it cannot be resolved.
    fn follow(&self, file: usize, place: &str, reference: &str) -> Result<Node<'_>, String> {
        let failed = |why: &str| format!("the reference {} cannot be resolved: {why}", quote(reference));
        let from = self.files.get(file).ok_or_else(|| failed("its file is gone"))?;
        let resource = from.resource(place);
        let origin = Origin { path: &from.path, id: resource.map(|(_, uri)| uri) };
        let (written, _) = reference.split_once('#').unwrap_or((reference, ""));
        let Target { file: target, place } =
            reference::parse(origin, reference, &self.catalog).map_err(|why| failed(&why))?;
        let identified = match (resource, written) {
            // Many mean the root of the file, though the schema has an identifier.
            (Some((root, _)), "") => self.node(file, root, &place),
            (Some((_, base)), written) => self.identified(file, &uri::resolve(base, written), &place, &failed)?,
            (None, _) => None,
        };
        if let Some(node) = identified {
            return Ok(node);
        }
        let known = |path: &str| self.known.get(path).cloned();
        let file = match target {
            TargetFile::Same => file,
            TargetFile::At(path, _) => match known(&path) {
                Some(Ok(file)) => file,
                Some(Err(why)) => return Err(failed(&why)),
                None => return Err(failed("this file was not read")),
            },
            TargetFile::Known(url, beside) => match beside.and_then(|path| known(&path)) {
                _ if self.identified.contains_key(&url) => {
                    let found = self.identified(file, &url, &place, &failed)?;
                    return found.ok_or_else(|| failed("there is nothing there"));
                }
                Some(Ok(file)) => file,
                _ => return Err(failed(&format!("it is a URL; say where it is: {}", uri::catalog(&url)))),
            },
        };
        self.node(file, "", &place).ok_or_else(|| failed("there is nothing there"))
    }

    /// A place in the schema with this `$id`: the one in the file itself, or the only one in any.
    fn identified(
        &self,
        from: usize,
        uri: &str,
        place: &str,
        failed: &impl Fn(&str) -> String,
    ) -> Result<Option<Node<'_>>, String> {
        let all = self.identified.get(uri).map(Vec::as_slice).unwrap_or_default();
        let own = all.iter().any(|(file, _)| *file == from);
        let mut meant = all.iter().filter(|(file, _)| !own || *file == from);
        let Some((file, root)) = meant.next() else { return Ok(None) };
        let value = |file: usize, root: &str| self.files.get(file)?.file.value.pointer(root);
        // Equal copies of one schema are one.
        if meant.any(|(other, below)| value(*other, below) != value(*file, root)) {
            return Err(failed(&format!("several schemas have the `$id` {uri}")));
        }
        Ok(self.node(*file, root, place))
    }

    /// A place, as a pointer or an anchor, in what is at `root` in a file.
    fn node(&self, file: usize, root: &str, place: &str) -> Option<Node<'_>> {
        let whole = self.files.get(file)?.file.value.pointer(root)?;
        let pointed = place.is_empty() || place.starts_with('/');
        let below = if pointed { place.to_owned() } else { reference::anchor(whole, place)? };
        let value = whole.pointer(&below)?;
        Some(Node { files: self, file, pointer: format!("{root}{below}"), value })
    }

    /// How many schemas in all files have this dynamic anchor.
    fn dynamic_anchors(&self, name: &str) -> usize {
        let count = || {
            let mut counts = HashMap::new();
            let mut left: Vec<&Value> = self.files.iter().map(|file| &*file.file.value).collect();
            while let Some(value) = left.pop() {
                match value {
                    Value::Object(members) => {
                        if let Some(Value::String(name)) = members.get("$dynamicAnchor") {
                            *counts.entry(name.clone()).or_insert(0) += 1;
                        }
                        left.extend(members.values());
                    }
                    Value::Array(items) => left.extend(items),
                    _ => {}
                }
            }
            counts
        };
        self.dynamic_anchors.get_or_init(count).get(name).copied().unwrap_or_default()
    }

    /// The place of a node or of its key; where it does not exist, of its nearest ancestor.
    pub(super) fn place(&self, file: usize, pointer: &str, key: bool) -> Place {
        let Some(file) = self.files.get(file).or(self.files.first()) else {
            return Place::new(&Arc::new(SourceText::new(String::new(), String::new(), 0)), 0..0);
        };
        file.file.place(pointer, key)
    }
}

fn open(sources: &mut Sources, folder: &str, path: &str, problems: &mut Problems) -> Result<JsonFile, String> {
    let outside = || format!("{} is outside the folder that files are read from", quote(path));
    if !catalog::is_below(folder, path) {
        return Err(outside());
    }
    // Read before links are looked at, so that a file that appears later counts as a change.
    let source = sources.read(path).map_err(|error| error.to_string())?;
    if !sources.is_within(folder, path) {
        return Err(outside());
    }
    let read = JsonFile::read(&source, yaml::OPENAPI, problems);
    read.ok_or_else(|| format!("{} cannot be read", quote(&source.name)))
}

/// The paths of all files named by references in a file, and the folders that they may be in. References in examples are
/// included, though they mean nothing.
fn named(file: &File, catalog: &Catalog) -> Vec<(String, Option<String>)> {
    let mut paths = Vec::new();
    // Where values are matters only among identifiers.
    let plain = file.identifiers.is_empty();
    let below = |above: &str, step: &str| if plain { String::new() } else { format!("{above}/{}", escape(step)) };
    let mut left = vec![(String::new(), &*file.file.value)];
    while let Some((pointer, value)) = left.pop() {
        match value {
            Value::Object(members) => {
                let references = ["$ref", "$dynamicRef"].into_iter().filter_map(|key| members.get(key)?.as_str());
                for reference in references {
                    let origin = Origin { path: &file.path, id: file.resource(&pointer).map(|(_, uri)| uri) };
                    match reference::parse(origin, reference, catalog) {
                        Ok(Target { file: TargetFile::At(path, folder), .. }) => paths.push((path, folder)),
                        Ok(Target { file: TargetFile::Known(_, Some(path)), .. }) => paths.push((path, None)),
                        _ => {}
                    }
                }
                let nested = members.iter().filter(|(_, value)| value.is_object() || value.is_array());
                left.extend(nested.map(|(key, value)| (below(&pointer, key), value)));
            }
            Value::Array(items) => {
                left.extend(
                    items.iter().enumerate().map(|(index, value)| (below(&pointer, &index.to_string()), value)),
                );
            }
            _ => {}
        }
    }
    paths
}

impl<'d> Node<'d> {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.as_object()?.get(key)?;
        Some(Self { pointer: format!("{}/{}", self.pointer, escape(key)), value, ..*self })
    }

    /// Keys and values of a map; empty for other values.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'d str, Self)> + use<'d> {
        let Self { files, file, .. } = *self;
        let above = self.pointer.clone();
        self.value.as_object().into_iter().flatten().map(move |(key, value)| {
            (key.as_str(), Self { files, file, pointer: format!("{above}/{}", escape(key)), value })
        })
    }

    /// Items of a list; empty for other values.
    pub(super) fn items(&self) -> impl Iterator<Item = Self> + use<'d> {
        let Self { files, file, .. } = *self;
        let above = self.pointer.clone();
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(move |(index, value)| Self { files, file, pointer: format!("{above}/{index}"), value })
    }

    /// The value of a key, if it is text.
    pub(super) fn text(&self, key: &str) -> Option<&'d str> {
        self.value.get(key)?.as_str()
    }

    /// Whether the value of a key is `true`.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.value.get(key) == Some(&Value::Bool(true))
    }

    /// The value of `$ref`.
    pub(super) fn reference(&self) -> Option<&'d str> {
        self.text("$ref")
    }

    /// The URI of a part of a file that is a JSON Schema of its own.
    pub(super) fn in_schema_file(&self) -> Option<String> {
        let file = self.files.files.get(self.file).filter(|file| file.is_schema)?;
        Some(uri::of_place(&file.path, &self.pointer))
    }

    /// Follows a reference by one step.
    pub(super) fn follow(&self, reference: &str) -> Result<Self, String> {
        self.files.follow(self.file, &self.pointer, reference)
    }

    /// Follows a dynamic reference by one step; `None` if it depends on the way to it where it leads.
    pub(super) fn follow_dynamic(&self, reference: &str) -> Result<Option<Self>, String> {
        let target = self.follow(reference)?;
        let anchor = target.text("$dynamicAnchor").filter(|name| reference.ends_with(&format!("#{name}")));
        let several = anchor.is_some_and(|name| self.files.dynamic_anchors(name) > 1);
        Ok((!several).then_some(target))
    }

    /// Follows references to the end. The error says why one cannot be resolved.
    pub(super) fn resolved(&self) -> Result<Self, String> {
        let mut node = self.clone();
        for _ in 0..MAX_HOPS {
            let Some(reference) = node.reference() else { return Ok(node) };
            node = node.follow(reference)?;
        }
        Err("this reference refers back to itself".to_owned())
    }

    /// Whether two nodes are at the same place.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.file == other.file && self.pointer == other.pointer
    }
}

fn escape(key: &str) -> std::borrow::Cow<'_, str> {
    if key.contains(['~', '/']) { key.replace('~', "~0").replace('/', "~1").into() } else { key.into() }
}
