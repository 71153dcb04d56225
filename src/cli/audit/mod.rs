//! `bartizan audit`: reads records, and prepares where they go.

mod export;
pub(super) mod input;
mod install_template;
pub(super) mod progress;
mod tail;
pub(super) mod verify;

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
    /// Show the last records of a file, or follow a running node
    Tail(Box<tail::Arguments>),
    /// Convert records to the schema of others
    Export(export::Arguments),
    /// Install the templates for the data streams of Elasticsearch or OpenSearch
    InstallTemplate(install_template::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    match &arguments.action {
        Action::Verify(arguments) => verify::run(arguments),
        Action::Tail(arguments) => tail::run(arguments),
        Action::Export(arguments) => export::run(arguments),
        Action::InstallTemplate(arguments) => install_template::run(arguments),
    }
}
