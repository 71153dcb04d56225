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
    (".with_stand_in(", &["policy::compile"]),
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

/// What a text puts between backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn contributing_names_files_that_exist_each_once_per_walk() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(".github/CONTRIBUTING.md")).unwrap();
    for walk in text.split("\n## How ").skip(1) {
        let title = walk.lines().next().unwrap();
        let rows = walk.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
        let files: Vec<&str> =
            rows.flat_map(|row| row.split('`').step_by(2)).filter(|file| file.ends_with(".rs")).collect();
        assert!(files.len() > 10, "{title}: {files:?}");
        for (position, file) in files.iter().enumerate() {
            assert!(root.join("src").join(file).is_file(), "{title}: there is no src/{file}");
            assert!(!files[..position].contains(file), "{title}: {file} is named twice");
        }
    }
    for file in code_spans(&text).filter(|span| span.ends_with(".rs") && !span.contains(' ')) {
        let found = ["", "src"].iter().any(|folder| root.join(folder).join(file).is_file());
        assert!(found, "CONTRIBUTING: there is no {file}");
    }
}

#[test]
fn the_map_in_lib_names_modules_that_exist() {
    let known = files();
    let lib = &known.iter().find(|(_, module, _)| module == "lib").unwrap().2;
    let map: String = lib.lines().take_while(|line| *line != "//! # Words").map(|line| format!("{line}\n")).collect();
    let mut count = 0;
    for span in code_spans(&map).filter(|span| span.chars().all(|c| c.is_ascii_lowercase() || "_:".contains(c))) {
        // The last segment may be a function.
        let parent = span.rsplit_once("::").map_or(span, |(parent, _)| parent);
        let exists = |name: &str| known.iter().any(|(_, module, _)| module == name);
        let function = format!("fn {}(", span.rsplit("::").next().unwrap());
        let defined = known.iter().any(|(_, module, code)| module == parent && code.contains(&function));
        assert!(exists(span) || defined, "there is no {span}");
        count += 1;
    }
    assert!(count > 15, "{count}");
}
