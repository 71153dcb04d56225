//! `bartizan completions`: shell completions, generated from the command tree, so that they are never out of date.

use clap::Command;
use clap_complete::Shell;

use super::exit_code::DONE;
use super::output;

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
    output::print(&String::from_utf8_lossy(&script));
    DONE
}
