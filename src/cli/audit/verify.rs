//! `bartizan audit verify`: whether records are whole and unchanged.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::json;

use super::input;
use super::progress::Progress;
use crate::audit::{Break, LineRead, Lines, PublicKey, Terms, Verified, Verifier, visible, visible_json};
use crate::cli::exit_code::{DONE, FAILED, INVALID};
use crate::cli::output::{self, Format, counted};
use crate::error_text;

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan audit verify --public-key audit.pub audit-*.jsonl audit.jsonl
The public key: openssl pkey -in audit.pem -pubout -out audit.pub
Files are read in the order given: the oldest first. Without a key, only the hash chain is verified: that finds accidents, not
somebody who makes the whole chain again. Lines after the last checkpoint are not signed yet: their number is printed, and somebody else
may have written them; with --strict, there must be none.")]
pub(super) struct Arguments {
    /// Files of records, plain or gzip; a folder stands for the files in it; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// PEM file of a public key that checkpoints may be signed with; can be given several times
    #[arg(long, value_name = "FILE")]
    public_key: Vec<PathBuf>,
    /// `event.hash` of a checkpoint that must be there, such as the last one that another sink has
    #[arg(long, value_name = "HASH")]
    expect: Option<String>,
    /// The record must be there from the first line on; otherwise its beginning may be gone, as after a rotation
    #[arg(long)]
    complete: bool,
    /// Streams may begin in the middle and lack their checkpoints, as in a part of what was collected from several nodes
    #[arg(long, conflicts_with = "complete")]
    partial: bool,
    /// Every line must be signed, as after the processes have stopped
    #[arg(long, requires = "public_key")]
    strict: bool,
    /// Output format of the results
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Where a break is, and what surrounds it.
pub(in crate::cli) struct Place {
    pub(in crate::cli) file: String,
    pub(in crate::cli) line: u64,
    before: Vec<u8>,
    broken: Vec<u8>,
    after: Vec<u8>,
}

/// How it ended.
pub(in crate::cli) enum Ended {
    /// Every line is as it was written; with notes about the files.
    Whole(Verified, Vec<String>),
    /// A line is not, or something is missing.
    Broken(Break, Option<Place>),
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let failed = |message: String| {
        output::message(format_args!("error: {message}"));
        INVALID
    };
    let keys: Result<Vec<_>, _> = arguments.public_key.iter().map(key).collect();
    let keys = match keys {
        Ok(keys) => keys,
        Err(message) => return failed(message),
    };
    let files = match input::files(&arguments.files) {
        Ok(files) => files,
        Err(message) => return failed(message),
    };
    let &Arguments { complete, partial, strict, .. } = arguments;
    let terms = Terms { keys, expect: arguments.expect.clone(), complete, partial, strict };
    match verify(&files, Verifier::new(terms), |_| ()) {
        Ok(Ended::Whole(verified, notes)) => {
            whole(arguments, &verified, &notes);
            DONE
        }
        Ok(Ended::Broken(broken, place)) => {
            broken_record(arguments, &broken, place);
            FAILED
        }
        Err(message) => {
            output::message(format_args!("error: {message}"));
            FAILED
        }
    }
}

/// Reads a public key; an error names the file.
pub(in crate::cli) fn key(path: &PathBuf) -> Result<PublicKey, String> {
    let failed = |why: String| format!("{}: {why}", path.display());
    let pem = std::fs::read_to_string(path).map_err(|error| failed(error_text::system(&error)))?;
    PublicKey::from_pem(&pem).map_err(failed)
}

/// Verifies the lines of these files, and calls `each` with every one that is in its place.
///
/// # Errors
/// A file cannot be read.
pub(in crate::cli) fn verify(
    files: &[PathBuf],
    mut verifier: Verifier,
    mut each: impl FnMut(&[u8]),
) -> Result<Ended, String> {
    let read = Arc::new(AtomicU64::new(0));
    let mut progress = Progress::new(input::size(files));
    let (mut notes, mut seen) = (Vec::new(), 0_u64);
    for path in files {
        let failed = |error: &io::Error| format!("{}: {}", path.display(), error_text::system(error));
        let input = input::open(path, &read).map_err(|error| failed(&error))?;
        let (mut lines, mut number) = (Lines::new(input.text), 0_u64);
        let (mut before, mut last) = (Vec::new(), Vec::new());
        while let Some(line) = lines.next().map_err(|error| failed(&error))? {
            let line = match line {
                LineRead::Whole(line) => line,
                LineRead::Torn(rest) => {
                    notes.push(format!(
                        "{}: the last line, of {} bytes, was not written whole",
                        input.name,
                        rest.len()
                    ));
                    break;
                }
            };
            number += 1;
            seen += 1;
            if let Err(broken) = verifier.line(line) {
                let line = line.to_vec();
                let place = if broken.back == 0 {
                    let after = next(&mut lines);
                    Place { file: input.name, line: number, before: last, broken: line, after }
                } else {
                    Place { file: input.name, line: number.saturating_sub(1), before, broken: last, after: line }
                };
                return Ok(Ended::Broken(broken, Some(place)));
            }
            each(line);
            std::mem::swap(&mut before, &mut last);
            last.clear();
            last.extend_from_slice(line);
            if seen.is_multiple_of(4096) {
                progress.at(read.load(Relaxed), &format!("{seen} lines"));
            }
        }
    }
    Ok(match verifier.finish() {
        Ok(verified) => Ended::Whole(verified, notes),
        Err(broken) => Ended::Broken(broken, None),
    })
}

/// The line after a break, as far as it can be read.
fn next(lines: &mut Lines<Box<dyn io::Read>>) -> Vec<u8> {
    match lines.next() {
        Ok(Some(LineRead::Whole(line) | LineRead::Torn(line))) => line.to_vec(),
        Ok(None) | Err(_) => Vec::new(),
    }
}

fn whole(arguments: &Arguments, verified: &Verified, notes: &[String]) {
    let signed = !arguments.public_key.is_empty();
    let uncovered: u64 = verified.streams.iter().map(|stream| stream.uncovered).sum();
    if let Format::Json = arguments.format {
        let streams: Vec<_> = verified
            .streams
            .iter()
            .map(|stream| {
                json!({"stream": stream.stream, "first": stream.first, "last": stream.last,
                       "uncovered": signed.then_some(stream.uncovered)})
            })
            .collect();
        let result = json!({"whole": true, "lines": verified.lines, "checkpoints": verified.checkpoints,
                            "uncovered": signed.then_some(uncovered), "torn": verified.torn, "streams": streams,
                            "notes": notes});
        output::print(&visible_json(format!("{result:#}\n")));
        return;
    }
    if verified.ends_torn {
        output::message(format_args!("note: the last line was not written whole"));
    }
    for note in notes {
        output::message(format_args!("note: {note}"));
    }
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let mut text = format!(
        "whole: {} in {}, {}{}\n",
        counted(number(verified.lines), "line"),
        counted(verified.streams.len(), "stream"),
        counted(number(verified.checkpoints), "checkpoint"),
        if signed { "" } else { " (signatures were not verified: no --public-key)" },
    );
    for stream in &verified.streams {
        text.push_str(&format!("  {}: {} to {}", visible(&stream.stream), stream.first, stream.last));
        text.push_str(&match stream.uncovered {
            _ if !signed => "\n".to_owned(),
            0 => ", all signed\n".to_owned(),
            uncovered => format!(", the last {uncovered} not signed yet\n"),
        });
    }
    if signed && uncovered > 0 {
        let lines = counted(number(uncovered), "line");
        text.push_str(&format!("not signed: {lines}, which somebody else may have written\n"));
    }
    output::print(&text);
}

fn broken_record(arguments: &Arguments, broken: &Break, place: Option<Place>) {
    if let Format::Json = arguments.format {
        let place = place.map(|place| {
            json!({"file": place.file, "line": place.line, "before": shown(&place.before),
                   "broken": shown(&place.broken), "after": shown(&place.after)})
        });
        let result = json!({"whole": false, "message": broken.message, "place": place});
        output::print(&visible_json(format!("{result:#}\n")));
        return;
    }
    let Some(place) = place else {
        output::print(&format!("broken: {}\n", visible(&broken.message)));
        return;
    };
    let mut text = format!("broken: {}:{}: {}\n", place.file, place.line, visible(&broken.message));
    for (title, line) in [("before", &place.before), ("broken", &place.broken), ("after", &place.after)] {
        if !line.is_empty() {
            text.push_str(&format!("  {title}: {}\n", shown(line)));
        }
    }
    output::print(&text);
}

/// A line for people: without what could act on a terminal, and only its beginning and end, where its place in the chain is.
fn shown(line: &[u8]) -> String {
    const PART: usize = 240;
    let text = visible(&String::from_utf8_lossy(line));
    let (start, end) = (text.floor_char_boundary(PART), text.ceil_char_boundary(text.len().saturating_sub(PART)));
    if start >= end {
        return text;
    }
    format!("{} … {}", text.get(..start).unwrap_or_default(), text.get(end..).unwrap_or_default())
}
