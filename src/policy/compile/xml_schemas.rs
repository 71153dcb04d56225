//! Reads the files of an XML Schema or a WSDL, and compiles them.
//!
//! A `schemaLocation` is what `catalog` says; or the file beside the one that refers to it. An import without one is what
//! `catalog` says of its namespace. Nothing is fetched, and references stay in the policy's folder, or in the folder of a file
//! outside that the policy names.

use std::collections::HashMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::context::Context;
use crate::policy::catalog::{self, Catalog, Located};
use crate::policy::diagnostic::Problems;
use crate::policy::source::{Place, Sources, quote};
use crate::policy::tree::At;
use crate::stages::schema::xml::XmlSchema;
use crate::xsd::components::documents::{Found, Reference};
use crate::xsd::names::XML;
use crate::xsd::problem::Problem;

/// How the message about a URL ends.
const NOT_FETCHED: &str = "is not a file path; nothing is fetched";

/// Compiles the schema in a file, or that of a WSDL; problems are reported at their place in the file that has them.
pub(super) fn compile(context: &mut Context<'_>, catalog: &Catalog, path: &str, at: At<'_>) -> Option<XmlSchema> {
    let (_, bytes) = context.read_xml(at, &catalog::plain(path))?;
    compile_bytes((&mut context.sources, &mut context.problems), catalog, path, bytes, Some(&at.place()))
}

/// Compiles the WSDL in a file that no policy names yet; problems are reported.
pub(crate) fn read_wsdl(sources: &mut Sources, problems: &mut Problems, path: &str) -> Option<XmlSchema> {
    let bytes = match sources.read_xml(&catalog::plain(path)) {
        Ok((_, bytes)) => bytes,
        Err(error) => {
            problems.error(None, error.to_string());
            return None;
        }
    };
    let schema = compile_bytes((sources, problems), &Catalog::default(), path, bytes, None)?;
    if !schema.is_wsdl() {
        problems.error(None, format!("{} is not a WSDL 1.1: its root is not `definitions`", quote(path)));
        return None;
    }
    Some(schema)
}

/// Compiles the schema with these bytes. Problems without a place of their own are reported at `place`.
fn compile_bytes(
    (sources, problems): (&mut Sources, &mut Problems),
    catalog: &Catalog,
    path: &str,
    bytes: Arc<[u8]>,
    place: Option<&Place>,
) -> Option<XmlSchema> {
    let main = Found { file: catalog::plain(path).into(), bytes };
    let mut loader = Loader { sources: &mut *sources, catalog, folders: HashMap::new() };
    loader.folders.insert(Arc::clone(&main.file), catalog::folder_of(path));
    let compiled = XmlSchema::new(main, &mut |reference| loader.find(reference));
    compiled.map_err(|found| found.iter().for_each(|problem| tell((sources, problems), problem, place))).ok()
}

/// Tells what is wrong with a schema, at its place.
fn tell((sources, problems): (&mut Sources, &mut Problems), problem: &Problem, place: Option<&Place>) {
    let Problem { file, line, column, constraint, message } = problem;
    let source = sources.read_xml(file).ok().filter(|_| *line > 0);
    let place = match source {
        Some((source, _)) => {
            let start = offset(&source.text, *line as usize, *column as usize);
            Some(Place::new(&source, start..start + 1))
        }
        None => place.cloned(),
    };
    let what = if constraint.starts_with("WS") { "WSDL" } else { "XML schema" };
    let problem = problems.error(place, format!("this {what} cannot be used: {message} ({constraint})"));
    if message.ends_with(NOT_FETCHED) {
        problem.help("save the schema in the policy's folder, and write its path here, or name its URL in `catalog`");
    }
}

/// The byte at a line and a column, both from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let mut lines = text.split_inclusive('\n');
    let start: usize = lines.by_ref().take(line.saturating_sub(1)).map(str::len).sum();
    let within = lines.next().and_then(|line| line.char_indices().nth(column.saturating_sub(1)));
    within.map_or(start, |(within, _)| start + within).min(text.len().saturating_sub(1))
}

/// Finds the files that others refer to.
struct Loader<'l> {
    sources: &'l mut Sources,
    catalog: &'l Catalog,
    /// By file: the folder that its references stay in. Empty: the policy's.
    folders: HashMap<Arc<str>, String>,
}

