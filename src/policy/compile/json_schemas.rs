//! Reads JSON Schema files, and the files that they refer to, each once.
//!
//! A reference names a resource. It is one of the documents that were read, by its `$id`; or what `catalog` says; or a
//! meta-schema that is built in; or the file beside the one that refers to it. Nothing is fetched, and references stay in the
//! policy's folder, or in the folder of a file outside that the policy names.
//!
//! A schema takes five times as much memory as its text, so of large policies only what is compiled together is held at
//! once ([`json_groups`]).

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::Draft;

use super::context::Context;
use super::json_groups::{self, Linked};
use crate::policy::catalog::{self, Catalog, Located};
use crate::policy::diagnostic::{Problems, Severity};
use crate::policy::json_file::JsonFile;
use crate::policy::source::{ReadErrorKind, SourceText, quote};
use crate::policy::tree::At;
use crate::policy::yaml;
use crate::stages::schema::json::lint::{Lint, Lints};
use crate::stages::schema::json::{DocumentId, Documents, Outline, SchemaProblem, Wanted};

/// Most files of one policy.
const MAX_FILES: usize = 10_000;
/// Most bytes of all of them.
const MAX_BYTES: usize = 256 << 20;
/// Most bytes of files whose values are kept until they are compiled; the other files are parsed again then.
const MAX_KEPT: usize = 16 << 20;

/// The position of a file or a meta-schema in the order of reading.
pub(super) type EntryId = usize;

/// Reads files, and follows their references.
pub(super) struct Loader<'l, 'a> {
    context: &'l mut Context<'a>,
    catalog: &'l Catalog,
    read: Read,
    /// By path, or by the URI of a meta-schema; an error says why a file cannot be used.
    known: HashMap<String, Result<EntryId, Unread>>,
    /// References that have not been followed yet, in the order of reading.
    waiting: Vec<(EntryId, Vec<Wanted>)>,
    files: usize,
    bytes: usize,
    kept: usize,
}

/// What was read, and how it hangs together.
#[derive(Default)]
pub(super) struct Read {
    entries: Vec<Entry>,
    linked: Vec<Linked>,
}

struct Entry {
    origin: Origin,
    /// The draft that it is in without `$schema`.
    default: Draft,
    /// The draft that it is in.
    draft: Draft,
    /// By URI: why what it refers to cannot be read.
    refused: Vec<(String, String)>,
}

enum Origin {
    File(File),
    /// A meta-schema, by its URI.
    BuiltIn(String),
}

struct File {
    source: Arc<SourceText>,
    /// The folder that its references stay in. Empty: the policy's.
    folder: String,
    path: String,
    /// What is in it, until it is compiled.
    kept: Option<Box<JsonFile>>,
}

/// Documents that are compiled together.
pub(super) struct Group {
    pub(super) documents: Documents,
    /// By the position in the order of reading.
    pub(super) ids: HashMap<EntryId, DocumentId>,
    /// By path.
    files: HashMap<String, JsonFile>,
}

/// Why a file cannot be used.
#[derive(Clone)]
enum Unread {
    Absent,
    Other(String),
}

impl<'l, 'a> Loader<'l, 'a> {
    pub(super) fn new(context: &'l mut Context<'a>, catalog: &'l Catalog) -> Self {
        let (known, waiting) = (HashMap::new(), Vec::new());
        Self { context, catalog, read: Read::default(), known, waiting, files: 0, bytes: 0, kept: 0 }
    }

    /// Reads a file that the policy names; reports problems where it does.
    pub(super) fn named(&mut self, path: &str, at: At<'_>) -> Option<EntryId> {
        self.context.read(at, path)?;
        let located = Located { path: catalog::plain(path), folder: catalog::folder_of(path) };
        match self.file(&located, Draft::default(), true) {
            Ok(id) => Some(id),
            Err(Unread::Other(why)) if !self.context.problems.has_errors() => {
                self.context.error(at, why);
                None
            }
            Err(_) => None,
        }
    }

    /// Reads a file that a description refers to, whose references stay in `folder`.
    pub(super) fn referred(&mut self, path: &str, folder: &str) {
        let located = Located { path: path.to_owned(), folder: folder.to_owned() };
        // The description has reported what is wrong with it as a file.
        drop(self.file(&located, Draft::default(), false));
    }

