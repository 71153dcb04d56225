//! How commands print their results and messages.
//!
//! `println!` and `eprintln!` panic when they cannot write, such as to a full disk or a closed pipe.

use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;

use super::exit_code::{DONE, FAILED};
use crate::error_text;
use crate::policy::diagnostic::Problems;

/// The output format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Plain text for people
    Text,
    /// JSON for programs
    Json,
}

/// Whether a part of a result could not be written. A process has one standard output, so this belongs to the process.
static INCOMPLETE: AtomicBool = AtomicBool::new(false);

/// Prints a result. Returns whether it was written; if not, [`exit_code`] makes a failure of it, and one message says why. A
/// closed pipe is neither: its reader, such as `head`, has seen enough.
pub(super) fn print(text: &str) -> bool {
    let mut out = anstream::stdout().lock();
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return true };
    if error.kind() != ErrorKind::BrokenPipe && !INCOMPLETE.swap(true, Ordering::Relaxed) {
        message(format_args!("error: standard output: {}", error_text::system(&error)));
    }
    false
}

/// Prints a line for people on standard error. If even that cannot be written, there is nobody left to read it.
pub(super) fn message(line: Arguments<'_>) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Prints the problems of a file on standard error.
pub(super) fn report(problems: &Problems) {
    let _ = write!(anstream::stderr(), "{}", problems.text(colour(&std::io::stderr())));
}

/// Returns the exit code of a command that ends with `code`.
pub(super) fn exit_code(code: u8) -> u8 {
    if code == DONE && INCOMPLETE.load(Ordering::Relaxed) { FAILED } else { code }
}

/// Whether to write colour to a stream: only to a terminal, and never where `NO_COLOR` is set.
pub(super) fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns a count with its noun: `1 route`, `2 routes`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
