//! Reads descriptions of APIs in OpenAPI 3.0 and 3.1: operations, and what each requires.
//!
//! Pure except for reading files. What cannot be enforced is reported at its place: the operations that use it are closed,
//! or, where the report says so, less is checked. Only the policy can make an operation public, so
//! [`Security`] just says that an operation requires no credential.
//!
//! 1. [`files`]: the description and all files it refers to.
//! 2. [`operation`]: paths, with [`servers`], [`path`], [`security`], [`parameters`], [`content`], [`extensions`].
//! 3. [`schema`]: all schemas, as two JSON Schema documents. Files that are JSON Schemas of their own ([`schema_file`]) are
//!    only referred to.

mod content;
mod diagnostics;
mod extensions;
mod files;
mod media_type;
mod operation;
mod options;
mod parameters;
mod path;
mod reading;
mod reference;
mod schema;
mod schema_file;
mod security;
mod servers;
mod version;
mod visible;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use self::content::{Content, Form};
use self::diagnostics::Diagnostics;
pub(crate) use self::extensions::Extensions;
use self::files::{Files, Spot};
use self::operation::Operations;
pub(crate) use self::operation::{ClosedOperation, Operation, Response};
pub(crate) use self::options::{Handling, Options};
pub(crate) use self::parameters::{Field, Location};
use self::reading::Reading;
pub(crate) use self::schema::Name;
use self::schema::{Direction, Schemas, Translated};
pub(crate) use self::security::{Alternative, DescribedKey, Issuer, Security};
use self::visible::Unused;
use super::catalog::Catalog;
use super::diagnostic::Problems;
use super::source::{Place, SourceText, Sources};

/// A description.
#[derive(Debug)]
pub(crate) struct Description {
    /// Its title.
    pub(crate) title: Option<String>,
    /// In the order of the paths.
    pub(crate) operations: Vec<Operation>,
    /// Operations that get no route, and refuse their requests.
    pub(crate) closed: Vec<ClosedOperation>,
    /// By position in [`Options::skip`]: whether there is such an operation.
    pub(crate) skipped: Vec<bool>,
    /// The schemas of requests.
    pub(crate) requests: Definitions,
    /// The same for responses.
    pub(crate) responses: Definitions,
    /// The issuers of the tokens it asks for.
    pub(crate) issuers: Vec<Issuer>,
    /// Where each definition comes from, for both directions.
    origins: HashMap<Name, Spot>,
    files: Files,
}

/// `{"$defs": …}`, in JSON Schema 2020-12.
#[derive(Debug)]
pub(crate) struct Definitions {
    pub(crate) document: Arc<Value>,
    /// The same definitions for messages that are only reported: with members of the other direction.
    pub(crate) lenient: Option<Arc<Value>>,
}

impl Description {
    /// Reads the description in `source`, whose path from the policy's folder is `path`. Returns `None` when it cannot
    /// be used. The reasons, and what is not enforced, are added to `problems`.
    pub(crate) fn read(
        sources: &mut Sources,
        catalog: &Catalog,
        source: &Arc<SourceText>,
        path: &str,
        options: &Options,
        problems: &mut Problems,
    ) -> Option<Self> {
        let files = Files::read(sources, catalog, source, path, problems)?;
        let mut diagnostics = Diagnostics::default();
        let Some((root, version)) = files.root().zip(version::of(&files, &mut diagnostics)) else {
            diagnostics.report(&files, problems);
            return None;
        };
        let schemas = |direction, handling: Handling| Schemas::new(direction, handling != Handling::Allow, version);
        let mut reading = Reading {
            options,
            skipped: vec![false; options.skip.len()],
            diagnostics,
            requests: schemas(Direction::Request, options.read_only),
            responses: schemas(Direction::Response, options.write_only),
            unused: Unused::of(&files),
        };
        let mut operations = operation::all(&mut reading, &root);
        let issuers = security::issuers(&root);
        let title = root.get("info").and_then(|info| info.text("title")).map(str::to_owned);
        let Reading { mut diagnostics, requests, responses, skipped, unused, .. } = reading;
        unused.report(&mut diagnostics);
        let mut origins = HashMap::new();
        let (requests, broken) = definitions(requests, options.read_only, &mut diagnostics, &mut origins);
        let (responses, broken_responses) = definitions(responses, options.write_only, &mut diagnostics, &mut origins);
        operations.close(|operation| {
            let (of_requests, of_responses) = operation.schemas();
            let requests = of_requests.into_iter().find_map(|name| broken.get(name));
            requests.or_else(|| of_responses.into_iter().find_map(|name| broken_responses.get(name))).cloned()
        });
        for closed in operations.closed.iter().filter(|closed| !closed.skipped) {
            diagnostics.closed(&closed.spot, &closed.why);
        }
        let usable = !diagnostics.has_errors();
        diagnostics.report(&files, problems);
        let Operations { open: operations, closed } = operations;
        usable.then_some(Self { title, operations, closed, skipped, requests, responses, issuers, origins, files })
    }

    /// The place that a part of the schemas comes from, by a pointer such as `/$defs/NAME/…`. Translation may have
    /// changed that part, so this is the nearest place that exists.
    pub(crate) fn origin(&self, pointer: &str) -> Option<Place> {
        let inner = pointer.strip_prefix("/$defs/")?;
        let (name, rest) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
        let spot = self.origins.get(name)?;
        Some(self.files.place(spot.file, &format!("{}{rest}", spot.pointer), true))
    }

    /// The files that are JSON Schemas of their own, which its schemas refer to: the path of each, and the folder that its
    /// references stay in.
    pub(crate) fn schema_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.schemas()
    }

    /// The place of a value, or of its key.
    pub(crate) fn place(&self, spot: &Spot, key: bool) -> Place {
        self.files.place(spot.file, &spot.pointer, key)
    }
}

/// Translates the schemas of one direction. Also returns why some of them cannot be enforced.
fn definitions(
    schemas: Schemas<'_>,
    handling: Handling,
    diagnostics: &mut Diagnostics,
    origins: &mut HashMap<Name, Spot>,
) -> (Definitions, HashMap<Name, String>) {
    let lenient = (handling == Handling::Report).then(|| {
        // The same definitions in the same order, so they have the same names.
        schemas.lenient().finish(&mut Diagnostics::default(), &mut HashMap::new()).document
    });
    let Translated { document, broken } = schemas.finish(diagnostics, origins);
    let lenient = lenient.filter(|lenient| *lenient != document);
    (Definitions { document: Arc::new(document), lenient: lenient.map(Arc::new) }, broken)
}

#[cfg(test)]
mod tests;
