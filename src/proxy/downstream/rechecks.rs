//! When what outlasts its request, such as a WebSocket, is decided about again: at every change, and about once a second.
//!
//! One task of the worker notifies all of them. With a timer for each, and each waiting for changes on its own, the waits would cost
//! more than the decisions when there are thousands.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::state::epoch::Epoch;

/// How long it is from one decision to the next, if nothing has changed.
pub(in crate::proxy) const CHECK: Duration = Duration::from_secs(1);
/// How long it is at least from one change that is passed on to the next.
const PAUSE: Duration = Duration::from_millis(50);
/// Without a change, one group is due after each pause: all at once would hold up the requests of the worker.
const GROUPS: usize = 20;
const _: () = assert!(PAUSE.as_millis() * GROUPS as u128 == CHECK.as_millis());

/// The members of a worker that decide again.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Rechecks {
    groups: [Group; GROUPS],
    /// The number of members in all groups.
    members: Cell<usize>,
    /// The group that the next member, or the next task that waits, belongs to.
    next: Cell<usize>,
    /// Notified when there is a first member.
    joined: Notify,
    /// A change is being passed on to one group after the other.
    is_passing: Cell<bool>,
    /// Those who wait until it has reached all; they go on in groups, too.
    waiting: [Notify; GROUPS],
}

#[derive(Debug, Default)]
struct Group {
    /// Something has changed.
    changed: Notify,
    /// [`CHECK`] has passed.
    due: Notify,
}

/// Something that decides again whenever it is notified, until it is dropped.
pub(in crate::proxy) struct Member {
    rechecks: Rc<Rechecks>,
    group: usize,
}

impl Rechecks {
    /// Starts the task of this worker, which passes on the changes of `epoch` from now on.
    pub(super) fn start(epoch: &Epoch) -> Rc<Self> {
        let rechecks = Rc::<Self>::default();
        tokio::task::spawn_local(Rc::clone(&rechecks).run(epoch.changes()));
        rechecks
    }

    /// Adds a member. It decides once by itself: it is not notified of earlier changes.
    pub(in crate::proxy) fn join(self: &Rc<Self>) -> Member {
        let group = self.next.replace((self.next.get() + 1) % GROUPS);
        if self.members.replace(self.members.get() + 1) == 0 {
            self.joined.notify_one();
        }
        Member { rechecks: Rc::clone(self), group }
    }

    /// Waits until the change that is being passed on, if there is one, has reached every member of this worker. Await it before work
    /// that can wait.
    pub(in crate::proxy) async fn passed(&self) {
        let group = self.next.replace((self.next.get() + 1) % GROUPS);
        if let (true, Some(group)) = (self.is_passing.get(), self.waiting.get(group)) {
            group.notified().await;
        }
    }

    /// Notifies the members, until the process ends.
    async fn run(self: Rc<Self>, mut changes: watch::Receiver<()>) {
        for group in self.groups.iter().cycle() {
            while self.members.get() == 0 {
                self.joined.notified().await;
            }
            let pause_ends = Instant::now() + PAUSE;
            match timeout_at(pause_ends, changes.changed()).await {
                Ok(Ok(())) => {
                    self.is_passing.set(true);
                    for group in &self.groups {
                        group.changed.notify_waiters();
                        // Other requests have their turn after each group.
                        yield_now().await;
                    }
                    self.is_passing.set(false);
                    for group in &self.waiting {
                        group.notify_waiters();
                        yield_now().await;
                    }
                    // Many changes in a row are decided about together.
                    sleep_until(pause_ends).await;
                }
                Ok(Err(_)) => return,
                Err(_) => group.due.notify_waiters(),
            }
        }
    }
}

impl Member {
    /// Ready after the next change that is passed on, counted from this call and not from when it is awaited.
    pub(in crate::proxy) fn changed(&self) -> Notified<'_> {
        self.group().changed.notified()
    }

    /// Ready when it is time to decide again although nothing has changed.
    pub(in crate::proxy) fn due(&self) -> Notified<'_> {
        self.group().due.notified()
    }

    fn group(&self) -> &Group {
        let [first, ..] = &self.rechecks.groups;
        self.rechecks.groups.get(self.group).unwrap_or(first)
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

    /// How many of these are ready.
    async fn count(waits: impl IntoIterator<Item = Notified<'_>>) -> usize {
        let mut ready = 0;
        for wait in waits {
            ready += usize::from(timeout(Duration::ZERO, wait).await.is_ok());
        }
        ready
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn all_are_notified_of_a_change_and_without_one_each_within_a_second() {
        let epoch = Epoch::default();
        let rechecks = Rechecks::start(&epoch);
        let members: Vec<_> = (0..3 * GROUPS).map(|_| rechecks.join()).collect();
        let changed = || members.iter().map(Member::changed).collect::<Vec<_>>();
        let [early, late] = [changed(), changed()];
        sleep(SOON).await;
        assert_eq!(count(early).await, 0, "nothing has changed");
        epoch.touch();
        sleep(SOON).await;
        assert_eq!(count(late).await, 3 * GROUPS, "all, at once");

        let due = || members.iter().map(Member::due).collect::<Vec<_>>();
        let [early, late] = [due(), due()];
        sleep(2 * PAUSE).await;
        let few = count(early).await;
        assert!((1..=6).contains(&few), "a few at a time: {few} in two pauses");
        sleep(CHECK).await;
        assert_eq!(count(late).await, 3 * GROUPS, "each within a second");
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn changes_in_a_row_are_passed_on_once_in_a_pause() {
        let epoch = Epoch::default();
        let member = Rechecks::start(&epoch).join();
        let mut notified = 0;
        // Of the first one at once, of the others when the pause ends.
        for _ in 0..50 {
            let wait = member.changed();
            epoch.touch();
            sleep(SOON).await;
            notified += count([wait]).await;
        }
        let wait = member.changed();
        sleep(2 * SOON).await;
        assert_eq!(notified + count([wait]).await, 2);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn passed_returns_once_every_member_was_notified() {
        let epoch = Epoch::default();
        let rechecks = Rechecks::start(&epoch);
        rechecks.passed().await;
        let (notified, saw_all) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let ends: Vec<_> = (0..2 * GROUPS)
            .map(|_| {
                let (rechecks, notified, saw_all) = (Rc::clone(&rechecks), Rc::clone(&notified), Rc::clone(&saw_all));
                tokio::task::spawn_local(async move {
                    rechecks.join().changed().await;
                    notified.set(notified.get() + 1);
                    rechecks.passed().await;
                    saw_all.set(saw_all.get() + usize::from(notified.get() == 2 * GROUPS));
                })
            })
            .collect();
        sleep(SOON).await;
        epoch.touch();
        for end in ends {
            end.await.unwrap();
        }
        assert_eq!(saw_all.get(), 2 * GROUPS, "each waited for all others");
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_member_that_joins_after_all_have_left_is_notified_too() {
        let epoch = Epoch::default();
        let rechecks = Rechecks::start(&epoch);
        drop(rechecks.join());
        sleep(10 * CHECK).await;
        let member = rechecks.join();
        let wait = member.changed();
        epoch.touch();
        sleep(SOON).await;
        assert_eq!(count([wait]).await, 1);
    }
}
