//! The layers of the source: a file imports only from its own layer or lower ones, in no circle, and is not too long.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From top to bottom; parts on one line may use each other where that makes no circle.
const LAYERS: &[&[&str]] = &[
    &["main", "lib"],
    &["cli"],
    &["daemon"],
    &["admin", "rehearsal", "proxy"],
    &["chain"],
    &["runtime"],
    &["policy"],
    &["stages"],
    &["state", "audit", "secrets", "body"],
    &["exchange", "refusal", "telemetry"],
];
const LONGEST: usize = 500;

/// Path, module such as `policy::router`, and text before its tests.
fn files() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = path.strip_prefix(&root).unwrap().with_extension("");
                let module = module.to_str().unwrap().replace('/', "::");
                let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("\n#[cfg(test)]").next().unwrap().to_owned();
                if !module.ends_with("::tests") {
                    found.push((path, module, code));
                }
            }
        }
    }
    found
}

/// Top-level parts that a text imports.
fn imports(code: &str) -> BTreeSet<&str> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
        .filter(|part| !part.is_empty())
        .collect()
}

fn layer(part: &str) -> usize {
    LAYERS.iter().position(|parts| parts.contains(&part)).unwrap_or_else(|| panic!("`{part}` is in no layer"))
}

#[test]
fn imports_go_down() {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, module, code) in files() {
        let own = module.split("::").next().unwrap().to_owned();
        for import in imports(&code) {
            assert!(layer(import) >= layer(&own), "{} imports {import}, which is above it", path.display());
            if import != own {
                uses.entry(own.clone()).or_default().insert(import.to_owned());
            }
        }
    }
    for (part, used) in &uses {
        for other in used {
            let back = uses.get(other).is_some_and(|back| back.contains(part));
            assert!(!back, "{part} and {other} import each other");
        }
    }
}

/// What lets a rehearsal put things in the place of the world, and who may call it by that name.
const STAND_INS: &[(&str, &[&str])] = &[
    ("StandIns", &["policy::compile", "rehearsal"]),
    ("rehearsed(", &["policy::compile", "rehearsal"]),
    (".redigested(", &["policy::compile"]),
    (".given(", &["policy::compile"]),
    (".dated(", &["rehearsal"]),
    (".as_of(", &["rehearsal"]),
    ("ledger.forget(", &["rehearsal"]),
    ("crate::rehearsal", &["rehearsal", "cli::persona", "cli::explain", "cli::test"]),
];

#[test]
fn what_is_served_has_no_stand_ins() {
    let files = files();
    for (word, allowed) in STAND_INS {
        let mut found = false;
        for (path, module, code) in &files {
            let may = allowed.iter().any(|part| module == part || module.starts_with(&format!("{part}::")));
            let says = code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(may || !says, "{} says `{word}`", path.display());
            found |= says;
        }
        assert!(found, "`{word}` is nowhere any more: this test must follow its name");
    }
}

#[test]
fn files_are_short() {
    let mut lengths: Vec<usize> = Vec::new();
    for (path, _, code) in files() {
        let length = code.lines().count();
        assert!(length <= LONGEST, "{} has {length} lines before its tests", path.display());
        lengths.push(length);
    }
    lengths.sort_unstable();
    assert!(lengths[lengths.len() / 2] < 160, "the median is {}", lengths[lengths.len() / 2]);
}

/// The one file that calls C.
const UNSAFE: &str = "stages::schema::xml::libxml2";

#[test]
fn only_the_calls_of_c_are_unsafe() {
    let mut found = 0;
    for (path, module, code) in files() {
        let code: Vec<&str> = code.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
        let is_unsafe = code.iter().any(|line| line.contains("unsafe ") || line.contains("unsafe_code"));
        assert_eq!(is_unsafe, module == UNSAFE, "{}", path.display());
        found += usize::from(is_unsafe);
    }
    assert_eq!(found, 1, "{UNSAFE} is gone");
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let (path, _, code) = files().into_iter().find(|(_, module, _)| module == UNSAFE).unwrap();
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    for (number, line) in lines.iter().enumerate() {
        let is_block = line.contains("unsafe {") || line.starts_with("unsafe impl");
        if !is_block || line.starts_with("//") {
            continue;
        }
        // A block within a statement of a few lines has its comment above the statement.
        let above = lines[number.saturating_sub(3)..number].iter();
        assert!(
            above.clone().any(|line| line.starts_with("// SAFETY:")) || line.contains("// SAFETY:"),
            "{}:{}",
            path.display(),
            number + 1
        );
    }
}
