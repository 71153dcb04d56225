//! The files of a description: nodes, their places, and the targets of references.
//!
//! All files that any `$ref` names are read first, so that everything read from them can borrow from them. Files are
//! read from the policy's folder only (or from the description's folder, where the policy names a description
//! elsewhere), never over the network.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::reference::{self, Target};
use super::{place, value};
use crate::policy::diagnostic::Problems;
use crate::policy::source::{Place, SourceText, Sources, quote};
use crate::policy::tree::Tree;
use crate::policy::yaml;

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
}

#[derive(Debug)]
struct File {
    /// Relative to the policy's folder.
    path: String,
    source: Arc<SourceText>,
    value: Value,
    /// For places in YAML.
    tree: OnceCell<Option<Tree>>,
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
        source: Arc<SourceText>,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        let (root, tree) = value::read(&source, problems)?;
        // A description outside the policy's folder is named by the policy itself, so its folder is allowed.
        let outside = path.starts_with('/') || path.split('/').any(|segment| segment == "..");
        let folder = if outside { path.rsplit_once('/').map_or("", |(folder, _)| folder) } else { "" };
        let mut files = Self { files: Vec::new(), known: HashMap::new() };
        let mut bytes = source.text.len();
        files.add(path.to_owned(), source, root, tree);
        let mut next = 0;
        while let Some(file) = files.files.get(next) {
            for path in named(file) {
                if files.known.contains_key(&path) {
                    continue;
                }
                let room = files.files.len() < MAX_FILES && bytes < MAX_BYTES;
                let read = match room {
                    false => Err(format!("a description is at most {MAX_FILES} files, and {} MiB", MAX_BYTES >> 20)),
                    true => open(sources, folder, &path, problems),
                };
                match read {
                    Ok((source, value, tree)) => {
                        bytes += source.text.len();
                        files.add(path, source, value, tree);
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

    fn add(&mut self, path: String, source: Arc<SourceText>, value: Value, tree: Option<Tree>) {
        let cell = OnceCell::new();
        if let Some(tree) = tree {
            let _ = cell.set(Some(tree));
        }
        self.known.insert(path.clone(), Ok(self.files.len()));
        self.files.push(File { path, source, value, tree: cell });
    }

    /// The root of the description.
    pub(super) fn root(&self) -> Option<Node<'_>> {
        let value = &self.files.first()?.value;
        Some(Node { files: self, file: 0, pointer: String::new(), value })
    }

    /// The target of a reference in `file`. The error says why it cannot be resolved.
    fn follow(&self, file: usize, reference: &str) -> Result<Node<'_>, String> {
        let failed = |why: &str| format!("the reference {} cannot be resolved: {why}", quote(reference));
        let from = self.files.get(file).ok_or_else(|| failed("its file is gone"))?;
        let Target { path, pointer } = reference::parse(&from.path, reference).map_err(|why| failed(&why))?;
        let file = match path {
            None => file,
            Some(path) => match self.known.get(&path) {
                Some(Ok(file)) => *file,
                Some(Err(why)) => return Err(failed(why)),
                None => return Err(failed("this file was not read")),
            },
        };
        let root = self.files.get(file).map(|file| &file.value);
        let value = root.and_then(|root| root.pointer(&pointer)).ok_or_else(|| failed("there is nothing there"))?;
        Ok(Node { files: self, file, pointer, value })
    }

    /// The place of a node or of its key; where it does not exist, of its nearest ancestor.
    pub(super) fn place(&self, file: usize, pointer: &str, key: bool) -> Place {
        let Some(file) = self.files.get(file).or(self.files.first()) else {
            return Place::new(&Arc::new(SourceText::new(String::new(), String::new(), 0)), 0..0);
        };
        let json = file.source.text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
        if json && let Some((key_range, value_range)) = place::find(&file.source.text, pointer) {
            return Place::new(&file.source, if key { key_range } else { value_range });
        }
        let parse = || yaml::parse_as(yaml::OPENAPI, &file.source, &mut Problems::new());
        let Some(tree) = file.tree.get_or_init(parse) else { return Place::new(&file.source, 0..1) };
        let at = tree.at().pointer(pointer);
        if key { at.key_place() } else { at.place() }
    }
}

fn open(
    sources: &mut Sources,
    folder: &str,
    path: &str,
    problems: &mut Problems,
) -> Result<(Arc<SourceText>, Value, Option<Tree>), String> {
    let below = match folder {
        "" => !path.starts_with('/') && !path.starts_with(".."),
        folder => path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')),
    };
    let outside = || format!("{} is outside the folder that files are read from", quote(path));
    if !below {
        return Err(outside());
    }
    // Read before links are looked at, so that a file that appears later counts as a change.
    let source = sources.read(path).map_err(|error| error.to_string())?;
    if !sources.is_within(folder, path) {
        return Err(outside());
    }
    let read = value::read(&source, problems).ok_or_else(|| format!("{} cannot be read", quote(&source.name)));
    read.map(|(value, tree)| (source, value, tree))
}

/// The paths of all files named by references in a file. References in examples are included, though they mean nothing.
fn named(file: &File) -> Vec<String> {
    let mut paths = Vec::new();
    let mut left = vec![&file.value];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref")
                    && let Ok(Target { path: Some(path), .. }) = reference::parse(&file.path, reference)
                {
                    paths.push(path);
                }
                left.extend(members.values());
            }
            Value::Array(items) => left.extend(items),
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

    /// Follows a reference by one step.
    pub(super) fn follow(&self, reference: &str) -> Result<Self, String> {
        self.files.follow(self.file, reference)
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
