//! How commands print their results.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;

use super::exit_code::{DONE, FAILED};

/// The output format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Plain text for people
    Text,
    /// JSON for programs
    Json,
}

/// Prints a result. Output is written at once, because `println!` panics when it cannot write, such as to a closed pipe.
pub(super) fn print(text: &str) -> u8 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => DONE,
        Err(error) => {
            anstream::eprintln!("error: standard output: {error}");
            FAILED
        }
    }
}

/// Whether to write colour to a stream: only to a terminal, and never where `NO_COLOR` is set.
pub(super) fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
