//! Parses a `$ref` (RFC 3986, RFC 6901): which file, and where in it.
//!
//! Text only: [`super::files`] decides whether the file exists and may be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::policy::catalog::Catalog;
use crate::policy::source::beside;
use crate::stages::schema::json::uri;

/// What is in these is no schema.
const VALUES: [&str; 5] = ["const", "default", "enum", "example", "examples"];
/// The keys in these are names that authors choose.
const LISTS_OF_NAMES: [&str; 6] =
    ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties", "schemas"];

/// The target of a reference.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) file: TargetFile,
    /// JSON pointer, or the name of an anchor.
    pub(super) place: String,
}

/// The file that a reference leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TargetFile {
    /// The one that the reference is in.
    Same,
    /// A path relative to the policy's folder, and the folder that it may be in; none: that of the file with the reference.
    At(String, Option<String>),
    /// What has this URL as its `$id`, unless it is one of the paths.
    Known(String, Option<String>),
}

/// The file that has a reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'o> {
    /// Relative to the policy's folder.
    pub(super) path: &'o str,
    /// The URI of the innermost schema with an `$id` around the reference.
    pub(super) id: Option<&'o str>,
}

/// Parses a reference in a file. The error says what is wrong with it.
pub(super) fn parse(from: Origin<'_>, reference: &str, catalog: &Catalog) -> Result<Target, String> {
    let (file, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "it is not UTF-8 once decoded".to_owned());
        decoded.map(|text| text.into_owned())
    };
    let place = decode(fragment)?;
    let file = decode(file)?.replace('\\', "/");
    if file.is_empty() {
        return Ok(Target { file: TargetFile::Same, place });
    }
    let url = if uri::has_scheme(&file) {
        file.clone()
    } else {
        from.id.map_or_else(String::new, |id| uri::resolve(id, &file))
    };
    if let Some(located) = catalog.locate(&url) {
        return Ok(Target { file: TargetFile::At(located.path, Some(located.folder)), place });
    }
    if !uri::has_scheme(&file) {
        return Ok(Target { file: TargetFile::At(beside(from.path, &file)?, None), place });
    }
    let beside = from.id.and_then(|id| uri::relative(id, &url)).and_then(|path| beside(from.path, &path).ok());
    Ok(Target { file: TargetFile::Known(url, beside), place })
}

/// What the schemas of a file are called.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By JSON pointer: the URI of each schema with an `$id`.
    pub(super) identifiers: BTreeMap<String, String>,
    /// By the innermost schema with an `$id` around them, or the root: the anchors.
    pub(super) anchors: BTreeMap<String, Vec<Anchor>>,
}

/// A named place (2020-12 core, §8.2.2).
#[derive(Debug)]
pub(super) struct Anchor {
    pub(super) name: String,
    /// JSON pointer in the file.
    pub(super) pointer: String,
    pub(super) dynamic: bool,
}

/// Keywords that say what a schema is called.
const NAMING: [&str; 3] = ["$id", "$anchor", "$dynamicAnchor"];

/// What the schemas of a file are called.
pub(super) fn names(document: &Value, path: &str) -> Names {
    let mut found = Names::default();
    if !has_names(document) {
        return found;
    }
    let root = (String::new(), document, Arc::<str>::from(uri::of_file(path)), Arc::<str>::from(""), false);
    let mut left = vec![root];
    while let Some((pointer, value, mut base, mut resource, lists_names)) = left.pop() {
        match value {
            Value::Object(members) => {
                let text = |key: &str| members.get(key).and_then(Value::as_str);
                if let Some(id) = text("$id") {
                    base = uri::resolve(&base, id.split('#').next().unwrap_or_default()).into();
                    resource = pointer.as_str().into();
                    found.identifiers.insert(pointer.clone(), base.to_string());
                }
                for (key, dynamic) in [("$anchor", false), ("$dynamicAnchor", true)] {
                    if let Some(name) = text(key) {
                        let anchor = Anchor { name: name.to_owned(), pointer: pointer.clone(), dynamic };
                        found.anchors.entry(resource.to_string()).or_default().push(anchor);
                    }
                }
                let below = members.iter().filter(|(key, value)| {
                    (value.is_object() || value.is_array()) && (lists_names || !VALUES.contains(&key.as_str()))
                });
                left.extend(below.map(|(key, value)| {
                    let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                    let names = !lists_names && LISTS_OF_NAMES.contains(&key.as_str());
                    (pointer, value, Arc::clone(&base), Arc::clone(&resource), names)
                }));
            }
            Value::Array(items) => {
                let items = items.iter().enumerate();
                left.extend(items.map(|(index, value)| {
                    (format!("{pointer}/{index}"), value, Arc::clone(&base), Arc::clone(&resource), false)
                }));
            }
            _ => {}
        }
    }
    found
}

