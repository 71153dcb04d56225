//! What the tests of a policy show, for `bartizan ready`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::coverage::Coverage;
use super::file::File;
use super::{plan, run};
use crate::error_text;
use crate::policy::Policy;
use crate::policy::diagnostic::Problems;
use crate::policy::yaml_file;

/// The end of the names of test files that are looked for beside a policy.
const ENDING: &str = ".test.yaml";

/// What the tests of a policy show.
#[derive(Debug, Default)]
pub(in crate::cli) struct Evidence {
    /// The test files.
    pub(in crate::cli) files: Vec<String>,
    /// Number of tests that passed.
    pub(in crate::cli) passed: usize,
    /// The tests that failed: file, line and name.
    pub(in crate::cli) failed: Vec<(String, usize, String)>,
    /// Statuses of the refusals that tests which passed have seen.
    pub(in crate::cli) refusals: BTreeSet<u16>,
    /// Scopes that opened a route to a caller, or showed it what a mask hides.
    pub(in crate::cli) used_scopes: BTreeSet<String>,
}

/// The files beside a policy whose names end with `.test.yaml` and that name it, by name.
///
/// # Errors
/// The folder cannot be read.
pub(in crate::cli) fn beside(policy: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = policy.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: std::io::Error| format!("{}: {}", folder.display(), error_text::system(&error));
    let own = policy.canonicalize().map_err(failed)?;
    let mut found = Vec::new();
    for entry in folder.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_test = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING));
        if is_test && tests(&path, folder).is_some_and(|named| named == own) {
            found.push(path);
        }
    }
    found.sort();
    // `./x` reads worse than `x`.
    Ok(found.into_iter().map(|path| path.strip_prefix(".").map(Path::to_path_buf).unwrap_or(path)).collect())
}

/// The policy that a test file names.
fn tests(file: &Path, folder: &Path) -> Option<PathBuf> {
    let written = yaml_file::file::<File>(file).ok()?;
    folder.join(written.document.policy?).canonicalize().ok()
}

/// Runs all tests of these files.
///
/// # Errors
/// The problems of a file that cannot be tested, or is about another policy.
pub(in crate::cli) fn of(files: &[PathBuf], policy: &Policy) -> Result<Evidence, Vec<Problems>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| vec![problem(error.to_string())])?;
    let mut evidence = Evidence::default();
    for path in files {
        let file = path.display().to_string();
        let mut plan = plan::read(path)?;
        if plan.rehearsal.policy().digest() != policy.digest() {
            return Err(vec![problem(format!("{file}: its `policy` is another one; give the tests of this policy"))]);
        }
        let (tested, coverage) = runtime.block_on(run::run(&mut plan, None));
        evidence.add(file, tested, coverage);
    }
    Ok(evidence)
}

fn problem(message: String) -> Problems {
    let mut problems = Problems::new();
    problems.error(None, message);
    problems
}

impl Evidence {
    fn add(&mut self, file: String, tested: Vec<run::Tested>, coverage: Coverage) {
        for test in tested {
            if !test.passed() {
                self.failed.push((file.clone(), test.line, test.name));
                continue;
            }
            self.passed += 1;
            self.refusals.extend(test.got.code.map(|_| test.got.status));
        }
        self.used_scopes.append(&mut coverage.used());
        self.files.push(file);
    }
}
