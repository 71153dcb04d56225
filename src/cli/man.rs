//! `bartizan man`: manual pages in roff, generated from the command tree, so that they are never out of date.

use std::io::Write;

use clap::Command;
use clap_mangen::Man;

use super::exit_code::{DONE, FAILED, INVALID};

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
        anstream::eprintln!("error: there is no command `{}`; see bartizan --help", arguments.command.join(" "));
        return INVALID;
    };
    let mut page = Vec::new();
    let printed = Man::new(command.clone()).render(&mut page).and_then(|()| std::io::stdout().write_all(&page));
    match printed {
        Ok(()) => DONE,
        Err(error) => {
            anstream::eprintln!("error: standard output: {error}");
            FAILED
        }
    }
}
