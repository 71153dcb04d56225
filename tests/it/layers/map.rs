//! The map of the source in CONTRIBUTING and lib.rs names what exists.

use std::path::Path;

use super::source::sources;

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
    let known = sources();
    let lib = &known.iter().find(|source| source.module == "lib").unwrap().text;
    let map: String = lib.lines().take_while(|line| *line != "//! # Words").map(|line| format!("{line}\n")).collect();
    let mut count = 0;
    for span in code_spans(&map).filter(|span| span.chars().all(|c| c.is_ascii_lowercase() || "_:".contains(c))) {
        // The last segment may be a function.
        let parent = span.rsplit_once("::").map_or(span, |(parent, _)| parent);
        let exists = |name: &str| known.iter().any(|source| source.module == name);
        let function = format!("fn {}(", span.rsplit("::").next().unwrap());
        let defined = known.iter().any(|source| source.module == parent && source.text.contains(&function));
        assert!(exists(span) || defined, "there is no {span}");
        count += 1;
    }
    assert!(count > 15, "{count}");
}
