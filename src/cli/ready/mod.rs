//! `bartizan ready`: the launch checklist of a policy, each item with its evidence and the line to change.
//!
//! `facts` is what is judged: the policy, what its tests show (`test::evidence`), what its record shows (`drills`), and what a running
//! node says (`node`). `checks` judges it by pure functions; `report` and `html` only render.

mod checks;
mod drills;
mod facts;
mod html;
mod item;
mod node;
mod report;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

use self::drills::RecordFacts;
use self::facts::Facts;
use self::item::LinePlace;
use self::report::Report;
use super::exit_code::{DONE, FAILED, INVALID};
use super::operator::DaemonArguments;
use super::output::{self, Format};
use super::test::evidence::{self, Evidence};
use crate::admin::launch_check::NodeFacts;
use crate::error_text;
use crate::policy::Policy;
use crate::policy::compile;
use crate::policy::diagnostic::{Problem, Problems, Severity};
use crate::policy::written::WrittenPolicy;

/// Why there is no evidence of tests.
const NO_TESTS: &str = "the policy has no tests";

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan ready --policy policy.yaml --record /var/log/bartizan/ --html ready.html
Example: bartizan ready --policy policy.yaml --offline --format json
Items pass, fail, are not applicable, or were not looked at: without a running node and its record, a policy is not ready.
Exit codes: 0 nothing is in the way of a launch, 1 something is, 2 wrong usage, or a policy or test file has errors.")]
pub(super) struct Arguments {
    #[command(flatten)]
    daemon: DaemonArguments,
    /// Test files of the policy; default: those beside it whose names end with `.test.yaml` and that name it
    #[arg(long, value_name = "FILE", num_args = 1..)]
    tests: Vec<PathBuf>,
    /// Files or folders of the nodes' records, the oldest first; default: those that the policy writes to
    #[arg(long, value_name = "FILE", num_args = 1..)]
    record: Vec<PathBuf>,
    /// PEM file of a public key that checkpoints may be signed with, besides the policy's own; can be given several times
    #[arg(long, value_name = "FILE")]
    public_key: Vec<PathBuf>,
    /// Ask no node and read no record; what they would show does not count
    // Not in conflict with --admin: that may be in the environment.
    #[arg(long, conflicts_with = "record")]
    offline: bool,
    /// Output format of the results
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// File to write the results to as one HTML page
    #[arg(long, value_name = "PATH")]
    html: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    made(arguments).unwrap_or_else(|code| code)
}

fn made(arguments: &Arguments) -> Result<u8, u8> {
    let failed = |code: u8, error: &dyn std::fmt::Display| {
        output::message(format_args!("error: {error}"));
        code
    };
    let file = arguments.daemon.policy().ok_or_else(|| failed(INVALID, &"no policy is given; use --policy FILE"))?;
    let (compiled, problems) = compile::compile_written(file);
    let Some((policy, written)) = compiled else {
        output::report(&problems);
        return Err(INVALID);
    };
    let tests = tests(arguments, file, &policy)?;
    let not_asked = || "not asked, because of --offline".to_owned();
    let (record, node) = match arguments.offline {
        true => (Err(not_asked()), Err(not_asked())),
        false => {
            (drills::read(&arguments.record, &arguments.public_key, &policy), node::ask(&arguments.daemon, &policy))
        }
    };
    let report = Report { offline: arguments.offline, ..judged(file, (&policy, &written), tests, record, node) };
    match arguments.format {
        Format::Json => output::print(&format!("{:#}\n", report.json())),
        Format::Text => output::print(&report.text(output::colour(&std::io::stdout()))),
    };
    if let Some(path) = &arguments.html {
        let cannot = |error| format!("{} cannot be written: {}", path.display(), error_text::system(&error));
        std::fs::write(path, html::page(&report)).map_err(|error| failed(FAILED, &cannot(error)))?;
    }
    Ok(if report.is_ready() { DONE } else { FAILED })
}

/// Judges a policy by what was looked at.
fn judged(
    file: &Path,
    (policy, written): (&Policy, &WrittenPolicy),
    tests: Result<Evidence, String>,
    record: Result<RecordFacts, String>,
    node: Result<NodeFacts, String>,
) -> Report {
    let now = Timestamp::now();
    // Nobody reads fractions of a second.
    let now = now.round(jiff::Unit::Second).unwrap_or(now);
    let (document, at) = (&written.document, written.at());
    let items = checks::all(&Facts { policy, document, at, tests, record, node, now });
    let (file, digest) = (file.display().to_string(), policy.digest().to_string());
    Report { file, digest, at: now, offline: false, items }
}

/// The checklist for the admin listener of a daemon, which says itself what it knows. It blocks.
///
/// # Errors
/// The policy file, or one of its tests, has errors.
pub(super) fn of_daemon(file: &Path, node: NodeFacts) -> Result<Value, String> {
    let (compiled, problems) = compile::compile_written(file);
    let (policy, written) = compiled.ok_or_else(|| first("the policy file has errors", problems.iter()))?;
    let tests = match evidence::beside(file) {
        Ok(files) if files.is_empty() => Err(NO_TESTS.to_owned()),
        Ok(files) => {
            let broken =
                |problems: Vec<Problems>| first("a test file has errors", problems.iter().flat_map(Problems::iter));
            Ok(evidence::of(&files, &policy).map_err(broken)?)
        }
        Err(error) => Err(error),
    };
    let record = drills::read_some(&policy);
    Ok(judged(file, (&policy, &written), tests, record, Ok(node)).short_json())
}

/// What is wrong, with the first error of these problems.
fn first<'p>(what: &str, mut problems: impl Iterator<Item = &'p Problem>) -> String {
    let Some(problem) = problems.find(|problem| problem.severity == Severity::Error) else { return what.to_owned() };
    let place = problem.place.clone().map(|place| format!("{}: ", LinePlace::from(place))).unwrap_or_default();
    format!("{what}: {place}{}; `bartizan check` and `bartizan test` show all", problem.message)
}

/// Runs the tests of the policy. The inner error says why there are none.
fn tests(arguments: &Arguments, file: &Path, policy: &Policy) -> Result<Result<Evidence, String>, u8> {
    let files = match arguments.tests.is_empty() {
        false => arguments.tests.clone(),
        true => match evidence::beside(file) {
            Err(error) => return Ok(Err(error)),
            Ok(files) if files.is_empty() => return Ok(Err(NO_TESTS.to_owned())),
            Ok(files) => files,
        },
    };
    evidence::of(&files, policy).map(Ok).map_err(|problems| {
        problems.iter().for_each(output::report);
        INVALID
    })
}
