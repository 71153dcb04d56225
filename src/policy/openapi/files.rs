//! The files of a description: nodes, their places, and the targets of references.
//!
//! All files that any `$ref` names are read first, so that everything read from them can borrow from them. Files are
//! read from the policy's folder only (or from the description's folder, where the policy names a description
//! elsewhere, and from where `catalog` says), never over the network.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::reference::{self, Anchor, Names, Origin, Target, TargetFile};
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
}

#[derive(Debug)]
struct File {
    /// Relative to the policy's folder.
    path: String,
    /// The folder that its references stay in. Empty: the policy's.
    folder: String,
    file: JsonFile,
    names: Names,
    /// Whether it is a JSON Schema of its own, which keeps to its own draft and resolves its references itself.
    is_schema: bool,
}

impl File {
    /// The innermost schema with an `$id` around a place: where it is, and its URI.
    fn resource(&self, mut place: &str) -> Option<(&str, &str)> {
        if self.names.identifiers.is_empty() {
            return None;
        }
        loop {
            if let Some((pointer, uri)) = self.names.identifiers.get_key_value(place) {
                return Some((pointer, uri));
            }
            place = place.rsplit_once('/')?.0;
        }
    }

    /// The anchors of the innermost schema with an `$id` around a place, or of the file.
    fn anchors(&self, place: &str) -> (&str, &[Anchor]) {
        let root = self.resource(place).map_or("", |(root, _)| root);
        (root, self.names.anchors.get(root).map(Vec::as_slice).unwrap_or_default())
    }
}

/// A schema that identifies itself, or a file: which file, and where in it.
pub(super) type Resource = (usize, String);

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
        let mut files =
            Self { files: Vec::new(), known: HashMap::new(), identified: HashMap::new(), catalog: catalog.clone() };
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
        let names = reference::names(&file.value, &path);
        for (pointer, uri) in &names.identifiers {
            self.identified.entry(uri.clone()).or_default().push((self.files.len(), pointer.clone()));
        }
        let is_schema = !self.files.is_empty() && schema_file::is_schema(&file.value);
        self.files.push(File { path, folder, file, names, is_schema });
    }

    /// The files that are JSON Schemas of their own: the path of each, and the folder that its references stay in.
    pub(super) fn schemas(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter(|file| file.is_schema).map(|file| (&*file.path, &*file.folder))
    }

    /// All values of all files that are as asked for.
    pub(super) fn find(&self, is_meant: impl Fn(&Value) -> bool) -> Vec<Node<'_>> {
        let mut found = Vec::new();
        for (file, File { file: json, .. }) in self.files.iter().enumerate() {
            // Most files have none, and pointers are what takes time.
            let mut left = vec![&*json.value];
            let has = loop {
                let Some(value) = left.pop() else { break false };
                if is_meant(value) {
                    break true;
                }
                left.extend(value.as_object().into_iter().flat_map(|members| members.values()));
                left.extend(value.as_array().into_iter().flatten());
            };
            let root = Node { files: self, file, pointer: String::new(), value: &json.value };
            let mut left = if has { vec![root] } else { Vec::new() };
            while let Some(node) = left.pop() {
                left.extend(node.entries().map(|(_, member)| member));
                left.extend(node.items());
                found.extend(is_meant(node.value).then_some(node));
            }
        }
        found
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
            (Some((root, _)), "") => self.node(file, root, &place).map_err(|why| failed(&why))?,
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
        let node = self.node(file, "", &place).map_err(|why| failed(&why))?;
        node.ok_or_else(|| failed("there is nothing there"))
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
        self.node(*file, root, place).map_err(|why| failed(&why))
    }

    /// A place, as a pointer or an anchor, in the resource at `root` in a file.
    fn node(&self, file: usize, root: &str, place: &str) -> Result<Option<Node<'_>>, String> {
        let Some(from) = self.files.get(file) else { return Ok(None) };
        let pointer = if place.is_empty() || place.starts_with('/') {
            format!("{root}{place}")
        } else {
            let mut named = from.anchors(root).1.iter().filter(|anchor| anchor.name == place);
            match (named.next(), named.next()) {
                (Some(anchor), None) => anchor.pointer.clone(),
                (Some(_), Some(_)) => return Err(format!("several schemas have the anchor `{place}`")),
                (None, _) => return Ok(None),
            }
        };
        let value = from.file.value.pointer(&pointer);
        Ok(value.map(|value| Node { files: self, file, pointer, value }))
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
    let plain = file.names.identifiers.is_empty();
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

    /// The URI of a schema that the program makes a resource of.
    pub(super) fn made_uri(&self) -> String {
        let path = self.files.files.get(self.file).map_or("", |file| &file.path);
        uri::of_file(&format!("{path}#{}", self.pointer))
    }

    /// What is at a pointer below.
    pub(super) fn at(&self, pointer: &str) -> Option<Self> {
        let value = self.value.pointer(pointer)?;
        Some(Self { pointer: format!("{}{pointer}", self.pointer), value, ..*self })
    }

    /// Follows a reference by one step.
    pub(super) fn follow(&self, reference: &str) -> Result<Self, String> {
        self.files.follow(self.file, &self.pointer, reference)
    }

    /// Where a dynamic reference leads, by its own text, and the name of the dynamic anchor that it uses.
    pub(super) fn follow_dynamic(&self, reference: &str) -> Result<(Self, Option<&'d str>), String> {
        let target = self.follow(reference)?;
        let anchor = target.text("$dynamicAnchor").filter(|name| reference.ends_with(&format!("#{name}")));
        Ok((target, anchor))
    }

    /// The dynamic anchor of this name in a resource.
    pub(super) fn dynamic_anchor(&self, (file, root): &Resource, name: &str) -> Result<Option<Self>, String> {
        self.files.node(*file, root, name)
    }

    /// The names of the dynamic anchors in its resource.
    pub(super) fn dynamic_anchors(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        let anchors = self.files.files.get(self.file).map(|file| file.anchors(&self.pointer).1);
        let anchors = anchors.unwrap_or_default().iter();
        anchors.filter(|anchor| anchor.dynamic).map(|anchor| anchor.name.as_str())
    }

    /// Its resource, if that has dynamic anchors.
    pub(super) fn resource_with_dynamic_anchors(&self) -> Option<Resource> {
        self.dynamic_anchors().next()?;
        let (root, _) = self.files.files.get(self.file)?.anchors(&self.pointer);
        Some((self.file, root.to_owned()))
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
