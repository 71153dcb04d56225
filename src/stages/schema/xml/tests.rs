//! The module as a whole: the cases of `tests/cases/xsd`, hostile bodies, SOAP, words, and threads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{Soap, XmlProblem, XmlSchema, XmlSettings, libxml2};
use crate::refusal::{Reason, Refusal};

const XSI: &str = r#"xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance""#;

/// Whether libxml2 is here; CI must have it.
fn is_here() -> bool {
    match libxml2::load() {
        Ok(_) => true,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("skipped: {why}");
            false
        }
    }
}

fn compiled(files: &BTreeMap<String, String>, settings: XmlSettings) -> Result<XmlSchema, XmlProblem> {
    XmlSchema::new("main.xsd", settings, &mut |name| {
        files.get(name).map(|text| text.as_str().into()).ok_or_else(|| format!("there is no `{name}`"))
    })
}

fn schema(text: &str, settings: XmlSettings) -> XmlSchema {
    compiled(&BTreeMap::from([("main.xsd".to_owned(), text.to_owned())]), settings).unwrap()
}

fn check(schema: &XmlSchema, body: impl Into<Bytes>) -> Result<(), Refusal> {
    let body = body.into();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(schema.check(&body))
}

fn in_schema(attributes: &str, content: &str) -> String {
    format!(r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"{attributes}>{content}</xs:schema>"#)
}

/// One part of a case file: its heading, its text, and the line it begins on.
struct Part {
    heading: String,
    text: String,
    place: String,
}

/// The parts of all case files, in order; the README beside them says what they are.
fn parts() -> Vec<Part> {
    const HEADINGS: [&str; 5] = ["schema", "no schema", "file", "valid", "invalid"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/xsd");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let mut parts: Vec<Part> = Vec::new();
    for path in paths {
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            // A heading ends with `:` at the end of the line, or before the document.
            let kind = line.strip_prefix("misjudged ").unwrap_or(line);
            let end = line.find(": ").or_else(|| line.ends_with(':').then(|| line.len() - 1));
            let word = HEADINGS
                .iter()
                .find(|heading| kind.strip_prefix(**heading).is_some_and(|rest| rest.starts_with([' ', ':'])));
            match (word, end) {
                (Some(_), Some(end)) => parts.push(Part {
                    heading: line[..end].to_owned(),
                    text: line[end + 1..].trim().to_owned(),
                    place: format!("{}:{}", path.file_name().unwrap().to_str().unwrap(), number + 1),
                }),
                _ => {
                    let text = &mut parts.last_mut().unwrap().text;
                    text.push('\n');
                    text.push_str(line);
                }
            }
        }
    }
    parts
}

#[test]
fn verdicts_are_those_of_xsd_1_0() {
    if !is_here() {
        return;
    }
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    let (mut documents, mut misjudged) = (0, 0);
    let mut parts = parts().into_iter().peekable();
    let mut current: Option<XmlSchema> = None;
    let mut bad_schema: Option<(bool, String)> = None;
    while let Some(Part { heading, text, place }) = parts.next() {
        let is_misjudged = heading.starts_with("misjudged ");
        let heading = heading.strip_prefix("misjudged ").unwrap_or(&heading);
        let (kind, rest) = match heading.strip_prefix("no schema") {
            Some(rest) => ("no schema", rest),
            None => heading.split_at(heading.find(' ').unwrap_or(heading.len())),
        };
        misjudged += usize::from(is_misjudged);
        if matches!(kind, "schema" | "no schema" | "file") {
            let name = match kind {
                "file" => rest.trim().split(' ').next().unwrap().to_owned(),
                _ => {
                    files.clear();
                    bad_schema = (kind == "no schema").then(|| (is_misjudged, place));
                    "main.xsd".to_owned()
                }
            };
            let attributes =
                if kind == "file" { rest.trim().split_once(' ').map_or("", |(_, rest)| rest) } else { rest };
            files.insert(name, in_schema(&format!(" {attributes}"), &text));
            if parts.peek().is_some_and(|next| next.heading.starts_with("file")) {
                continue;
            }
            let result = compiled(&files, XmlSettings::default());
            match (&bad_schema, result) {
                (None, Ok(schema)) => current = Some(schema),
                (None, Err(problem)) => {
                    wrong.push(format!("the schema before does not compile: {problem:?}"));
                    current = None;
                }
                (Some((is_misjudged, place)), result) => {
                    if result.is_err() == *is_misjudged {
                        wrong.push(format!("{place}: schema compiles: {}", result.is_ok()));
                    }
                }
            }
            continue;
        }
        documents += 1;
        let Some(schema) = &current else { continue };
        let result = check(schema, text.replace("XSI", XSI));
        if let Err(refusal) = &result {
            if refusal.reason() != Reason::SchemaViolation || refusal.violations().is_empty() {
                wrong.push(format!("{place}: {refusal:?}"));
                continue;
            }
            if let Some(path) = Some(rest.trim()).filter(|path| !path.is_empty() && !is_misjudged)
                && refusal.violations()[0].pointer != path
            {
                wrong.push(format!("{place}: not at {path}: {:?}", refusal.violations()));
            }
        }
        if (result.is_ok() == (kind == "valid")) == is_misjudged {
            let errors = result.err().map(|refusal| refusal.violations().to_vec());
            wrong.push(format!("{place}: should be {heading}: {text}\n    {errors:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(documents >= 500, "only {documents} documents");
    eprintln!("{documents} documents, {misjudged} misjudged");
}
