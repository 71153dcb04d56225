//! Signals that the process handles, and what it reports to systemd.

use std::io;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals of a daemon. Install them before the first listener is announced: an earlier signal would end the
/// process.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// What a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalAction {
    /// SIGHUP: read everything again.
    Reload,
    /// SIGTERM or SIGINT: stop.
    Stop,
}

impl Signals {
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    pub(super) async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.hangup.recv() => SignalAction::Reload,
            _ = self.terminate.recv() => SignalAction::Stop,
            _ = self.interrupt.recv() => SignalAction::Stop,
        }
    }

    /// Waits for SIGTERM or SIGINT.
    pub(super) async fn stop(&mut self) {
        while self.next().await != SignalAction::Stop {}
    }
}

/// Reports a state to systemd, if it started this process and asks for reports (`NOTIFY_SOCKET`).
pub(super) fn notify(state: NotifyState<'_>) {
    notify_all(&[state]);
}

/// Reports that a reload has begun, with the timestamp that systemd requires.
pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify_all(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the reload could not be reported to systemd"),
    }
}

fn notify_all(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the state could not be reported to systemd");
    }
}
