//! Commands, one file each. Messages go to standard error, results to standard output.
//!
//! Exit codes: 0 done, 1 failed at run time, 2 wrong usage or invalid policy.

mod check;
mod completions;
mod demo;
mod explain;
mod init;
mod man;
mod operator;
mod persona;
mod request_defaults;
mod run;
mod test;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// The command did what it was asked.
const DONE: u8 = 0;
/// It failed at run time.
const FAILED: u8 = 1;
/// Wrong usage, or an invalid policy.
const INVALID: u8 = 2;

/// A secure API access proxy: one binary, one policy file, every call on record.
#[derive(Parser)]
#[command(name = "bartizan", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves by a policy file until SIGTERM; SIGHUP reloads it
    Run(run::Arguments),
    /// Shows everything at once on this machine: an API, an issuer, a policy, the proxy
    Demo(demo::Arguments),
    /// Writes a policy for an API that is described in OpenAPI
    Init(init::Arguments),
    /// Tells every problem of a policy file, without starting anything
    Check(check::Arguments),
    /// Walks one request through the chain without sending it, and says why it ends as it does
    Explain(explain::Arguments),
    /// Asks a policy what tests say, and tells what is not as they expect
    Test(test::Arguments),
    /// Makes, rotates, lists and revokes API keys
    Key(operator::key::Arguments),
    /// Revokes credentials, from the next request on
    Revoke(operator::revoke::Arguments),
    /// Registers consumers, suspends them, grants them scopes for a time
    Consumer(operator::consumer::Arguments),
    /// Shows on running nodes that what operators rely on holds
    Drill(operator::drill::Arguments),
    /// Generate completions for a shell
    Completions(completions::Arguments),
    /// Generate a manual page
    Man(man::Arguments),
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let code = match Arguments::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Key(arguments) => operator::key::run(&arguments),
        Command::Revoke(arguments) => operator::revoke::run(&arguments),
        Command::Consumer(arguments) => operator::consumer::run(&arguments),
        Command::Drill(arguments) => operator::drill::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    };
    ExitCode::from(code)
}

/// Whether to write colour to a stream: only to a terminal, and never where `NO_COLOR` is set.
fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
