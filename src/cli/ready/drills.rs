//! What a record shows of drills. Only lines that a checkpoint signs are evidence.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use crate::audit::{
    PublicKey, REVOCATION_DRILL_FAILED, REVOCATION_DRILLED, SinkConfig, Terms, Verifier, record_files, visible,
};
use crate::cli::audit::input;
use crate::cli::audit::verify::{Ended, key, verify};
use crate::error_text;
use crate::policy::Policy;

/// What a record shows.
#[derive(Debug)]
pub(super) struct RecordFacts {
    /// Number of files.
    pub(super) files: usize,
    /// Number of lines.
    pub(super) lines: usize,
    /// Whether there was a key to verify signatures with.
    pub(super) has_key: bool,
    /// Why it is not what was written.
    pub(super) broken: Option<String>,
    /// The drills in it.
    pub(super) drills: Vec<Drill>,
}

/// The result of a drill.
#[derive(Debug)]
pub(super) struct Drill {
    pub(super) at: Timestamp,
    /// Digest of what the policy said about authentication.
    pub(super) auth: String,
    /// The operator.
    pub(super) by: String,
    /// Number of nodes.
    pub(super) nodes: u64,
    pub(super) passed: bool,
    /// Whether a checkpoint signs the line.
    pub(super) signed: bool,
}

/// Most bytes of the record that a daemon reads for its checklist.
pub(super) const MOST_OF_DAEMON: u64 = 256 * 1024 * 1024;
/// How much larger compressed files are, about, when they are read.
const COMPRESSION: u64 = 10;

/// The same for a daemon, which reads no more than [`MOST_OF_DAEMON`].
///
/// # Errors
/// Why no record was looked at.
pub(super) fn read_some(policy: &Policy) -> Result<RecordFacts, String> {
    let size = |path: &PathBuf| {
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        if path.extension().is_some_and(|ending| ending == "gz") { size.saturating_mul(COMPRESSION) } else { size }
    };
    let paths = own_files(policy)?;
    let all = paths.iter().map(size).fold(0, u64::saturating_add);
    if all > MOST_OF_DAEMON {
        let mebibytes = all / (1024 * 1024);
        return Err(format!(
            "the record has about {mebibytes} MiB, which is too much to read here; use `bartizan ready`"
        ));
    }
    read(&paths, &[], policy)
}

/// Reads the record in these files or folders, or else in the files of the policy's sinks.
///
/// # Errors
/// Why no record was looked at.
pub(super) fn read(given: &[PathBuf], keys: &[PathBuf], policy: &Policy) -> Result<RecordFacts, String> {
    let paths = if given.is_empty() { own_files(policy)? } else { given.to_vec() };
    if paths.is_empty() {
        return Err("no file of records is here; give those of the nodes with --record".to_owned());
    }
    let files = input::files(&paths)?;
    let mut known = keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    if let Some(own) = &policy.audit().chain.key {
        known.push(PublicKey::from_base64(own.public())?);
    }
    let has_key = !known.is_empty();
    let terms = Terms { keys: known, partial: true, ..Terms::default() };
    let mut found = Vec::new();
    let ended = verify(&files, Verifier::new(terms), |line| found.extend(drill(line)))?;
    let verified = match ended {
        Ended::Whole(verified, _) => verified,
        Ended::Broken(broken, place) => {
            let place = place.map(|place| format!("{}:{}: ", place.file, place.line)).unwrap_or_default();
            let broken = Some(visible(&format!("{place}{}", broken.message)));
            return Ok(RecordFacts { files: files.len(), lines: 0, has_key, broken, drills: Vec::new() });
        }
    };
    let signed_until: BTreeMap<&str, u64> =
        verified.streams.iter().map(|one| (one.stream.as_str(), one.last - one.uncovered)).collect();
    let drills = found.into_iter().map(|(drill, stream, sequence)| {
        let is_covered = signed_until.get(stream.as_str()).is_some_and(|last| sequence <= *last);
        Drill { signed: has_key && is_covered, ..drill }
    });
    let lines = usize::try_from(verified.lines).unwrap_or(usize::MAX);
    Ok(RecordFacts { files: files.len(), lines, has_key, broken: None, drills: drills.collect() })
}

/// The files of the first of the policy's sinks that has some: all have the same lines.
fn own_files(policy: &Policy) -> Result<Vec<PathBuf>, String> {
    for sink in &policy.audit().sinks {
        let SinkConfig::File { path, .. } = sink else { continue };
        let failed = |error| format!("{}: {}", path.display(), error_text::system(&error));
        let files = record_files(path).map_err(failed)?;
        if !files.is_empty() {
            return Ok(files);
        }
    }
    Ok(Vec::new())
}

/// The drill that a line is about, and the line's stream and sequence.
fn drill(line: &[u8]) -> Option<(Drill, String, u64)> {
    // Few lines are: most are not parsed.
    memchr::memmem::find(line, b"\"revocation_drill")?;
    let record: Value = serde_json::from_slice(line).ok()?;
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let number = |pointer: &str| record.pointer(pointer).and_then(Value::as_u64);
    let passed = match text("/event/action")? {
        REVOCATION_DRILLED => true,
        REVOCATION_DRILL_FAILED => false,
        _ => return None,
    };
    let drill = Drill {
        at: text("/@timestamp")?.parse().ok()?,
        auth: text("/bartizan/drill/auth")?.to_owned(),
        by: text("/user/id").unwrap_or("unknown").to_owned(),
        nodes: number("/bartizan/drill/nodes")?,
        passed: passed && text("/event/outcome") == Some("success"),
        signed: false,
    };
    Some((drill, text("/bartizan/stream")?.to_owned(), number("/event/sequence")?))
}
