//! `bartizan report`: what records say of a policy.

mod unused;

use clap::Subcommand;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    report: Report,
}

#[derive(Subcommand)]
enum Report {
    /// Report scopes, routes and keys that are granted and were not used, with the policy without them
    Unused(unused::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    match &arguments.report {
        Report::Unused(arguments) => unused::run(arguments),
    }
}
