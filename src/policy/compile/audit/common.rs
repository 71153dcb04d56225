//! What several kinds of sinks have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::policy::compile::context::Context;
use crate::policy::tree::At;
use crate::policy::units::Period;

/// The longest `timeout`.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// Where records go by default that a sink refuses: a file in the spool.
#[derive(Clone, Copy)]
pub(super) struct Rejected<'a> {
    pub(super) spool: Option<&'a Path>,
    /// How many sinks of the same kind come before.
    pub(super) number: usize,
}

impl Rejected<'_> {
    pub(super) fn path(self, kind: &str) -> PathBuf {
        let number = if self.number == 0 { String::new() } else { format!("-{}", self.number.saturating_add(1)) };
        self.spool.unwrap_or(Path::new("")).join(format!("rejected-{kind}{number}.jsonl"))
    }
}

/// Reports that the folder of a file or of another folder does not exist.
pub(super) fn parent_exists(context: &mut Context<'_>, path: &Path, message: &str, at: At<'_>) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        context.error(at, message).help("create it first");
    }
}

/// `timeout` of a sink.
pub(in crate::policy::compile) fn timeout(context: &mut Context<'_>, written: Option<Period>, at: At<'_>) -> Duration {
    let timeout = context.period(at, written, context.egress.timeout);
    if timeout > LONGEST_TIMEOUT {
        context.error(at, "a request that takes longer than 5m has failed");
    }
    timeout
}
