//! Whole descriptions: what becomes of them, and what is told.

use std::path::Path;

use super::*;

/// Reads a description in a folder.
fn read_in(folder: &Path, path: &str, strict: bool) -> (Option<Description>, Problems) {
    let policy = folder.join("policy.yaml");
    if !policy.exists() {
        std::fs::write(&policy, "version: 1\n").unwrap();
    }
    let mut sources = Sources::open_with(&policy, |_| Err(std::env::VarError::NotPresent)).unwrap();
    let source = sources.read(path).unwrap();
    let mut problems = Problems::new();
    let description = Description::read(&mut sources, source, path, strict, &mut problems);
    (description, problems)
}

/// Not a test of ours: tries documents that are not in the repository, named by the environment.
#[test]
#[ignore = "needs documents from elsewhere"]
fn documents_from_elsewhere() {
    let folder = std::env::var("BARTIZAN_DOCUMENTS").unwrap();
    let only = std::env::var("BARTIZAN_ONLY").unwrap_or_default();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "policy.yaml" || !name.contains(&only) {
            continue;
        }
        let start = std::time::Instant::now();
        let (description, problems) = read_in(Path::new(&folder), &name, false);
        let read = start.elapsed();
        let (errors, warnings) =
            problems.iter().partition::<Vec<_>, _>(|p| p.severity == crate::policy::diagnostic::Severity::Error);
        println!(
            "== {name}: {} ops, read {read:?}, {} errors {} warnings shown, {} in all",
            description.as_ref().map_or(0, |d| d.operations.len()),
            errors.len(),
            warnings.len(),
            problems.len()
        );
        if std::env::var("BARTIZAN_TOLD").is_ok() {
            println!("{}", problems.text(false));
        }
        let Some(description) = description else { continue };
        for (what, schemas) in [("requests", &description.requests), ("responses", &description.responses)] {
            let defs = schemas["$defs"].as_object().unwrap();
            let start = std::time::Instant::now();
            let mut all = serde_json::Map::new();
            for name in defs.keys() {
                all.insert(name.clone(), schema::reference(name));
            }
            let whole = serde_json::json!({"$defs": defs, "properties": all, "additionalProperties": false});
            let built = jsonschema::options()
                .offline()
                .should_validate_formats(true)
                .should_ignore_unknown_formats(false)
                .with_pattern_options(jsonschema::PatternOptions::regex())
                .build(&whole);
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let rss = status.lines().find(|l| l.starts_with("VmRSS")).unwrap().to_owned();
            println!(
                "   {what}: {} defs, {} bytes, {:?}, {:?} {rss}",
                defs.len(),
                schemas.to_string().len(),
                start.elapsed(),
                built
                    .as_ref()
                    .err()
                    .map(|e| (e.to_string().chars().take(200).collect::<String>(), e.instance_path().to_string()))
            );
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        println!("   {}", status.lines().find(|l| l.starts_with("VmHWM")).unwrap());
    }
}
