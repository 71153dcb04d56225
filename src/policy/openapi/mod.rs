//! Descriptions of APIs in OpenAPI 3.0 and 3.1: from their text to operations, with what each asks for.
//!
//! Pure but for the files it reads. What cannot be enforced is reported at its place: an error where a hole would be left, a
//! warning where only less is checked. Whether an operation that asks for nobody may be open is the policy's to say, not
//! the description's, so [`Security`] only reports it.
//!
//! 1. [`files`]: the text, and all texts that it refers to. [`value`]: YAML or JSON to values. [`place`]: back to the text.
//! 2. [`operation`]: paths, with [`servers`], [`path`], [`security`], [`parameters`], [`content`], [`extensions`].
//! 3. [`schema`]: every schema among them, as two documents of JSON Schema.

mod content;
mod diagnostics;
mod extensions;
mod files;
mod media_type;
mod operation;
mod parameters;
mod path;
mod place;
mod reading;
mod reference;
mod schema;
mod security;
mod servers;
mod value;
mod version;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use self::content::Content;
use self::diagnostics::Diagnostics;
pub(crate) use self::extensions::Extensions;
use self::files::{Files, Spot};
pub(crate) use self::operation::{Operation, Response};
pub(crate) use self::parameters::{Field, Location};
use self::reading::Reading;
pub(crate) use self::schema::Name;
use self::schema::{Direction, Schemas};
pub(crate) use self::security::{Alternative, Issuer, Security};
use super::diagnostic::Problems;
use super::source::{Place, SourceText, Sources};

/// A description that was read.
#[derive(Debug)]
pub(crate) struct Description {
    /// What it calls itself.
    pub(crate) title: Option<String>,
    /// In the order of the paths.
    pub(crate) operations: Vec<Operation>,
    /// `{"$defs": …}`, in JSON Schema 2020-12: what requests must be.
    pub(crate) requests: Value,
    /// The same for answers.
    pub(crate) responses: Value,
    /// Who gives out the tokens it asks for.
    pub(crate) issuers: Vec<Issuer>,
    /// Where each definition is from, for either direction.
    origins: HashMap<Name, Spot>,
    files: Files,
}

impl Description {
    /// Reads the description in `source`, whose path from the policy's folder is `path`. None when it cannot be used; the
    /// reasons, and what is not honoured, are among `problems`.
    pub(crate) fn read(
        sources: &mut Sources,
        source: Arc<SourceText>,
        path: &str,
        strict: bool,
        problems: &mut Problems,
    ) -> Option<Self> {
        let files = Files::read(sources, source, path, problems)?;
        let mut diagnostics = Diagnostics::default();
        let Some((root, version)) = files.root().zip(version::of(&files, &mut diagnostics)) else {
            diagnostics.report(&files, problems);
            return None;
        };
        let mut reading = Reading {
            strict,
            diagnostics,
            requests: Schemas::new(Direction::Request, version),
            responses: Schemas::new(Direction::Response, version),
        };
        let operations = operation::all(&mut reading, &root);
        let issuers = security::issuers(&root);
        let title = root.get("info").and_then(|info| info.text("title")).map(str::to_owned);
        let Reading { mut diagnostics, requests, responses, .. } = reading;
        let mut origins = HashMap::new();
        let requests = requests.finish(&mut diagnostics, &mut origins);
        let responses = responses.finish(&mut diagnostics, &mut origins);
        let usable = !diagnostics.has_errors();
        diagnostics.report(&files, problems);
        usable.then_some(Self { title, operations, requests, responses, issuers, origins, files })
    }

    /// Where a part of the schemas is from: a pointer such as `/$defs/NAME/…`. What it is now may have been something else
    /// there, so the place is the nearest that is there.
    pub(crate) fn origin(&self, pointer: &str) -> Option<Place> {
        let inner = pointer.strip_prefix("/$defs/")?;
        let (name, rest) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
        let spot = self.origins.get(name)?;
        Some(self.files.place(spot.file, &format!("{}{rest}", spot.pointer), true))
    }

    /// Where something is, or the key it stands behind.
    pub(crate) fn place(&self, spot: &Spot, key: bool) -> Place {
        self.files.place(spot.file, &spot.pointer, key)
    }
}

#[cfg(test)]
mod tests;