impl Loader<'_> {
    fn find(&mut self, Reference { from, location, import }: Reference<'_>) -> Result<Option<Found>, String> {
        let location = location.map(str::trim);
        let located = location.and_then(|location| self.catalog.locate(location));
        if let Some(located) = located.or_else(|| import.and_then(|namespace| self.catalog.locate(namespace))) {
            return self.read(located).map(Some);
        }
        let Some(location) = location else { return Ok(None) };
        if is_url(location) {
            // Everyone imports it from the web, and the engine has it.
            return if import == Some(XML) { Ok(None) } else { Err(format!("{} {NOT_FETCHED}", quote(location))) };
        }
        let folder = self.folders.get(from).cloned().unwrap_or_default();
        self.read(Located { path: beside(from, location)?, folder }).map(Some)
    }

    fn read(&mut self, Located { path, folder }: Located) -> Result<Found, String> {
        let outside = || format!("{} is outside the folder that files are read from", quote(&path));
        if !catalog::is_below(&folder, &path) {
            return Err(outside());
        }
        // Read before links are looked at, so that a file that appears later counts as a change.
        let (_, bytes) = self.sources.read_xml(&path).map_err(|error| error.to_string())?;
        // Most files are referred to by many others of one folder.
        let is_known = self.folders.get(&*path).is_some_and(|known| *known == folder);
        if !is_known && !self.sources.is_within(&folder, &path) {
            return Err(outside());
        }
        let file: Arc<str> = path.into();
        self.folders.entry(Arc::clone(&file)).or_insert(folder);
        Ok(Found { file, bytes })
    }
}

/// Whether a location begins with a scheme (RFC 3986 §3.1), which no relative path does, or with a host.
fn is_url(location: &str) -> bool {
    location.starts_with("//") || location.split_once(':').is_some_and(|(scheme, _)| !scheme.contains('/'))
}

/// Resolves a location in a file to a path. People write `\` and `%20` in it.
fn beside(from: &str, location: &str) -> Result<String, String> {
    let wrong = || format!("{} is not a path relative to this file", quote(location));
    let decoded = percent_decode_str(location).decode_utf8().map_err(|_| wrong())?.replace('\\', "/");
    if decoded.is_empty() || decoded.starts_with('/') || decoded.contains('\0') {
        return Err(wrong());
    }
    let above = from.rsplit_once('/').map_or(String::new(), |(above, _)| format!("{above}/"));
    Ok(catalog::plain(&format!("{above}{decoded}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_relative_to_the_file() {
        for (file, location, expected) in [
            ("a.xsd", "b.xsd", Some("b.xsd")),
            ("schemas/a.xsd", "b.xsd", Some("schemas/b.xsd")),
            ("schemas/a.xsd", "./types/b.xsd", Some("schemas/types/b.xsd")),
            ("schemas/a.xsd", "types\\b%20c.xsd", Some("schemas/types/b c.xsd")),
            ("schemas/a.xsd", "../b.xsd", Some("b.xsd")),
            ("schemas/a.xsd", "../../b.xsd", Some("../b.xsd")),
            ("schemas/a.xsd", "..%2F..\\b.xsd", Some("../b.xsd")),
            ("/srv/a.xsd", "../b.xsd", Some("/b.xsd")),
            ("a.xsd", "/etc/passwd", None),
            ("a.xsd", "\\etc\\passwd", None),
            ("a.xsd", "%2Fetc/passwd", None),
            ("a.xsd", "b%00.xsd", None),
            ("a.xsd", "%ff.xsd", None),
            ("a.xsd", "", None),
        ] {
            assert_eq!(beside(file, location).ok().as_deref(), expected, "{file} {location}");
        }
        for (location, expected) in [
            ("file:///etc/passwd", true),
            ("FILE:b.xsd", true),
            ("http://example.com/b.xsd", true),
            ("//host/b.xsd", true),
            ("a/b:c.xsd", false),
            ("b.xsd", false),
        ] {
            assert_eq!(is_url(location), expected, "{location}");
        }
    }

    #[test]
    fn a_place_is_found_by_its_line_and_column() {
        for (line, column, expected) in [(1, 1, 0), (1, 3, 3), (2, 1, 5), (9, 9, 6)] {
            assert_eq!(offset("aüb\ncd", line, column), expected, "{line}:{column}");
        }
    }
}
