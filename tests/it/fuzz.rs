//! The fuzz targets are whole: what parses input from outside has one, and each has seeds and bounds on time and memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Each input from outside, by the target that reads it.
const READ_BY: &[(&str, &str)] = &[
    ("request heads and bodies, hosts, forwarded addresses, cookies, headers", "connection"),
    ("paths", "path"),
    ("upstream heads and bodies", "upstream"),
    ("tokens, claims, DPoP proofs", "token"),
    ("key sets, metadata, introspection, keys of clients", "issuer"),
    ("client certificates", "certificate"),
    ("content codings", "coding"),
    ("response schemas", "response"),
    ("responses with fields that are hidden", "mask"),
    ("admin bodies, store entries, API keys", "operator"),
    ("policies and quantities", "policy"),
    ("OpenAPI documents", "openapi"),
    ("JSON", "json"),
    ("XML", "xml"),
    ("XML Schema documents", "xsd"),
    ("documents that XML Schema judges", "instance"),
    ("patterns of XML Schema", "pattern"),
    ("numbers, dates and durations", "datatype"),
    ("forms", "form"),
    ("queries", "query"),
];

#[test]
fn every_input_from_outside_has_a_fuzz_target_with_seeds_and_bounds() {
    let targets = names(&folder().join("fuzz_targets"));
    let expected: BTreeSet<String> = READ_BY.iter().map(|(_, target)| (*target).to_owned()).collect();
    assert_eq!(targets, expected);
    assert_eq!(targets, names(&folder().join("seeds")));
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for target in &targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target} is not built");
        let text = fs::read_to_string(folder().join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(
            ["bounded(Bounds::", "bounded(BOUNDS"].iter().any(|call| text.contains(call)),
            "{target} has no bounds"
        );
        let seeds: Vec<_> = fs::read_dir(folder().join("seeds").join(target)).unwrap().map(Result::unwrap).collect();
        assert!(!seeds.is_empty(), "{target} has no seeds");
        for seed in seeds {
            let size = seed.metadata().unwrap().len();
            assert!((1..1024).contains(&size), "{} has {size} bytes", seed.path().display());
        }
    }
}
