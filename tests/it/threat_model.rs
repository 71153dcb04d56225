//! Every promise of SECURITY.md is held by tests, and the tests exist (S24).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names of all functions with `#[test]` below a folder.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for part in text.split("#[test]\n").skip(1) {
                let (_, rest) = part.split_once("fn ").unwrap();
                found.insert(rest.split('(').next().unwrap().to_owned());
            }
        }
    }
}

#[test]
fn every_promise_is_held_by_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    tests(&root.join("src"), &mut found);
    tests(&root.join("tests/it"), &mut found);

    let text = fs::read_to_string(root.join(".github/SECURITY.md")).unwrap();
    let heads = ["| promise |", "|---|"];
    let rows = text.lines().filter(|line| line.starts_with('|') && !heads.iter().any(|head| line.starts_with(head)));
    let mut promises = 0;
    for row in rows {
        let [_, promise, held_by, _] = row.split('|').collect::<Vec<_>>()[..] else { panic!("three bars: {row}") };
        let names: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test holds:{promise}");
        for name in names {
            assert!(found.contains(name), "there is no test `{name}`, which holds:{promise}");
        }
        promises += 1;
    }
    assert!(promises > 25, "{promises}");
    for whom in ["Callers", "Upstreams", "Issuers", "Operators and neighbours", "Not promised"] {
        assert!(text.contains(&format!("### {whom}\n")), "{whom}");
    }
}
