//! CONTRIBUTING and the map in `src/lib.rs` name files and modules that exist.

use std::path::{Path, PathBuf};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a text puts between backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn contributing_names_files_that_exist_each_once_per_walk() {
    let text = std::fs::read_to_string(repository().join(".github/CONTRIBUTING.md")).unwrap();
    for walk in text.split("\n## How ").skip(1) {
        let title = walk.lines().next().unwrap();
        let rows = walk.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
        let files: Vec<&str> =
            rows.flat_map(|row| row.split('`').step_by(2)).filter(|file| file.ends_with(".rs")).collect();
        assert!(files.len() > 10, "{title}: {files:?}");
        for (position, file) in files.iter().enumerate() {
            assert!(repository().join("src").join(file).is_file(), "{title}: there is no src/{file}");
            assert!(!files[..position].contains(file), "{title}: {file} is named twice");
        }
    }
    for file in code_spans(&text).filter(|span| span.ends_with(".rs") && !span.contains(' ')) {
        let found = ["", "src"].iter().any(|folder| repository().join(folder).join(file).is_file());
        assert!(found, "CONTRIBUTING: there is no {file}");
    }
}

/// The file of a module such as `policy::router`.
fn file_of(module: &str) -> Option<PathBuf> {
    let path = repository().join("src").join(module.replace("::", "/"));
    [path.with_extension("rs"), path.join("mod.rs")].into_iter().find(|file| file.is_file())
}

/// Whether this is a module, or a function of one.
fn exists(path: &str) -> bool {
    file_of(path).is_some()
        || path.rsplit_once("::").is_some_and(|(module, function)| {
            let defines = |file| std::fs::read_to_string(file).unwrap().contains(&format!("fn {function}("));
            file_of(module).is_some_and(defines)
        })
}

#[test]
fn the_map_in_lib_names_modules_that_exist() {
    let lib = std::fs::read_to_string(repository().join("src/lib.rs")).unwrap();
    let map = lib.split("//! # Words").next().unwrap();
    let is_path = |span: &&str| span.chars().all(|c| c.is_ascii_lowercase() || "_:".contains(c));
    let paths: Vec<&str> = code_spans(map).filter(is_path).collect();
    assert!(paths.len() > 15, "{paths:?}");
    for path in paths {
        assert!(exists(path), "there is no {path}");
    }
}
