//! When what outlasts its request, such as a WebSocket, is decided about again: at every change, and once a second.
//!
//! One task of the worker tells all of them. With a timer for each, and each waiting for changes on its own, the waits would cost
//! more than the decisions when there are thousands.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::state::epoch::Epoch;

/// How often it is decided at least, if nothing has changed.
pub(in crate::proxy) const CHECK: Duration = Duration::from_secs(1);
/// How long it is at least from one decision to the next, whatever changes.
const PAUSE: Duration = Duration::from_millis(50);
/// Without a change, one group is told after each pause: all at once would hold up the requests of the worker.
const GROUPS: usize = 20;

/// Those of a worker that wait to decide again.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Rechecks {
    groups: [Notify; GROUPS],
    /// Of all groups.
    members: Cell<usize>,
    /// The group of the next member.
    next: Cell<usize>,
    /// Told when there is a member again.
    joined: Notify,
}

/// One that waits. It is told until it is dropped.
pub(in crate::proxy) struct Member {
    rechecks: Rc<Rechecks>,
    group: usize,
}

impl Rechecks {
    /// Those of this worker, told of the changes of `epoch` from now on.
    pub(super) fn start(epoch: &Epoch) -> Rc<Self> {
        let rechecks = Rc::<Self>::default();
        tokio::task::spawn_local(Rc::clone(&rechecks).tell(epoch.changes()));
        rechecks
    }

    /// Adds one. It decides once by itself: what changed before is not told.
    pub(in crate::proxy) fn join(self: &Rc<Self>) -> Member {
        let group = self.next.replace((self.next.get() + 1) % GROUPS);
        if self.members.replace(self.members.get() + 1) == 0 {
            self.joined.notify_one();
        }
        Member { rechecks: Rc::clone(self), group }
    }

    /// Tells them, until the process ends.
    async fn tell(self: Rc<Self>, mut changes: watch::Receiver<()>) {
        for group in self.groups.iter().cycle() {
            while self.members.get() == 0 {
                self.joined.notified().await;
            }
            let pause_ends = Instant::now() + PAUSE;
            match timeout_at(pause_ends, changes.changed()).await {
                Ok(Ok(())) => {
                    self.groups.iter().for_each(Notify::notify_waiters);
                    // Many changes in a row are decided about together.
                    sleep_until(pause_ends).await;
                }
                Ok(Err(_)) => return,
                Err(_) => group.notify_waiters(),
            }
        }
    }
}

impl Member {
    /// Ready when it is to be decided again. Whatever is told from this call on counts, also before it is awaited.
    pub(in crate::proxy) fn told(&self) -> Notified<'_> {
        let [first, ..] = &self.rechecks.groups;
        self.rechecks.groups.get(self.group).unwrap_or(first).notified()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.rechecks.members.set(self.rechecks.members.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    /// How many of these are told by now.
    async fn count(waits: impl IntoIterator<Item = Notified<'_>>) -> usize {
        let mut told = 0;
        for wait in waits {
            told += usize::from(timeout(Duration::ZERO, wait).await.is_ok());
        }
        told
    }

    fn waits(members: &[Member]) -> Vec<Notified<'_>> {
        members.iter().map(Member::told).collect()
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn all_are_told_of_a_change_and_without_one_each_within_a_second() {
        let epoch = Epoch::default();
        let rechecks = Rechecks::start(&epoch);
        let members: Vec<_> = (0..3 * GROUPS).map(|_| rechecks.join()).collect();
        let [early, late] = [waits(&members), waits(&members)];
        sleep(SOON).await;
        assert_eq!(count(early).await, 0, "nothing has changed");
        epoch.touch();
        sleep(SOON).await;
        assert_eq!(count(late).await, 3 * GROUPS, "all, at once");

        let [early, late] = [waits(&members), waits(&members)];
        sleep(2 * PAUSE).await;
        let few = count(early).await;
        assert!((1..=6).contains(&few), "a few at a time: {few} in two pauses");
        sleep(CHECK).await;
        assert_eq!(count(late).await, 3 * GROUPS, "each within a second");
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn changes_in_a_row_are_told_once_in_a_pause() {
        let epoch = Epoch::default();
        let member = Rechecks::start(&epoch).join();
        let mut told = 0;
        // The first one is told at once, the others when the pause ends.
        for _ in 0..50 {
            let wait = member.told();
            epoch.touch();
            sleep(SOON).await;
            told += count([wait]).await;
        }
        let wait = member.told();
        sleep(2 * SOON).await;
        assert_eq!(told + count([wait]).await, 2);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn who_joins_after_all_have_left_is_told_too() {
        let epoch = Epoch::default();
        let rechecks = Rechecks::start(&epoch);
        drop(rechecks.join());
        sleep(10 * CHECK).await;
        let member = rechecks.join();
        let wait = member.told();
        epoch.touch();
        sleep(SOON).await;
        assert_eq!(count([wait]).await, 1);
    }
}
