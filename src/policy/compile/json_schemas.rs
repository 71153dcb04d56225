//! Reads JSON Schema files, and the files that they refer to, each once.
//!
//! A reference names a resource. It is one of the documents that were read, by its `$id`; or what `catalog` says; or a
//! meta-schema that is built in; or the file beside the one that refers to it. Nothing is fetched, and references stay in the
//! policy's folder, or in the folder of a file outside that the policy names.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::Draft;

use super::context::Context;
use crate::policy::catalog::{self, Catalog, Located};
use crate::policy::diagnostic::Severity;
use crate::policy::json_file::JsonFile;
use crate::policy::source::{ReadErrorKind, quote};
use crate::policy::tree::At;
use crate::policy::yaml;
use crate::stages::schema::json::lint::{Lint, Lints};
use crate::stages::schema::json::{DocumentId, Documents, SchemaProblem, Wanted};

/// Most files of one policy.
const MAX_FILES: usize = 10_000;
/// Most bytes of all of them.
const MAX_BYTES: usize = 256 << 20;

/// Reads files into documents.
pub(super) struct Loader<'l, 'a> {
    context: &'l mut Context<'a>,
    catalog: &'l Catalog,
    read: Read,
    /// By path, or by the URI of a meta-schema; an error says why a file cannot be used.
    known: HashMap<String, Result<DocumentId, Unread>>,
    /// Whose references have not been followed yet.
    waiting: Vec<DocumentId>,
    bytes: usize,
}

/// The documents, and the files that they were read from.
#[derive(Default)]
pub(super) struct Read {
    pub(super) documents: Documents,
    files: HashMap<DocumentId, File>,
    by_path: HashMap<String, DocumentId>,
}

struct File {
    file: JsonFile,
    /// The folder that its references stay in. Empty: the policy's.
    folder: String,
    path: String,
    /// Whether the policy names it.
    named: bool,
}

/// Why a file cannot be used.
#[derive(Clone)]
enum Unread {
    Absent,
    Other(String),
}

impl<'l, 'a> Loader<'l, 'a> {
    pub(super) fn new(context: &'l mut Context<'a>, catalog: &'l Catalog) -> Self {
        Self { context, catalog, read: Read::default(), known: HashMap::new(), waiting: Vec::new(), bytes: 0 }
    }

    /// Reads a file that the policy names; reports problems where it does.
    pub(super) fn named(&mut self, path: &str, at: At<'_>) -> Option<DocumentId> {
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

    /// Follows all references, and says what is written and not enforced.
    pub(super) fn finish(mut self) -> Read {
        // In the order in which the policy names them, so that the draft of a file without `$schema` does not depend on
        // anything else.
        let mut next = 0;
        while let Some(id) = self.waiting.get(next).copied() {
            next += 1;
            for wanted in self.read.documents.wanted(id) {
                self.follow(wanted);
            }
        }
        let Self { context, read, .. } = self;
        let mut ids: Vec<DocumentId> = read.files.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            read.lint(context, id);
        }
        read
    }

    fn follow(&mut self, wanted: Wanted) {
        let draft = self.read.documents.draft(wanted.from);
        let mut why = None;
        for located in self.candidates(&wanted) {
            match self.file(&located, draft, false) {
                Ok(id) => return self.read.documents.locate(wanted, id),
                Err(Unread::Absent) => {}
                Err(Unread::Other(problem)) => why = why.or(Some(problem)),
            }
        }
        if let Some(id) = self.built_in(&wanted.uri) {
            return self.read.documents.locate(wanted, id);
        }
        if let (None, Some(located)) = (&why, self.catalog.locate(&wanted.uri)) {
            why = Some(format!("`catalog` leads to {}, and there is no such file", quote(&located.path)));
        }
        if let Some(why) = why {
            self.read.documents.refuse(wanted, why);
        }
    }

    /// Where a reference may lead, best first.
    fn candidates(&self, wanted: &Wanted) -> Vec<Located> {
        let mut found: Vec<Located> = self.catalog.locate(&wanted.uri).into_iter().collect();
        if let Some(File { folder, path, .. }) = self.read.files.get(&wanted.from) {
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

    fn built_in(&mut self, uri: &str) -> Option<DocumentId> {
        if let Some(known) = self.known.get(uri) {
            return known.as_ref().ok().copied();
        }
        let id = self.read.documents.add_built_in(uri)?;
        self.known.insert(uri.to_owned(), Ok(id));
        self.waiting.push(id);
        Some(id)
    }

    fn file(&mut self, located: &Located, draft: Draft, named: bool) -> Result<DocumentId, Unread> {
        if let Some(known) = self.known.get(&located.path) {
            let known = known.clone();
            if let Some(file) = known.as_ref().ok().and_then(|id| self.read.files.get_mut(id)) {
                file.named |= named;
            }
            return known;
        }
        let read = self.read(located, draft, named);
        self.known.insert(located.path.clone(), read.clone());
        read
    }

    fn read(&mut self, located: &Located, draft: Draft, named: bool) -> Result<DocumentId, Unread> {
        let Located { path, folder } = located;
        let outside = || Unread::Other(format!("{} is outside the folder that files are read from", quote(path)));
        if !named && !catalog::is_below(folder, path) {
            return Err(outside());
        }
        if self.read.files.len() >= MAX_FILES || self.bytes >= MAX_BYTES {
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
        self.bytes += source.text.len();
        let read = JsonFile::read(&source, yaml::SCHEMA, &mut self.context.problems);
        let file = read.ok_or_else(|| Unread::Other(format!("{} cannot be read", quote(&source.name))))?;
        let id = self.read.documents.add(path, Arc::clone(&file.value), draft);
        self.read.by_path.insert(path.clone(), id);
        self.read.files.insert(id, File { file, folder: folder.clone(), path: path.clone(), named });
        self.waiting.push(id);
        Ok(id)
    }
}

impl Read {
    /// Says what is written in a file and not enforced.
    fn lint(&self, context: &mut Context<'_>, id: DocumentId) {
        let Some(File { file, named, .. }) = self.files.get(&id) else { return };
        let lints = Lints::of(&file.value, self.documents.draft(id), *named);
        let note = lints.annotations();
        for Lint { pointer, message, help } in lints.found {
            context.problems.warning(file.place(&pointer, true), message).help = help;
        }
        context.problems.count(Severity::Warning, lints.more);
        if let Some(note) = note {
            context.problems.note(file.place("", false), note);
        }
    }

    /// Tells what is wrong with a schema, at its place.
    pub(super) fn tell(&self, context: &mut Context<'_>, problem: &SchemaProblem) {
        let SchemaProblem { file, pointer, message, help } = problem;
        let place =
            self.by_path.get(&**file).and_then(|id| self.files.get(id)).map(|file| file.file.place(pointer, false));
        let message = match &place {
            Some(_) => format!("not a JSON Schema that can be kept: {message}"),
            None => format!("not a JSON Schema that can be kept: {file}#{pointer}: {message}"),
        };
        context.problems.error(place, message).help = help.clone();
    }
}