/// Whether any schema has a name: in most files none has.
fn has_names(document: &Value) -> bool {
    let mut left = vec![document];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(members) => {
                if NAMING.iter().any(|key| members.get(*key).is_some_and(Value::is_string)) {
                    return true;
                }
                left.extend(members.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_a_file_and_a_place() {
        let catalog = Catalog::new(
            &[("https://example.com/", "schemas/"), ("https://out.example/", "../out")]
                .map(|(url, place)| (url.to_owned(), place.to_owned()))
                .into(),
        );
        let at = |path: &str| TargetFile::At(path.to_owned(), None);
        let listed = |path: &str, folder: &str| TargetFile::At(path.to_owned(), Some(folder.to_owned()));
        let known = |url: &str, path: Option<&str>| TargetFile::Known(url.to_owned(), path.map(str::to_owned));
        for (from, reference, file, place) in [
            ("a.yaml", "#/components/schemas/X", Some(TargetFile::Same), "/components/schemas/X"),
            ("a.yaml", "#", Some(TargetFile::Same), ""),
            ("a.yaml", "#/paths/~1orders~1%7Bid%7D/get", Some(TargetFile::Same), "/paths/~1orders~1{id}/get"),
            ("a.yaml", "#/components/schemas/A<B>", Some(TargetFile::Same), "/components/schemas/A<B>"),
            ("a.yaml", "#Name", Some(TargetFile::Same), "Name"),
            ("a.yaml", "b.yaml", Some(at("b.yaml")), ""),
            ("specs/a.yaml", "./b.yaml#/x", Some(at("specs/b.yaml")), "/x"),
            ("specs/v1/a.yaml", "../common/b%20c.yaml#/x", Some(at("specs/common/b c.yaml")), "/x"),
            ("specs/v1/a.yaml", "..\\common\\b.yaml", Some(at("specs/common/b.yaml")), ""),
            ("specs/a.yaml", "../../b.yaml", Some(at("../b.yaml")), ""),
            ("../specs/a.yaml", "../b.yaml", Some(at("../b.yaml")), ""),
            ("../a.yaml", "../../b.yaml", Some(at("../../../b.yaml")), ""),
            ("/etc/specs/a.yaml", "b.yaml", Some(at("/etc/specs/b.yaml")), ""),
            ("a.yaml", "https://example.com/b.json#/x", Some(listed("schemas/b.json", "")), "/x"),
            ("a.yaml", "https://out.example/b.json", Some(listed("../out/b.json", "../out")), ""),
            ("a.yaml", "https://other.example/b.yaml", Some(known("https://other.example/b.yaml", None)), ""),
            ("schemas/id", "b.json", Some(at("schemas/b.json")), ""),
            (
                "schemas/id",
                "https://id.example/x/c.json",
                Some(known("https://id.example/x/c.json", Some("c.json"))),
                "",
            ),
            ("a.yaml", "file:///etc/passwd", Some(known("file:///etc/passwd", None)), ""),
            ("a.yaml", "//example.com/b.yaml", None, ""),
            ("a.yaml", "/etc/passwd", None, ""),
            ("a.yaml", "#/%ff", None, ""),
        ] {
            let id = from.ends_with("/id").then_some("https://id.example/x/y/id");
            let got = parse(Origin { path: from, id }, reference, &catalog);
            match file {
                None => assert!(got.is_err(), "{reference}"),
                Some(file) => assert_eq!(got, Ok(Target { file, place: place.to_owned() }), "{from} {reference}"),
            }
        }
    }
}
