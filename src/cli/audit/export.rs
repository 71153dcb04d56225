//! `bartizan audit export`: records in the schema of others.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::Value;

use super::input;
use super::progress::Progress;
use crate::audit::{Filter, LineRead, Lines, ocsf, visible_json};
use crate::cli::exit_code::{DONE, FAILED, INVALID};
use crate::cli::output;
use crate::error_text;

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan audit export --ocsf audit.jsonl > events.jsonl
Writes one event of the class API Activity (6003) on a line for each record of a call. What the record says about itself, such as
checkpoints, is left out.")]
pub(super) struct Arguments {
    /// Files of records, plain or gzip; a folder stands for the files in it; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Convert to the Open Cybersecurity Schema Framework
    #[arg(long, required = true)]
    ocsf: bool,
    /// Only records of this consumer
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Only records with this code, or this status, such as 403 or 4xx
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let files = match input::files(&arguments.files) {
        Ok(files) => files,
        Err(message) => {
            output::message(format_args!("error: {message}"));
            return INVALID;
        }
    };
    let filter = Filter { consumer: arguments.consumer.clone(), code: arguments.code.clone(), ..Filter::default() };
    match export(&files, &filter) {
        Ok(0) => DONE,
        Ok(unread) => {
            output::message(format_args!("{} could not be read as records", output::counted(unread, "line")));
            FAILED
        }
        Err(message) => {
            output::message(format_args!("error: {message}"));
            FAILED
        }
    }
}

/// Returns the number of lines that are no records.
fn export(files: &[PathBuf], filter: &Filter) -> Result<usize, String> {
    let read = Arc::new(AtomicU64::new(0));
    let (mut progress, mut unread, mut seen) = (Progress::new(input::size(files)), 0, 0_u64);
    let mut out = BufWriter::new(io::stdout().lock());
    for path in files {
        let failed = |error: &io::Error| format!("{}: {}", path.display(), error_text::system(error));
        let mut lines = Lines::new(input::open(path, &read).map_err(|error| failed(&error))?.text);
        // The last one may have no line break.
        while let Some(LineRead::Whole(line) | LineRead::Torn(line)) = lines.next().map_err(|error| failed(&error))? {
            seen += 1;
            if seen.is_multiple_of(4096) {
                progress.at(read.load(Relaxed), &format!("{seen} lines"));
            }
            if !filter.wants(line) {
                continue;
            }
            let Ok(record) = serde_json::from_slice::<Value>(line) else {
                unread += 1;
                continue;
            };
            let Some(event) = ocsf(&record) else { continue };
            // The JSON of a record has escaped them; reading it has not kept that.
            match writeln!(out, "{}", visible_json(event.to_string())) {
                Ok(()) => {}
                // Its reader, such as `head`, has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(unread),
                Err(error) => return Err(format!("standard output: {}", error_text::system(&error))),
            }
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("standard output: {}", error_text::system(&error)))
        }
        _ => Ok(unread),
    }
}
