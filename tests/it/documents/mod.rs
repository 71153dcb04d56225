//! Well-known descriptions: each becomes a policy that is good, whatever odd places it has, and that lets through what
//! the description itself shows as an example.
//!
//! They are not part of this repository: `OPENAPI_DOCUMENTS` names the folder that has them, as JSON.

mod example;
mod known;
mod message;
mod operation;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bartizan::rehearsal::Rehearsal;
use serde_json::Value;

use self::operation::Operation;

/// The time of all requests, in seconds since 1970.
const NOW: i64 = 1_800_000_000;
/// Most operations of one description whose examples are sent; of more, as many are taken evenly.
const MOST: usize = 120;

fn bartizan(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bartizan")).current_dir(folder).args(arguments).output().unwrap()
}

/// The descriptions, in the order of their names; none where there is no folder.
fn documents() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("OPENAPI_DOCUMENTS") else {
        // Not a failure anywhere: they come from a registry, and tests don't depend on one.
        eprintln!("SKIPPED: OPENAPI_DOCUMENTS names no folder");
        return Vec::new();
    };
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = files.filter(|path| path.extension().is_some_and(|is| is == "json")).collect();
    assert!(!found.is_empty(), "the folder has no document");
    found.sort();
    found
}

/// A folder with a description, and the policy that `init` makes of it.
fn policy_of(document: &Path) -> Result<tempfile::TempDir, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(document, folder.path().join("api.json")).unwrap();
    let init = ["init", "--openapi", "api.json", "--upstream", "http://127.0.0.1:9", "--out", "policy.yaml"];
    succeeds(folder.path(), &init)?;
    Ok(folder)
}

fn succeeds(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = bartizan(folder, arguments);
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<_> = said.lines().filter(|line| line.contains("error")).take(5).collect();
    Err(format!("{}: {}", arguments[0], errors.join(" / ")))
}

/// What does not hold, of every description. They are taken one beside the other: each is a lot of work.
fn failures(of: impl Fn(&Path) -> Vec<String> + Sync) -> Vec<String> {
    let documents = documents();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some(path) = documents.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let name = path.file_name().unwrap().to_string_lossy();
            found.extend(of(path).into_iter().map(|problem| format!("{name} {problem}")));
        }
        found
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// F1, F7, F8
#[test]
fn well_known_descriptions_become_good_policies() {
    let checked = |folder: tempfile::TempDir| succeeds(folder.path(), &["check", "policy.yaml"]);
    let failed = failures(|path| policy_of(path).and_then(checked).err().into_iter().collect());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// An example that is refused is a fault of the proxy, or it violates the description that shows it ([`known`]).
#[test]
fn the_examples_of_well_known_descriptions_pass() {
    let failed = failures(examples);
    assert!(failed.is_empty(), "{} examples\n{}", failed.len(), failed.join("\n"));
}

/// The rehearsal of a description's policy, where contracts alone decide, about answers as about requests.
fn rehearsal(folder: &Path) -> Rehearsal {
    let path = folder.join("policy.yaml");
    let policy = std::fs::read_to_string(&path).unwrap();
    let block = policy.replace("responses: report", "responses: block");
    let open = block.replace("    upstream:", "    mode: { auth: report, scope: report }\n    upstream:");
    std::fs::write(&path, open).unwrap();
    Rehearsal::new(&path).unwrap()
}

/// Every example that is refused and not known, and every known one that passes.
fn examples(path: &Path) -> Vec<String> {
    let folder = match policy_of(path) {
        Ok(folder) => folder,
        Err(problem) => return vec![problem],
    };
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let rehearsal = rehearsal(folder.path());
    let routes: BTreeSet<String> = rehearsal.routes().map(operation::unnamed).collect();
    let all = operation::all(&document);
    let routed: Vec<_> = all.iter().filter(|one| routes.contains(&operation::unnamed(&one.route()))).collect();
    // Every n-th, so that the same ones are taken each time.
    let step = routed.len().div_ceil(MOST).max(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (mut refused, mut count) = (Vec::new(), 0);
    for operation in routed.iter().step_by(step) {
        let (sent, found) = runtime.block_on(judged(&rehearsal, operation));
        count += sent;
        refused.extend(found);
    }
    let name = path.file_name().unwrap().to_string_lossy();
    eprintln!(
        "{name}: {} operations, {} with a route, {count} examples, {} refused",
        all.len(),
        routed.len(),
        refused.len()
    );
    let mut found = known::unknown(&name, refused);
    if count == 0 {
        found.push("none of its examples was sent".to_owned());
    }
    found
}

/// How many messages an operation's examples make, and those that are refused: `GET /path request: why`.
async fn judged(rehearsal: &Rehearsal, operation: &Operation<'_>) -> (usize, Vec<String>) {
    let Some(target) = operation.target() else { return (0, Vec::new()) };
    let (mut count, mut refused) = (0, Vec::new());
    for request in operation.requests(&target) {
        count += 1;
        if let Some(why) = rehearsal.why_refused(&request, NOW).await {
            refused.push(format!("{} request: {why}", operation.name()));
        }
    }
    for (status, headers, body) in operation.responses() {
        count += 1;
        let path = target.split('?').next().unwrap();
        if let Some(why) = rehearsal.why_withheld(operation.method(), path, status, &headers, body).await {
            refused.push(format!("{} {}: {why}", operation.name(), status.as_u16()));
        }
    }
    (count, refused)
}
