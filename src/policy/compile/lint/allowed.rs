//! `allow`: the warnings that are meant.

use super::finding::Lint;
use crate::policy::compile::context::Context;
use crate::policy::document::Document;
use crate::policy::tree::At;

/// What `allow` takes.
pub(super) struct Allowed<'a> {
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    position: usize,
    lint: Lint,
    /// The only name that it is about; absent: all.
    about: Option<&'a str>,
    used: bool,
}

impl<'a> Allowed<'a> {
    /// Each entry is the name of a warning, and the name that it is about if only that one is meant.
    pub(super) fn read(context: &mut Context<'_>, document: &'a Document, at: At<'_>) -> Self {
        let mut entries = Vec::new();
        for (position, written) in document.allow.iter().enumerate() {
            let (name, about) =
                written.split_once(' ').map_or((written.as_str(), None), |(name, about)| (name, Some(about)));
            match Lint::ALL.iter().find(|(known, _)| *known == name) {
                Some((_, lint)) => entries.push(Entry { position, lint: *lint, about, used: false }),
                None => context.unknown(at.index(position), "warning called", name, Lint::ALL.map(|(known, _)| known)),
            }
        }
        Self { entries }
    }

    /// Whether a warning is meant.
    pub(super) fn takes(&mut self, lint: Lint, about: &str) -> bool {
        let takes = |entry: &&mut Entry<'_>| entry.lint == lint && entry.about.is_none_or(|one| one == about);
        let entry = self.entries.iter_mut().find(takes);
        entry.map(|entry| entry.used = true).is_some()
    }

    /// Warns of entries that no warning needs any more.
    pub(super) fn report_unused(&self, context: &mut Context<'_>, at: At<'_>) {
        for entry in self.entries.iter().filter(|entry| !entry.used) {
            context
                .warning(at.index(entry.position), "there is no such warning, so this allows nothing")
                .help("remove it");
        }
    }
}
