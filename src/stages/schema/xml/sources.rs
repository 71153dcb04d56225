//! The documents of a schema: the named file, and all that it includes, imports and redefines.
//!
//! They are read through the policy's own reader, and their locations are replaced by names that only
//! [`super::libxml2`] knows. It receives all documents at once and fetches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::guard::{self, Element, Guard, Step};
use super::namespaces::XML;
use super::problem::{Position, XmlProblem};
use super::settings::XmlSettings;

/// The namespace of XSD 1.0.
const XSD: &str = "http://www.w3.org/2001/XMLSchema";
/// Most files of one schema.
const MAX_FILES: usize = 512;
/// Most bytes of all of them.
const MAX_SIZE: usize = 16 << 20;

/// Limits of a schema file. It is the operator's, but still bounded.
const SETTINGS: XmlSettings = XmlSettings {
    soap: None,
    max_depth: 128,
    max_attributes: 256,
    max_elements: 1_000_000,
    max_name: 4096,
    max_attribute: 1 << 20,
    max_namespaces: 256,
    max_references: 1_000_000,
};

/// The attributes of the namespace `xml:` (<http://www.w3.org/2001/xml.xsd>), which schemas import from the web.
const XML_ATTRIBUTES: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="http://www.w3.org/XML/1998/namespace">
<xs:attribute name="lang"><xs:simpleType><xs:union memberTypes="xs:language"><xs:simpleType><xs:restriction base="xs:string"><xs:enumeration value=""/></xs:restriction></xs:simpleType></xs:union></xs:simpleType></xs:attribute>
<xs:attribute name="space"><xs:simpleType><xs:restriction base="xs:NCName"><xs:enumeration value="default"/><xs:enumeration value="preserve"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="base" type="xs:anyURI"/>
<xs:attribute name="id" type="xs:ID"/>
<xs:attributeGroup name="specialAttrs"><xs:attribute ref="xml:base"/><xs:attribute ref="xml:lang"/><xs:attribute ref="xml:space"/><xs:attribute ref="xml:id"/></xs:attributeGroup>
</xs:schema>"#;

/// One file.
struct File {
    /// Relative to the policy's folder; empty for [`XML_ATTRIBUTES`].
    name: String,
    text: Arc<str>,
    references: Vec<Reference>,
}

/// A reference from one file to another.
struct Reference {
    /// Byte range of the value of `schemaLocation`.
    value: Range<usize>,
    /// Position of the file that it refers to.
    target: usize,
    /// The namespace, if it is an import.
    import: Option<String>,
}

/// The files of one schema, the main file first.
pub(super) struct Sources {
    files: Vec<File>,
    /// The facets `xs:pattern` of all files.
    patterns: Vec<Pattern>,
}

/// An `xs:pattern` facet.
struct Pattern {
    file: String,
    place: Position,
    text: String,
}

/// The name of a document in libxml2.
fn document_name(index: usize) -> String {
    format!("xsd:{index}")
}

impl Sources {
    /// Reads the main file and everything it refers to.
    pub(super) fn gather(
        name: &str,
        read: &mut dyn FnMut(&str) -> Result<Arc<str>, String>,
    ) -> Result<Self, XmlProblem> {
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        let mut sources = Self { files: Vec::new(), patterns: Vec::new() };
        let text = read(name).map_err(|message| XmlProblem::of(name, message))?;
        sources.add(name.to_owned(), text, &mut known)?;
        let mut next = 0;
        while let Some(file) = sources.files.get(next) {
            let (name, text) = (file.name.clone(), Arc::clone(&file.text));
            let found = scan(&name, &text, &mut sources.patterns)?;
            let mut references = Vec::with_capacity(found.len());
            for Location { value, import, place, location } in found {
                let problem = |message: String| XmlProblem::of(&name, message).at(place);
                let target = if import.as_deref() == Some(XML) && is_url(&location) {
                    String::new()
                } else {
                    resolve(&name, &location).map_err(|(message, help)| XmlProblem { help, ..problem(message) })?
                };
                let target = match known.get(&target) {
                    Some(index) => *index,
                    None => {
                        let text = if target.is_empty() { Ok(XML_ATTRIBUTES.into()) } else { read(&target) };
                        sources.add(target, text.map_err(problem)?, &mut known)?
                    }
                };
                references.push(Reference { value, target, import });
            }
            if let Some(file) = sources.files.get_mut(next) {
                file.references = references;
            }
            next += 1;
        }
        Ok(sources)
    }

