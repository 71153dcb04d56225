//! Commands, one file each. Messages go to standard error, results to standard output.

mod audit;
mod check;
mod completions;
mod demo;
mod diff;
mod exit_code;
mod explain;
mod help;
mod init;
mod log;
mod man;
mod operator;
mod output;
mod persona;
mod ready;
mod records;
mod replay;
mod report;
mod request_defaults;
mod run;
mod schema;
mod test;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::exit_code::DONE;

/// A secure API access proxy: one binary, one policy file, every call on record.
#[derive(Parser)]
#[command(
    name = "bartizan",
    version,
    arg_required_else_help = true,
    // Lines are not wrapped, so that examples can be copied.
    term_width = 0,
    after_help = "Example: bartizan demo\n'bartizan COMMAND --help' shows the arguments of a command and an example.\n\
                  'bartizan help TOPIC' shows a reference: policy, codes, admin, metrics or record."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy with a policy file; SIGHUP reloads it, SIGTERM stops it
    Run(run::Arguments),
    /// Start a complete demo on this machine: an API, an issuer, a policy and the proxy
    Demo(demo::Arguments),
    /// Generate a policy from an OpenAPI description
    Init(init::Arguments),
    /// Ask a running proxy whether it is ready, for health checks of containers and scripts
    Health(operator::health::Arguments),
    /// Check a policy file and report every problem
    Check(check::Arguments),
    /// Trace one request through the policy without sending it, and explain the decision
    Explain(explain::Arguments),
    /// Run tests against a policy and report failures
    Test(test::Arguments),
    /// Compare two policies: who may do what more, and less
    Diff(diff::Arguments),
    /// Decide a record again under another policy, and report what changes
    Replay(replay::Arguments),
    /// Report what the policy grants and nobody used
    Report(report::Arguments),
    /// Go through the launch checklist of a policy, with evidence for each item
    Ready(ready::Arguments),
    /// Create, rotate, list and revoke API keys
    Key(operator::key::Arguments),
    /// List, revoke and remove clients of the token service
    Client(operator::client::Arguments),
    /// List and rotate the signing keys of the token service
    SigningKey(operator::signing_key::Arguments),
    /// Revoke credentials from the next request on
    Revoke(operator::revoke::Arguments),
    /// Register and suspend consumers, and grant them scopes for a limited time
    Consumer(operator::consumer::Arguments),
    /// Show how much consumers have used of their limits, and reset it
    Usage(operator::usage::Arguments),
    /// Verify, follow and convert audit records, and prepare where they go
    Audit(audit::Arguments),
    /// Verify on running nodes that revocation works
    Drill(operator::drill::Arguments),
    /// Print the JSON Schema of the policy, for editors
    Schema(schema::Arguments),
    /// Generate completions for a shell
    Completions(completions::Arguments),
    /// Generate a manual page
    Man(man::Arguments),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if let Some(page) = help::page(std::env::args_os().skip(1)) {
        output::print(&page);
        return ExitCode::from(output::exit_code(DONE));
    }
    let code = match Arguments::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Health(arguments) => operator::health::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Ready(arguments) => ready::run(&arguments),
        Command::Key(arguments) => operator::key::run(&arguments),
        Command::Client(arguments) => operator::client::run(&arguments),
        Command::SigningKey(arguments) => operator::signing_key::run(&arguments),
        Command::Revoke(arguments) => operator::revoke::run(&arguments),
        Command::Consumer(arguments) => operator::consumer::run(&arguments),
        Command::Usage(arguments) => operator::usage::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Drill(arguments) => operator::drill::run(&arguments),
        Command::Schema(schema::Arguments {}) => schema::run(),
        Command::Completions(arguments) => completions::run(&arguments, Arguments::command()),
        Command::Man(arguments) => man::run(&arguments, Arguments::command()),
    };
    ExitCode::from(output::exit_code(code))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// Fails unless the command, its arguments and its subcommands are described.
    fn described(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} lacks a summary");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path}: `{}` lacks a description", argument.get_id());
        }
        if !command.has_subcommands() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = after.split("Example").nth(1).unwrap_or_default();
            assert!(examples.contains(path), "{path} lacks an example");
        }
        for inner in command.get_subcommands() {
            described(inner, &format!("{path} {}", inner.get_name()));
        }
    }

    #[test]
    fn every_command_and_argument_is_described() {
        let command = super::Arguments::command();
        described(&command, "bartizan");
        command.debug_assert();
    }
}
