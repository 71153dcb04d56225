//! `bartizan man`: manual pages in roff, generated from the command tree, so that they are never out of date.

use clap::Command;
use clap_mangen::Man;

use super::exit_code::{DONE, FAILED, INVALID};
use super::output;
use crate::policy::diagnostic::did_you_mean;

#[derive(clap::Args)]
#[command(after_help = "Examples: bartizan man > bartizan.1
          bartizan man key rotate | man -l -")]
pub(super) struct Arguments {
    /// Command whose page is printed, such as `key rotate`; default: bartizan itself
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// Prints the page of a command below `root`, which is the whole command line.
pub(super) fn run(arguments: &Arguments, mut root: Command) -> u8 {
    // Gives every subcommand its full name, such as `bartizan-key-rotate`.
    root.build();
    let found = arguments.command.iter().try_fold(&root, |command, name| command.find_subcommand(name));
    let Some(command) = found else {
        let command = arguments.command.join(" ");
        let names: Vec<&str> = root.get_subcommands().map(Command::get_name).collect();
        let help = arguments.command.first().and_then(|first| did_you_mean(first, names.iter().copied()));
        let help = help.unwrap_or_else(|| "see bartizan --help".to_owned());
        output::message(format_args!("error: there is no command `{command}`; {help}"));
        return INVALID;
    };
    let mut page = Vec::new();
    if let Err(error) = Man::new(command.clone()).render(&mut page) {
        output::message(format_args!("error: {error}"));
        return FAILED;
    }
    output::print(&String::from_utf8_lossy(&page));
    DONE
}