    fn add(&mut self, name: String, text: Arc<str>, known: &mut BTreeMap<String, usize>) -> Result<usize, XmlProblem> {
        let size: usize = self.files.iter().map(|file| file.text.len()).sum();
        if self.files.len() >= MAX_FILES || size + text.len() > MAX_SIZE {
            let message = format!("a schema can have at most {MAX_FILES} files, of {} MiB together", MAX_SIZE >> 20);
            return Err(XmlProblem::of(&name, message));
        }
        let index = self.files.len();
        known.insert(name.clone(), index);
        self.files.push(File { name, text, references: Vec::new() });
        Ok(index)
    }

    /// Returns all patterns, each with a problem that locates it.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (XmlProblem, &str)> {
        self.patterns.iter().map(|pattern| (XmlProblem::of(&pattern.file, "").at(pattern.place), &*pattern.text))
    }

    /// Returns the name of the file with this document name.
    pub(super) fn name_of(&self, document: &str) -> Option<&str> {
        let index: usize = document.strip_prefix("xsd:")?.parse().ok()?;
        self.files.get(index).map(|file| &*file.name).filter(|name| !name.is_empty())
    }

    /// Returns all documents by document name, with their locations replaced by document names.
    ///
    /// Of several imports of one namespace, libxml2 reads only the first. If a namespace comes from several files, all its
    /// imports refer to an additional document that includes those files.
    pub(super) fn documents(&self) -> Vec<(String, String)> {
        let mut imported: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for reference in self.files.iter().flat_map(|file| &file.references) {
            if let Some(namespace) = &reference.import {
                imported.entry(namespace).or_default().insert(reference.target);
            }
        }
        imported.retain(|_, files| files.len() > 1);
        let mut documents = Vec::with_capacity(self.files.len() + imported.len());
        for (index, file) in self.files.iter().enumerate() {
            let mut text = String::with_capacity(file.text.len());
            let mut from = 0;
            for Reference { value, target, import } in &file.references {
                let several = import.as_deref().and_then(|namespace| imported.keys().position(|key| *key == namespace));
                text.push_str(file.text.get(from..value.start).unwrap_or_default());
                text.push_str(&document_name(several.map_or(*target, |position| self.files.len() + position)));
                // Keeps line numbers: the line breaks of the value are moved after its closing quote.
                from = value.end + 1;
                text.push_str(file.text.get(value.end..from).unwrap_or_default());
                let lines = file.text.get(value.clone()).unwrap_or_default().matches('\n').count();
                text.extend(std::iter::repeat_n('\n', lines));
            }
            text.push_str(file.text.get(from..).unwrap_or_default());
            documents.push((document_name(index), text));
        }
        for (position, (namespace, files)) in imported.iter().enumerate() {
            let target = match *namespace {
                "" => String::new(),
                namespace => format!(r#" targetNamespace="{}""#, quick_xml::escape::escape(namespace)),
            };
            let includes: String = files
                .iter()
                .map(|file| format!(r#"<xs:include schemaLocation="{}"/>"#, document_name(*file)))
                .collect();
            let text = format!(r#"<xs:schema xmlns:xs="{XSD}"{target}>{includes}</xs:schema>"#);
            documents.push((document_name(self.files.len() + position), text));
        }
        documents
    }
}

/// A `schemaLocation`, as written in a file.
struct Location {
    value: Range<usize>,
    import: Option<String>,
    place: Position,
    location: String,
}

/// Returns the locations in one file, and adds its patterns. The file is checked like a body, except that processing
/// instructions are allowed.
fn scan(name: &str, text: &str, patterns: &mut Vec<Pattern>) -> Result<Vec<Location>, XmlProblem> {
    let whole = guard::text(text.as_bytes());
    let body = whole.as_ref().copied().unwrap_or(text);
    let problem = |error: guard::GuardError| {
        XmlProblem::of(name, format!("the file is not acceptable XML: {}", error.message))
            .at(guard::position_of(body, error.offset))
    };
    let skipped = text.len() - body.len();
    let mut guard = Guard::over_schema(body, &SETTINGS);
    let mut found = Vec::new();
    while let Some(step) = guard.step().map_err(problem)? {
        let Step::Open(element) = step else { continue };
        let place = || guard::position_of(body, element.offset);
        if guard.depth() == 1 && (guard.namespace(&element) != XSD || element.local_name() != "schema") {
            let message = format!("the file is not an XML Schema: its root is not `schema` in the namespace `{XSD}`");
            return Err(XmlProblem::of(name, message).at(place()));
        }
        let kind = element.local_name();
        if kind == "pattern" && guard.namespace(&element) == XSD {
            let value = attribute(body, &element, "value");
            patterns.extend(value.map(|(_, text)| Pattern { file: name.to_owned(), place: place(), text }));
        }
        if guard.depth() != 2 || guard.namespace(&element) != XSD || !["include", "import", "redefine"].contains(&kind)
        {
            continue;
        }
        let Some((value, location)) = attribute(body, &element, "schemaLocation") else { continue };
        let (value, location) = (value.start + skipped..value.end + skipped, location.trim().to_owned());
        let import = (kind == "import").then(|| {
            attribute(body, &element, "namespace").map(|(_, namespace)| namespace.trim().to_owned()).unwrap_or_default()
        });
        found.push(Location { value, import, place: place(), location });
    }
    Ok(found)
}

/// Returns the byte range and the value of an attribute.
fn attribute(text: &str, element: &Element<'_>, name: &str) -> Option<(Range<usize>, String)> {
    let attribute = element.tag.attributes().flatten().find(|attribute| attribute.key.into_inner() == name)?;
    // The value borrows from the tag, and the tag from the text.
    let start = (attribute.value.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let value = quick_xml::escape::unescape(&attribute.value).ok()?.into_owned();
    let range = start..start + attribute.value.len();
    text.get(range.clone()).is_some_and(|found| found == attribute.value).then_some((range, value))
}

/// Returns whether it begins with a scheme (RFC 3986 §3.1), which no relative path does.
fn is_url(location: &str) -> bool {
    location.split_once(':').is_some_and(|(scheme, _)| !scheme.contains('/'))
}

/// Resolves a location in `file` to a path relative to the policy's folder. The error is a message and an optional help.
fn resolve(file: &str, location: &str) -> Result<String, (String, Option<String>)> {
    if is_url(location) || location.starts_with("//") {
        let help = "save the schema next to this file, and write its path here";
        return Err((format!("`{location}` is not a file path; nothing is fetched"), Some(help.to_owned())));
    }
    if location.is_empty() || location.starts_with('/') || location.contains(['\\', '\0']) {
        return Err((format!("`{location}` is not a path relative to this file"), None));
    }
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in location.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err((format!("`{location}` is outside the policy's folder"), None));
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_relative_to_the_file_and_stay_in_the_folder() {
        for (file, location, expected) in [
            ("a.xsd", "b.xsd", Some("b.xsd")),
            ("schemas/a.xsd", "b.xsd", Some("schemas/b.xsd")),
            ("schemas/a.xsd", "./types/b.xsd", Some("schemas/types/b.xsd")),
            ("schemas/a.xsd", "../b.xsd", Some("b.xsd")),
            ("schemas/a.xsd", "../../b.xsd", None),
            ("a.xsd", "../b.xsd", None),
            ("a.xsd", "x/../../b.xsd", None),
            ("a.xsd", "/etc/passwd", None),
            ("a.xsd", "//host/b.xsd", None),
            ("a.xsd", "..\\b.xsd", None),
            ("a.xsd", "file:///etc/passwd", None),
            ("a.xsd", "FILE:b.xsd", None),
            ("a.xsd", "http://example.com/b.xsd", None),
            ("a.xsd", "", None),
        ] {
            assert_eq!(resolve(file, location).ok().as_deref(), expected, "{file} {location}");
        }
    }

    #[test]
    fn only_locations_are_rewritten_and_lines_stay() {
        let main = "<?xml version='1.0'?>\n<!-- schemaLocation='b.xsd' -->\n<?keep this?>\
            <s:schema xmlns:s='http://www.w3.org/2001/XMLSchema'>\n <s:import namespace='urn:b' schemaLocation='\n\
            b.xsd '/>\n<s:include schemaLocation=\"sub/c.xsd\"/><s:annotation><s:appinfo><s:include schemaLocation='x'/>\
            </s:appinfo></s:annotation></s:schema>";
        let empty = "<schema xmlns='http://www.w3.org/2001/XMLSchema'/>";
        let read = &mut |name: &str| match name {
            "a.xsd" => Ok(main.into()),
            "b.xsd" | "sub/c.xsd" => Ok(empty.into()),
            _ => Err(format!("there is no {name}")),
        };
        let documents = Sources::gather("a.xsd", read).unwrap().documents();
        let names: Vec<_> = documents.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["xsd:0", "xsd:1", "xsd:2"]);
        let expected = main.replace("'\nb.xsd '", "'xsd:1'\n").replace("sub/c.xsd", "xsd:2");
        assert_eq!(documents[0].1, expected);
    }
}