    /// Follows all references.
    pub(super) fn finish(mut self) -> Read {
        // In the order in which the policy names them, so that the draft of a file without `$schema` does not depend on
        // anything else.
        let mut next = 0;
        while let Some((id, wanted)) = self.waiting.get_mut(next).map(|(id, wanted)| (*id, std::mem::take(wanted))) {
            next += 1;
            for wanted in wanted {
                let target = self.follow(id, &wanted);
                if let Some(linked) = self.read.linked.get_mut(id) {
                    linked.references.push((wanted.uri, target));
                }
            }
        }
        self.read
    }

    fn follow(&mut self, from: EntryId, wanted: &Wanted) -> Option<EntryId> {
        let draft = self.read.entries.get(from)?.draft;
        let mut why = None;
        for located in self.candidates(from, wanted) {
            match self.file(&located, draft, false) {
                Ok(id) => return Some(id),
                Err(Unread::Absent) => {}
                Err(Unread::Other(problem)) => why = why.or(Some(problem)),
            }
        }
        if let Some(id) = self.built_in(&wanted.uri) {
            return Some(id);
        }
        if let (None, Some(located)) = (&why, self.catalog.locate(&wanted.uri)) {
            why = Some(format!("`catalog` leads to {}, and there is no such file", quote(&located.path)));
        }
        if let Some((entry, why)) = self.read.entries.get_mut(from).zip(why) {
            entry.refused.push((wanted.uri.clone(), why));
        }
        None
    }

    /// Where a reference may lead, best first.
    fn candidates(&self, from: EntryId, wanted: &Wanted) -> Vec<Located> {
        let mut found: Vec<Located> = self.catalog.locate(&wanted.uri).into_iter().collect();
        if let Some(Origin::File(File { folder, path, .. })) = self.read.entries.get(from).map(|entry| &entry.origin) {
            let own = |path: String| Located { path, folder: folder.clone() };
            let above = path.rsplit_once('/').map_or(String::new(), |(above, _)| format!("{above}/"));
            match wanted.file() {
                Some(path) => found.push(own(path)),
                None => found.extend(wanted.beside().into_iter().map(|beside| own(format!("{above}{beside}")))),
            }
        }
        let mut all = Vec::new();
        for Located { path, folder } in found {
            let path = catalog::plain(&path);
            let bare = path.rsplit('/').next().is_some_and(|name| !name.contains('.'));
            let endings: &[&str] = if bare { &["", ".json", ".schema.json"] } else { &[""] };
            all.extend(
                endings.iter().map(|ending| Located { path: format!("{path}{ending}"), folder: folder.clone() }),
            );
        }
        all
    }

    fn built_in(&mut self, uri: &str) -> Option<EntryId> {
        if let Some(known) = self.known.get(uri) {
            return known.as_ref().ok().copied();
        }
        let mut documents = Documents::default();
        let document = documents.add_built_in(uri)?;
        let id = self.add(Origin::BuiltIn(uri.to_owned()), Draft::default(), documents.outline(document));
        self.known.insert(uri.to_owned(), Ok(id));
        Some(id)
    }

    fn add(&mut self, origin: Origin, default: Draft, outline: Outline) -> EntryId {
        let Outline { draft, identifiers, wanted } = outline;
        let id = self.read.entries.len();
        let built_in = matches!(origin, Origin::BuiltIn(_));
        self.read.linked.push(Linked { identifiers, references: Vec::new(), built_in });
        self.read.entries.push(Entry { origin, default, draft, refused: Vec::new() });
        self.waiting.push((id, wanted));
        id
    }

    fn file(&mut self, located: &Located, default: Draft, named: bool) -> Result<EntryId, Unread> {
        if let Some(known) = self.known.get(&located.path) {
            return known.clone();
        }
        let read = self.read(located, default, named);
        self.known.insert(located.path.clone(), read.clone());
        read
    }

