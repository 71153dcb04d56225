//! Reads descriptions of APIs in OpenAPI 3.0 and 3.1: operations, and what each requires.
//!
//! Pure except for reading files. What cannot be enforced is reported at its place: an error where something would be
//! let through that should not be, a warning where less is checked. Only the policy can make an operation public, so
//! [`Security`] just says that an operation requires no credential.
//!
//! 1. [`files`]: the description and all files it refers to. [`value`] parses YAML or JSON; [`place`] finds places in
//!    text.
//! 2. [`operation`]: paths, with [`servers`], [`path`], [`security`], [`parameters`], [`content`], [`extensions`].
//! 3. [`schema`]: all schemas, as two JSON Schema documents.

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

/// A description.
#[derive(Debug)]
pub(crate) struct Description {
    /// Its title.
    pub(crate) title: Option<String>,
    /// In the order of the paths.
    pub(crate) operations: Vec<Operation>,
    /// `{"$defs": …}`, in JSON Schema 2020-12: the schemas of requests.
    pub(crate) requests: Value,
    /// The same for responses.
    pub(crate) responses: Value,
    /// The issuers of the tokens it asks for.
    pub(crate) issuers: Vec<Issuer>,
    /// Where each definition comes from, for both directions.
    origins: HashMap<Name, Spot>,
    files: Files,
}

impl Description {
    /// Reads the description in `source`, whose path from the policy's folder is `path`. Returns `None` when it cannot
    /// be used. The reasons, and what is not enforced, are added to `problems`.
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

    /// The place that a part of the schemas comes from, by a pointer such as `/$defs/NAME/…`. Translation may have
    /// changed that part, so this is the nearest place that exists.
    pub(crate) fn origin(&self, pointer: &str) -> Option<Place> {
        let inner = pointer.strip_prefix("/$defs/")?;
        let (name, rest) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
        let spot = self.origins.get(name)?;
        Some(self.files.place(spot.file, &format!("{}{rest}", spot.pointer), true))
    }

    /// The place of a value, or of its key.
    pub(crate) fn place(&self, spot: &Spot, key: bool) -> Place {
        self.files.place(spot.file, &spot.pointer, key)
    }
}

#[cfg(test)]
mod tests;
