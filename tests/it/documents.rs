//! Well-known descriptions: each becomes a policy that is good, whatever odd places it has.
//!
//! They are not part of this repository: `OPENAPI_DOCUMENTS` names the folder that has them, as JSON.

use std::path::Path;
use std::process::{Command, Output};

fn bartizan(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bartizan")).current_dir(folder).args(arguments).output().unwrap()
}

/// F1, F7, F8
#[test]
fn well_known_descriptions_become_good_policies() {
    let Some(documents) = std::env::var_os("OPENAPI_DOCUMENTS") else {
        // Not a failure anywhere: they come from a registry, and tests don't depend on one.
        return eprintln!("SKIPPED: OPENAPI_DOCUMENTS names no folder");
    };
    let (mut failed, mut count) = (Vec::new(), 0);
    for entry in std::fs::read_dir(&documents).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        count += 1;
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(&path, folder.path().join("api.json")).unwrap();
        let init = ["init", "--openapi", "api.json", "--upstream", "http://127.0.0.1:9", "--out", "policy.yaml"];
        for arguments in [&init[..], &["check", "policy.yaml"]] {
            let output = bartizan(folder.path(), arguments);
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                let errors: Vec<_> = said.lines().filter(|line| line.contains("error")).take(5).collect();
                failed.push(format!("{} {}: {}", path.display(), arguments[0], errors.join(" / ")));
                break;
            }
        }
    }
    assert!(count > 0, "the folder has no document");
    assert!(failed.is_empty(), "{count} documents\n{}", failed.join("\n"));
}
