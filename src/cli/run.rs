//! `bartizan run`: the daemon.

use std::path::PathBuf;

use super::exit_code::{DONE, FAILED, INVALID};
use super::log::Log;
use super::output::{message, report};
use super::ready;
use crate::daemon::{Daemon, Setup, StartError, log_problems};

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan run --policy policy.yaml
Signals: SIGHUP reloads the policy. SIGTERM and SIGINT finish the requests in flight, then stop; a second one stops at once.
Logs: BARTIZAN_LOG=debug logs more (off, error, warn, info, debug, trace), BARTIZAN_LOG_FORMAT=json writes them as JSON.")]
pub(super) struct Arguments {
    /// Path of the policy file
    #[arg(long, value_name = "FILE", env = "BARTIZAN_POLICY")]
    policy: PathBuf,
}

pub(super) fn run(arguments: Arguments) -> u8 {
    let log = match Log::from_env("info") {
        Ok(log) => log,
        Err(text) => {
            message(format_args!("error: {text}"));
            return INVALID;
        }
    };
    log.start();
    let served = serve(
        Setup { policy: arguments.policy, readable: None, checklist: ready::of_daemon, bound: Vec::new() },
        &log,
        || (),
    );
    served.err().unwrap_or(DONE)
}

/// Starts a daemon, calls `started`, and serves until it stops. Reports errors, as the log is written, and returns them as
/// exit codes.
pub(super) fn serve(setup: Setup, log: &Log, started: impl FnOnce()) -> Result<(), u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let failed = |error: &dyn std::fmt::Display| {
        match log.json {
            true => tracing::error!("{error}"),
            false => message(format_args!("error: {error}")),
        }
        FAILED
    };
    let runtime = runtime.map_err(|error| failed(&error))?;
    let served = runtime.block_on(async {
        let daemon = match Daemon::start(setup).await {
            Ok(daemon) => daemon,
            Err(StartError::Policy(problems)) => {
                match log.json {
                    true => log_problems(&problems),
                    false => report(&problems),
                }
                return Err(INVALID);
            }
            Err(error @ StartError::System(_)) => return Err(failed(&error)),
        };
        started();
        daemon.run().await.map_err(|error| failed(&error))
    });
    // A policy may be compiling still, which nobody waits for any more.
    runtime.shutdown_background();
    served
}
