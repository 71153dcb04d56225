//! The thread of a sink over the network: takes lines from the spool, and delivers them until they are there.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;

use super::sink_state::State;
use super::sinks::{Delivery, Destination, Failure, Rejections};
use super::source::{Present, Source};
use super::spool::Taken;
use crate::egress::Backoff;

/// First and longest wait before another attempt; each is drawn at random from the upper half of the time.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Longest time that a sink can ask to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How long ending a connection in good order may take.
const CLOSE: Duration = Duration::from_secs(2);

/// One sink's sender; runs on a thread of its own.
pub(super) struct Sender {
    /// The sink, as it is named in messages.
    pub(super) name: String,
    pub(super) destination: Destination,
    pub(super) source: Source,
    pub(super) state: Arc<State>,
    pub(super) runtime: Runtime,
}

impl Sender {
    /// Delivers until the sink is closed, and everything that it has is delivered or an attempt fails.
    pub(super) fn run(mut self) {
        let state = Arc::clone(&self.state);
        let ready = self.source.start(|_| Ok(Present::default()), || state.is_wanted());
        if ready.is_ok_and(|ready| ready.is_some()) {
            self.deliver_all();
        }
        let Self { runtime, destination, source, .. } = &mut self;
        // A sink that does not close the connection in time is not waited for.
        let closed = runtime.block_on(async { tokio::time::timeout(CLOSE, destination.close()).await });
        if closed.unwrap_or_default() {
            source.confirmed();
        }
        // Writes the cursor.
        drop(self.source);
        self.state.ended.store(true, Release);
    }

    /// Delivers lines until the sink is closed.
    fn deliver_all(&mut self) {
        loop {
            let closing = self.state.closing.load(Relaxed);
            match self.source.take(self.destination.max_batch(), closing) {
                Ok(Taken::Lines(lines, count)) => {
                    // The spool keeps what another sink in its place, or the next start, goes on with.
                    if !self.deliver(lines, count) || self.state.is_given_up() {
                        return;
                    }
                }
                Ok(Taken::Nothing) => {}
                Ok(Taken::Ended) => return,
                Err(error) => {
                    self.failed(&crate::error_text::system(&error));
                    if closing {
                        return;
                    }
                    self.pause(RETRY.1);
                }
            }
        }
    }

    /// Delivers lines, trying for as long as it takes. Returns false if it gave up because the sink is being closed; the spool
    /// keeps the lines.
    fn deliver(&mut self, lines: Bytes, count: u64) -> bool {
        let (mut count, mut bytes) = (count, lines.len() as u64);
        let (mut rest, mut backoff) = (lines, Backoff::new(RETRY.0, RETRY.1));
        let unconfirmed = loop {
            self.state.takes(&rest);
            let failure = match self.attempt(rest.clone()) {
                None => return false,
                Some(Delivery::Done { rejected }) => {
                    self.refused(rejected);
                    break 0;
                }
                Some(Delivery::Sent { unconfirmed }) => break unconfirmed,
                Some(Delivery::Partly { rest: left, rejected, failure }) => {
                    self.refused(rejected);
                    if left.len() < rest.len() {
                        backoff.reset();
                    }
                    rest = left;
                    failure
                }
                Some(Delivery::Failed(failure)) => failure,
            };
            let Failure { why, retry_after } = failure;
            self.failed(&why);
            if self.state.closing.load(Relaxed) {
                let lines = self.source.left();
                tracing::warn!(sink = %self.name, lines, "the audit sink cannot be reached; the spool keeps its lines");
                return false;
            }
            self.pause(backoff.pause(retry_after.map(|asked| asked.min(RETRY_AFTER_MAX))));
            // What came meanwhile shows whether it is the lines that are not taken, or the sink that takes nothing.
            let room = self.destination.max_batch().saturating_sub(rest.len());
            if room > 0
                && let Ok(Taken::Lines(lines, more)) = self.source.take(room, true)
            {
                (count, bytes) = (count + more, bytes + lines.len() as u64);
                rest = [rest, lines].concat().into();
            }
        };
        self.source.sent(unconfirmed);
        self.state.has_delivered();
        self.state.records_written.fetch_add(count, Relaxed);
        self.state.bytes_written.fetch_add(bytes, Relaxed);
        if self.state.set_error(None) {
            tracing::info!(sink = %self.name, "the audit sink takes records again");
        }
        true
    }

    /// One attempt; absent if the sink was given up meanwhile.
    fn attempt(&mut self, lines: Bytes) -> Option<Delivery> {
        let Self { runtime, destination, state, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                delivery = destination.deliver(lines) => Some(delivery),
                () = state.given_up() => None,
            }
        })
    }

    /// Waits, but not when the sink is closed.
    fn pause(&self, time: Duration) {
        let state = &self.state;
        self.runtime.block_on(async {
            let closed = async {
                loop {
                    let changed = state.changed.notified();
                    if state.closing.load(Relaxed) {
                        return;
                    }
                    changed.await;
                }
            };
            // Either way, it goes on.
            let _ = tokio::time::timeout(time, closed).await;
        });
    }

    fn refused(&self, Rejections { records, not_kept }: Rejections) {
        self.state.rejected.fetch_add(records, Relaxed);
        self.state.rejected_not_kept.fetch_add(not_kept, Relaxed);
    }

    fn failed(&self, why: &str) {
        self.state.failures.fetch_add(1, Relaxed);
        if self.state.set_error(Some(why.to_owned())) {
            tracing::error!(sink = %self.name, why, "the audit sink does not take records; the spool keeps them");
        }
    }
}
