//! The JSON-Schema-Test-Suite through the proxy: every schema is a route, every instance a request.
//!
//! The suite is not part of this repository: `JSON_SCHEMA_TEST_SUITE` names the folder that has its `tests`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::*;

/// Drafts, by the suite's folder, and what their schemas say in `$schema`.
const DRAFTS: [(&str, &str); 5] = [
    ("draft4", "http://json-schema.org/draft-04/schema#"),
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// Asks for what we don't do on purpose: formats are asserted here, and are annotations in the suite's required part.
const NOT_ASKED: [&str; 1] = ["format.json"];

/// How many schemas `check` refuses, by file: all of them refer to `http://localhost:1234`, or have a meta-schema there.
const REFUSED: [(&str, &str, usize); 8] = [
    ("draft4", "refRemote.json", 8),
    ("draft6", "refRemote.json", 11),
    ("draft7", "refRemote.json", 11),
    ("draft2019-09", "refRemote.json", 15),
    ("draft2019-09", "vocabulary.json", 2),
    ("draft2020-12", "dynamicRef.json", 5),
    ("draft2020-12", "refRemote.json", 15),
    ("draft2020-12", "vocabulary.json", 2),
];

struct Group {
    name: String,
    file: String,
    schema: Value,
    tests: Vec<(String, Value, bool)>,
}

fn groups(folder: &Path, dialect: &str) -> Vec<Group> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut groups = Vec::new();
    for path in files {
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if NOT_ASKED.contains(&file.as_str()) {
            continue;
        }
        let listed: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for group in listed.as_array().unwrap() {
            let schema = match &group["schema"] {
                Value::Object(members) if members.contains_key("$schema") => group["schema"].clone(),
                Value::Object(members) => {
                    let mut members = members.clone();
                    members.insert("$schema".to_owned(), dialect.into());
                    Value::Object(members)
                }
                other => json!({"$schema": dialect, "allOf": [other]}),
            };
            let tests = group["tests"].as_array().unwrap().iter().map(|test| {
                let name = test["description"].as_str().unwrap().to_owned();
                (name, test["data"].clone(), test["valid"].as_bool().unwrap())
            });
            let name = group["description"].as_str().unwrap().to_owned();
            groups.push(Group { name, file: file.clone(), schema, tests: tests.collect() });
        }
    }
    groups
}

#[test]
fn the_suite_is_judged_as_it_says() {
    let Some(suite) = std::env::var_os("JSON_SCHEMA_TEST_SUITE") else {
        // Not a failure anywhere: it is had from a registry, and tests don't hang on one.
        return eprintln!("SKIPPED: JSON_SCHEMA_TEST_SUITE names no folder");
    };
    let upstream = upstream().start();
    let (mut refused, mut wrong, mut count) = (BTreeMap::<(&str, String), usize>::new(), Vec::new(), 0);
    for (draft, dialect) in DRAFTS {
        let mut groups = groups(&Path::new(&suite).join("tests").join(draft), dialect);
        assert!(groups.len() > 100, "{draft} has {} schemas", groups.len());
        let policy = |groups: &[Group]| {
            let files = groups.iter().enumerate();
            files.fold(proxy().before(&upstream), |policy, (number, group)| {
                let file = format!("schemas/{number}.json");
                let asks = format!("public: true, request: {{ json: {file} }}");
                policy.file(&file, group.schema.to_string()).route(&format!("POST /{number}"), &asks)
            })
        };
        // Problems are reported a hundred at a time.
        loop {
            let folder = tempfile::tempdir().unwrap();
            let path = policy(&groups).write(folder.path());
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
                .args(["check", "--format", "json"])
                .arg(&path)
                .output()
                .unwrap();
            let reported: Value = serde_json::from_slice(&output.stdout).unwrap();
            let problems = reported["problems"].as_array().unwrap();
            let mut numbers: Vec<usize> = problems
                .iter()
                .filter(|problem| problem["severity"] == "error")
                .map(|problem| {
                    let file = problem["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
                    file.strip_suffix(".json")
                        .and_then(|number| number.parse().ok())
                        .unwrap_or_else(|| panic!("{problem}"))
                })
                .collect();
            numbers.sort_unstable();
            numbers.dedup();
            if numbers.is_empty() {
                break;
            }
            for number in numbers.into_iter().rev() {
                let group = groups.remove(number);
                eprintln!("refused: {draft} {} {}", group.file, group.name);
                *refused.entry((draft, group.file)).or_default() += 1;
            }
        }
        let proxy = policy(&groups).start();
        let mut client = client(&proxy);
        for (number, group) in groups.iter().enumerate() {
            for (name, data, valid) in &group.tests {
                let status = client.post(&format!("/{number}"), data.to_string()).send().status;
                count += 1;
                if (status == 200) != *valid {
                    wrong.push(format!("{draft} {} {}: {name} ({status})", group.file, group.name));
                }
            }
        }
        proxy.done();
    }
    eprintln!("{count} instances");
    let listed: BTreeMap<_, _> =
        REFUSED.iter().map(|(draft, file, count)| ((*draft, (*file).to_owned()), *count)).collect();
    assert_eq!(wrong, [""; 0]);
    assert_eq!(refused, listed);
}
