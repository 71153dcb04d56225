//! A timer that is rarely reset: it keeps its time while the deadline moves further away, and compares with the actual
//! deadline when it fires. Setting and clearing a timer for every request would cost more than the waits themselves.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::task::unconstrained;
use tokio::time::Sleep;

/// A lazy timer, created at the first wait.
#[derive(Default)]
pub(crate) struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Is ready once the deadline has passed. `deadline` computes it from the current time: at first to set the timer,
    /// later only when the timer has fired. A deadline may move further away during a wait, never closer.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: impl Fn(Instant) -> Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline(Instant::now()).into())));
        // Not limited by the task's budget: a busy peer must not postpone the timeout.
        while pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready() {
            let now = Instant::now();
            let deadline = deadline(now);
            if deadline <= now {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }

    /// Prepares for another wait whose deadline is `deadline` or later: brings the timer forward if it fires after
    /// that.
    pub(crate) fn not_after(&mut self, deadline: Instant) {
        if let Some(sleep) = &mut self.0
            && sleep.deadline().into_std() > deadline
        {
            sleep.as_mut().reset(deadline.into());
        }
    }
}
