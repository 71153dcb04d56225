//! `bartizan completions`: shell completions, generated from the command tree, so that they are never out of date.

use std::io::Write;

use clap::Command;
use clap_complete::Shell;

use super::exit_code::{DONE, FAILED};

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan completions bash > ~/.local/share/bash-completion/completions/bartizan")]
pub(super) struct Arguments {
    /// Shell to generate completions for
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints completions for `root`, which is the whole command line.
pub(super) fn run(arguments: &Arguments, mut root: Command) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut root, "bartizan", &mut script);
    // Generated into memory first: clap_complete panics if it cannot write, such as to a closed pipe.
    match std::io::stdout().write_all(&script) {
        Ok(()) => DONE,
        Err(error) => {
            anstream::eprintln!("error: standard output: {error}");
            FAILED
        }
    }
}
