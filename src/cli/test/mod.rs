//! `bartizan test`: runs tables of requests and expected results through the real chain of a policy, without
//! sockets or a network.
//!
//! `file` is the format of test files, `plan` resolves one against its policy, `run` executes it, `coverage` finds what
//! no test covers, and `report` and `junit` print the results. `evidence` is what the tests of a policy show, for `bartizan ready`.

mod coverage;
pub(super) mod evidence;
mod file;
mod junit;
mod plan;
mod report;
mod run;

use std::path::{Path, PathBuf};

use serde_json::json;

use self::report::Report;
use self::run::Tested;
use super::exit_code::{DONE, FAILED, INVALID};
use super::output::{self, Format, counted};
use crate::error_text;

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan test policy.test.yaml
A file names its `policy`, `callers` and `tests`: `{ name, as: CALLER, request: GET /v1/orders/7, expect: allow }`.
Test keys replace those of the policy's issuers to create credentials; nothing is sent anywhere.
Exit codes: 0 all passed, 1 some failed, 2 a file or its policy has errors.")]
pub(super) struct Arguments {
    /// Test files to run
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Output format of the results
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// File to write the results to as JUnit XML
    #[arg(long, value_name = "PATH")]
    junit: Option<PathBuf>,
    /// Run only tests whose names contain this text; a sequence with a matching step runs whole
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let filter = arguments.filter.as_deref();
    let reports: Vec<Report> = arguments.files.iter().map(|file| runtime.block_on(report_of(file, filter))).collect();
    let tested = || reports.iter().flat_map(|report| &report.tested);
    let passed = tested().filter(|tested| tested.passed()).count();
    let failures = tested().count() - passed;
    let invalid = reports.iter().filter(|report| !report.problems.is_empty()).count();
    match arguments.format {
        Format::Json => {
            let files: Vec<_> = reports.iter().map(Report::json).collect();
            let ok = failures == 0 && invalid == 0;
            let result = json!({"ok": ok, "passed": passed, "failed": failures, "invalid": invalid, "files": files});
            output::print(&format!("{result}\n"));
        }
        Format::Text => {
            for report in &reports {
                report.problems.iter().for_each(output::report);
                if report.problems.is_empty() {
                    output::print(&format!("{}\n", report.text()));
                }
            }
            // "0 passed, 0 failed" would read like a success.
            if passed + failures > 0 {
                output::print(&format!("{passed} passed, {failures} failed\n"));
            }
            if invalid > 0 {
                output::message(format_args!("error: {} cannot be tested; see above", counted(invalid, "file")));
            }
        }
    }
    // All tests of a valid file are run, and it has some.
    if invalid == 0
        && passed + failures == 0
        && let Some(filter) = filter
    {
        output::message(format_args!("error: no test has a name that contains {filter:?}"));
        return INVALID;
    }
    if let Some(path) = &arguments.junit
        && let Err(error) = junit::write(path, &reports)
    {
        return failed(&format!("{} cannot be written: {}", path.display(), error_text::system(&error)));
    }
    match (invalid, failures) {
        (0, 0) => DONE,
        (0, _) => FAILED,
        _ => INVALID,
    }
}

async fn report_of(path: &Path, filter: Option<&str>) -> Report {
    let file = path.display().to_string();
    let mut plan = match plan::read(path) {
        Ok(plan) => plan,
        Err(problems) => return Report { file, problems, tested: Vec::<Tested>::new(), gaps: None },
    };
    let (tested, coverage) = run::run(&mut plan, filter).await;
    let gaps = filter.is_none().then(|| coverage.gaps(plan.rehearsal.policy()));
    Report { file, problems: Vec::new(), tested, gaps }
}

fn failed(error: &dyn std::fmt::Display) -> u8 {
    output::message(format_args!("error: {error}"));
    FAILED
}
