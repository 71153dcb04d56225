//! `bartizan audit`: reads records.

mod input;
mod progress;
mod verify;

use clap::Subcommand;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Verify that records are whole and unchanged
    Verify(verify::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    match &arguments.action {
        Action::Verify(arguments) => verify::run(arguments),
    }
}
