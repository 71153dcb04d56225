//! `bartizan run`: the daemon.

use std::path::PathBuf;

use super::exit_code::{DONE, FAILED, INVALID};
use super::output::{message, report};
use crate::daemon::{Daemon, Setup, StartError};
use crate::telemetry;

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan run --policy policy.yaml
Signals: SIGHUP reloads the policy. SIGTERM and SIGINT finish the requests in flight, then stop; a second one stops at once.
Logs: BARTIZAN_LOG=debug logs more, BARTIZAN_LOG_FORMAT=json writes them as JSON.")]
pub(super) struct Arguments {
    /// Path of the policy file
    #[arg(long, value_name = "FILE", env = "BARTIZAN_POLICY")]
    policy: PathBuf,
}

pub(super) fn run(arguments: Arguments) -> u8 {
    telemetry::start_logs();
    match serve(Setup { policy: arguments.policy, readable: None, bound: Vec::new() }, |daemon| {
        for (address, tls) in daemon.addresses() {
            let scheme = if tls { "https" } else { "http" };
            message(format_args!("listening on {scheme}://{address}"));
        }
        for place in daemon.admin_places() {
            message(format_args!("admin on {place}"));
        }
    }) {
        Ok(()) => DONE,
        Err(code) => code,
    }
}

/// Starts a daemon, calls `started`, and serves until it stops. Prints errors and returns them as exit codes.
pub(super) fn serve(setup: Setup, started: impl FnOnce(&Daemon)) -> Result<(), u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let runtime = runtime.map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let daemon = match Daemon::start(setup).await {
            Ok(daemon) => daemon,
            Err(StartError::Policy(problems)) => {
                report(&problems);
                return Err(INVALID);
            }
            Err(error @ StartError::System(_)) => return Err(failed(&error)),
        };
        started(&daemon);
        daemon.run().await.map_err(|error| failed(&error))
    })
}

fn failed(error: &dyn std::fmt::Display) -> u8 {
    message(format_args!("error: {error}"));
    FAILED
}