    fn read(&mut self, located: &Located, default: Draft, named: bool) -> Result<EntryId, Unread> {
        let Located { path, folder } = located;
        let outside = || Unread::Other(format!("{} is outside the folder that files are read from", quote(path)));
        if !named && !catalog::is_below(folder, path) {
            return Err(outside());
        }
        if self.files >= MAX_FILES || self.bytes >= MAX_BYTES {
            let most = format!("the schemas of a policy are at most {MAX_FILES} files, and {} MiB", MAX_BYTES >> 20);
            return Err(Unread::Other(most));
        }
        // Read before links are looked at, so that a file that appears later counts as a change.
        let source = self.context.sources.read(path).map_err(|error| match error.kind {
            ReadErrorKind::NotFound | ReadErrorKind::Folder => Unread::Absent,
            _ => Unread::Other(error.to_string()),
        })?;
        if !named && !self.context.sources.is_within(folder, path) {
            return Err(outside());
        }
        self.files += 1;
        self.bytes += source.text.len();
        let read = JsonFile::read(&source, yaml::SCHEMA, &mut self.context.problems);
        let file = read.ok_or_else(|| Unread::Other(format!("{} cannot be read", quote(&source.name))))?;
        let mut documents = Documents::default();
        let document = documents.add(path, Arc::clone(&file.value), default);
        let outline = documents.outline(document);
        lint(self.context, &file, outline.draft, named);
        let keeps = self.kept + source.text.len() <= MAX_KEPT;
        self.kept += if keeps { source.text.len() } else { 0 };
        let kept = keeps.then(|| Box::new(file));
        let origin = Origin::File(File { source, folder: folder.clone(), path: path.clone(), kept });
        Ok(self.add(origin, default, outline))
    }
}

/// Says what is written in a file and not enforced. `named` says whether values are judged by its root.
fn lint(context: &mut Context<'_>, file: &JsonFile, draft: Draft, named: bool) {
    let lints = Lints::of(&file.value, draft, named);
    let note = lints.annotations();
    for Lint { pointer, message, help } in lints.found {
        context.problems.warning(file.place(&pointer, true), message).help = help;
    }
    context.problems.count(Severity::Warning, lints.more);
    if let Some(note) = note {
        context.problems.note(file.place("", false), note);
    }
}

impl Read {
    /// What is compiled together.
    pub(super) fn groups(&self) -> Vec<Vec<EntryId>> {
        json_groups::groups(&self.linked)
    }

    /// All that was read, as one group.
    pub(super) fn whole(&mut self) -> Group {
        self.group(&(0..self.entries.len()).collect::<Vec<_>>())
    }

    /// The documents of a group, those that are not kept from their texts again.
    pub(super) fn group(&mut self, members: &[EntryId]) -> Group {
        let mut group = Group { documents: Documents::default(), ids: HashMap::new(), files: HashMap::new() };
        for id in members {
            let Some(Entry { origin, default, .. }) = self.entries.get_mut(*id) else { continue };
            let document = match origin {
                Origin::BuiltIn(uri) => group.documents.add_built_in(uri),
                Origin::File(File { source, path, kept, .. }) => {
                    // What is wrong with it was reported when it was read first.
                    let again = || JsonFile::read(source, yaml::SCHEMA, &mut Problems::new());
                    kept.take().map(|kept| *kept).or_else(again).map(|file| {
                        let document = group.documents.add(path, Arc::clone(&file.value), *default);
                        group.files.insert(path.clone(), file);
                        document
                    })
                }
            };
            group.ids.extend(document.map(|document| (*id, document)));
        }
        for (id, from) in &group.ids {
            for (uri, target) in self.linked.get(*id).map(|linked| &linked.references).into_iter().flatten() {
                if let Some(target) = target.and_then(|target| group.ids.get(&target)) {
                    group.documents.locate(*from, uri, *target);
                }
            }
            for (uri, why) in self.entries.get(*id).map(|entry| &entry.refused).into_iter().flatten() {
                group.documents.refuse(*from, uri, why);
            }
        }
        group
    }
}

impl Group {
    /// Whether no file is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Tells what is wrong with a schema, at its place.
    pub(super) fn tell(&self, context: &mut Context<'_>, problem: &SchemaProblem) {
        let SchemaProblem { file, pointer, message, help } = problem;
        let place = self.files.get(&**file).map(|file| file.place(pointer, false));
        let message = match &place {
            Some(_) => format!("this JSON Schema cannot be used: {message}"),
            None => format!("this JSON Schema cannot be used: {file}#{pointer}: {message}"),
        };
        context.problems.error(place, message).help = help.clone();
    }
}
