//! `catalog`: where the schemas are that URLs identify. Nothing is fetched.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// URLs and prefixes of URLs, each with its file or folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    /// The longest first.
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// As written.
    key: String,
    url: String,
    place: String,
    /// Whether something was found by it, in any copy of the catalog.
    used: Rc<Cell<bool>>,
}

/// A file that the catalog names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) path: String,
    /// The folder that it, and the files that it refers to, may be in. Empty: the policy's.
    pub(crate) folder: String,
}

impl Catalog {
    /// The catalog with these entries, as they are written.
    pub(crate) fn new(written: &BTreeMap<String, String>) -> Self {
        let entry = |(key, place): (&String, &String)| {
            let url = key.trim_end_matches('#').to_owned();
            Entry { key: key.clone(), url, place: place.clone(), used: Rc::default() }
        };
        let mut entries: Vec<Entry> = written.iter().map(entry).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.url.len()));
        Self { entries }
    }

    /// The entries by which nothing was found, as they are written.
    pub(crate) fn unused(&self) -> Vec<String> {
        self.entries.iter().filter(|entry| !entry.used.get()).map(|entry| entry.key.clone()).collect()
    }

    /// The file of a URL without its fragment, or of a namespace, which may end with `#`.
    pub(crate) fn locate(&self, url: &str) -> Option<Located> {
        let url = url.trim_end_matches('#');
        self.entries.iter().find_map(|entry| {
            let located = entry.locate(url)?;
            entry.used.set(true);
            Some(located)
        })
    }
}

impl Entry {
    fn locate(&self, url: &str) -> Option<Located> {
        let Self { url: known, place, .. } = self;
        if !is_prefix(known) {
            return (known == url).then(|| Located { path: plain(place), folder: folder_of(place) });
        }
        let rest = url.strip_prefix(known.as_str())?.split('?').next().unwrap_or_default();
        // Who names a folder opens what is in it, and nothing above.
        let climbs = rest.split('/').any(|step| step == "..") || rest.contains(['\\', '\0']);
        if rest.is_empty() || climbs {
            return None;
        }
        let folder = plain(place.trim_end_matches('/'));
        let path = match folder.as_str() {
            "" if place.starts_with('/') => format!("/{rest}"),
            "" => rest.to_owned(),
            folder => format!("{folder}/{rest}"),
        };
        let folder = if leaves(&folder) { folder } else { String::new() };
        Some(Located { path: path.replace("//", "/"), folder })
    }
}

/// Whether an entry is for all URLs that begin with it.
pub(crate) fn is_prefix(url: &str) -> bool {
    url.ends_with('/')
}

/// The folder that a file which the policy names opens to what it refers to: its own where it is outside the policy's.
pub(crate) fn folder_of(path: &str) -> String {
    let path = plain(path);
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    if leaves(&path) { folder.to_owned() } else { String::new() }
}

/// Whether a path is in a folder, as it is written. Empty: the policy's.
pub(crate) fn is_below(folder: &str, path: &str) -> bool {
    match folder {
        "" => !leaves(path),
        folder => path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') && !rest.contains("/../")),
    }
}

fn leaves(path: &str) -> bool {
    path.starts_with('/') || path.split('/').any(|step| step == "..")
}

/// A path without `.` and, where it does not lead out, `..`.
pub(crate) fn plain(path: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." if steps.last().is_some_and(|last| *last != "..") => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", steps.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F27
    #[test]
    fn a_url_leads_to_its_file_and_a_prefix_to_what_is_in_its_folder() {
        let written = [
            ("https://example.com/schemas/", "schemas/"),
            ("https://example.com/schemas/shared/", "../shared"),
            ("urn:example:b", "one.json"),
            ("https://other.example/one.json#", "vendor/./one.json"),
            ("urn:example:", "urns"),
            ("https://root.example/", "./"),
            ("https://abs.example/", "/srv/schemas/"),
            ("http://www.w3.org/2000/09/xmldsig#", "dsig.xsd"),
        ];
        let catalog =
            Catalog::new(&written.iter().map(|(url, place)| ((*url).to_owned(), (*place).to_owned())).collect());
        for (url, expected) in [
            ("https://example.com/schemas/a.json", Some(("schemas/a.json", ""))),
            ("http://www.w3.org/2000/09/xmldsig#", Some(("dsig.xsd", ""))),
            ("https://example.com/schemas/x/a.json?v=1", Some(("schemas/x/a.json", ""))),
            ("https://example.com/schemas/shared/a.json", Some(("../shared/a.json", "../shared"))),
            ("https://other.example/one.json", Some(("vendor/one.json", ""))),
            ("https://root.example/a.json", Some(("a.json", ""))),
            ("https://abs.example/x/a.json", Some(("/srv/schemas/x/a.json", "/srv/schemas"))),
            ("https://example.com/schemas/../../etc/passwd", None),
            ("https://example.com/schemas/x/../a.json", None),
            ("https://example.com/schemas/..\\a.json", None),
            ("https://example.com/schemas/", None),
            ("https://example.com/other.json", None),
            ("urn:example:b", Some(("one.json", ""))),
            ("urn:example:a", None),
        ] {
            let found = catalog.locate(url);
            let expected = expected.map(|(path, folder)| Located { path: path.to_owned(), folder: folder.to_owned() });
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn a_file_outside_the_folder_of_the_policy_opens_its_own_folder_only() {
        for (path, folder) in [
            ("a.json", ""),
            ("x/a.json", ""),
            ("../x/a.json", "../x"),
            ("/etc/a.json", "/etc"),
            ("x/../../a.json", ".."),
        ] {
            assert_eq!(folder_of(path), folder, "{path}");
        }
        for (folder, path, below) in [
            ("", "a.json", true),
            ("", "x/a.json", true),
            ("", "../a.json", false),
            ("", "/etc/passwd", false),
            ("../x", "../x/a.json", true),
            ("../x", "../xy/a.json", false),
            ("../x", "../../a.json", false),
            ("/etc/x", "/etc/passwd", false),
            ("..", "../../a.json", false),
        ] {
            assert_eq!(is_below(folder, path), below, "{folder} {path}");
        }
    }
}
