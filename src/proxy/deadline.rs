//! A timer that is seldom set: it stays where it is while deadlines move away from it, and looks at the real one when it
//! goes off. Setting and clearing a timer for every request costs more than all that is waited for.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::task::unconstrained;
use tokio::time::Sleep;

/// A timer, made when something is first waited for.
#[derive(Default)]
pub(crate) struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Ready when the deadline has passed. It is asked for with the time now: the first time to set the timer, later only
    /// when the timer has gone off. A deadline may move further away while it is waited for, never closer.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: impl Fn(Instant) -> Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline(Instant::now()).into())));
        // Whatever is left of the task's budget: who keeps it busy does not keep it from the time.
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

    /// Begins to wait for something else, which is due no sooner than `deadline`.
    pub(crate) fn not_after(&mut self, deadline: Instant) {
        if let Some(sleep) = &mut self.0
            && sleep.deadline().into_std() > deadline
        {
            sleep.as_mut().reset(deadline.into());
        }
    }
}
