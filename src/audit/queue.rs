//! A bounded queue from tasks or threads to one thread.
//!
//! Tasks wait for room without blocking their event loop; the thread waits for items until a time that it chooses, and takes
//! all of them at once: under load, one wake-up moves many.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How often a thread that waits for room asks whether to give up.
const ASK: Duration = Duration::from_millis(20);

/// The queue. Closing it refuses new items; those that are in it can still be received.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Something for the receiver.
    arrived: Condvar,
    /// Room for threads.
    room: Condvar,
    /// Room for tasks.
    room_notify: Notify,
    capacity: usize,
    /// How long items may wait for more, once there are some.
    linger: Duration,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
    /// The receiver is to return, even without an item.
    woken: bool,
    /// The receiver waits for an item.
    receiving: bool,
    /// The receiver has items, and waits for more.
    lingering: bool,
    /// Threads that wait for room.
    sending: usize,
}

/// What a receiver gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<T> {
    /// At least one item, oldest first.
    Items(VecDeque<T>),
    /// Nothing: the time has come, or somebody called [`Queue::wake`].
    Nothing,
    /// The queue is closed, and empty.
    Closed,
}

impl<T> Queue<T> {
    /// A queue that holds at most `capacity` items. Once there are some, the receiver waits for more, for `linger` at most and
    /// until the queue is half full: each wake-up then moves many.
    pub(super) fn new(capacity: usize, linger: Duration) -> Self {
        let state = State {
            items: VecDeque::with_capacity(capacity),
            closed: false,
            woken: false,
            receiving: false,
            lingering: false,
            sending: 0,
        };
        Self {
            state: Mutex::new(state),
            arrived: Condvar::new(),
            room: Condvar::new(),
            room_notify: Notify::new(),
            capacity,
            linger,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item if there is room. Returns it otherwise, and if the queue is closed.
    pub(super) fn offer(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed || state.items.len() >= self.capacity {
            return Err(item);
        }
        self.push(&mut state, item);
        Ok(())
    }

    fn push(&self, state: &mut State<T>, item: T) {
        state.items.push_back(item);
        // A wake-up that nobody waits for would still be a system call.
        if state.receiving || (state.lingering && state.items.len() >= self.capacity / 2) {
            self.arrived.notify_one();
        }
    }

    /// Adds an item, waiting for room. Returns it if the queue is closed.
    pub(super) async fn send(&self, item: T) -> Result<(), T> {
        let mut item = item;
        loop {
            // Created before the attempt, so that no room in between is missed.
            let room = self.room_notify.notified();
            match self.offer(item) {
                Ok(()) => return Ok(()),
                Err(refused) if self.lock().closed => return Err(refused),
                Err(refused) => item = refused,
            }
            room.await;
        }
    }

    /// Adds an item, blocking the thread until there is room. Returns it if the queue is closed, or if it is full and
    /// `gives_up` returns true.
    pub(super) fn send_blocking(&self, item: T, gives_up: impl Fn() -> bool) -> Result<(), T> {
        let mut state = self.lock();
        while state.items.len() >= self.capacity && !state.closed {
            if gives_up() {
                return Err(item);
            }
            state.sending += 1;
            (state, _) = self.room.wait_timeout(state, ASK).unwrap_or_else(PoisonError::into_inner);
            state.sending -= 1;
        }
        if state.closed {
            return Err(item);
        }
        self.push(&mut state, item);
        Ok(())
    }

    /// Takes everything that is queued; waits for something at most until `until`, if it is given.
    pub(super) fn receive(&self, until: Option<Instant>) -> Received<T> {
        let mut state = self.lock();
        let mut waited = false;
        while state.items.is_empty() && !state.closed && !state.woken {
            (state.receiving, waited) = (true, true);
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => {
                    state.receiving = false;
                    return Received::Nothing;
                }
                Some(left) => self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.receiving = false;
        }
        if waited && !self.linger.is_zero() {
            state.lingering = true;
            let few = |state: &mut State<T>| !state.closed && !state.woken && state.items.len() < self.capacity / 2;
            let lingered = self.arrived.wait_timeout_while(state, self.linger, few);
            state = lingered.unwrap_or_else(PoisonError::into_inner).0;
            state.lingering = false;
        }
        self.take(state)
    }

    fn take(&self, mut state: MutexGuard<'_, State<T>>) -> Received<T> {
        state.woken = false;
        if state.items.is_empty() {
            return if state.closed { Received::Closed } else { Received::Nothing };
        }
        let items = std::mem::replace(&mut state.items, VecDeque::with_capacity(self.capacity));
        if state.sending > 0 {
            self.room.notify_all();
        }
        drop(state);
        self.room_notify.notify_waiters();
        Received::Items(items)
    }

    /// Makes the receiver return, even without an item.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.arrived.notify_one();
    }

    /// Refuses new items from now on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
        self.room.notify_all();
        self.room_notify.notify_waiters();
    }

    /// Whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Longer than any test waits for anything.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn items(received: Received<u32>) -> Vec<u32> {
        match received {
            Received::Items(items) => items.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_is_bounded_and_everything_is_taken_at_once() {
        let queue = Queue::new(2, Duration::ZERO);
        assert_eq!((queue.offer(1), queue.offer(2), queue.offer(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!(queue.send_blocking(3, || true), Err(3));
        assert_eq!(items(queue.receive(None)), [1, 2]);
        assert_eq!(queue.receive(Some(Instant::now())), Received::Nothing);
        queue.wake();
        assert_eq!(queue.receive(None), Received::Nothing);
        queue.offer(4).unwrap();
        queue.close();
        assert_eq!((queue.offer(5), queue.send_blocking(5, || false)), (Err(5), Err(5)));
        assert_eq!(items(queue.receive(None)), [4], "what is in it can still be received");
        assert_eq!(queue.receive(None), Received::Closed);
    }

    #[test]
    fn items_wait_for_more_until_the_queue_is_half_full() {
        // Nothing here takes as long as the time to linger.
        let queue = Arc::new(Queue::new(6, PATIENCE));
        let receiver = Arc::clone(&queue);
        let received = std::thread::spawn(move || (items(receiver.receive(None)), items(receiver.receive(None))));
        while !queue.lock().receiving {
            std::thread::yield_now();
        }
        for item in 0..3 {
            queue.offer(item).unwrap();
        }
        while !queue.lock().items.is_empty() {
            std::thread::yield_now();
        }
        queue.offer(3).unwrap();
        queue.close();
        assert_eq!(received.join().unwrap(), (vec![0, 1, 2], vec![3]));
    }

    #[tokio::test]
    async fn senders_wait_for_room_and_for_nothing_else() {
        let queue = Arc::new(Queue::new(1, Duration::ZERO));
        queue.offer(0).unwrap();
        let (tasks, threads) = (Arc::clone(&queue), Arc::clone(&queue));
        let task = tokio::spawn(async move { tasks.send(1).await });
        let thread = std::thread::spawn(move || threads.send_blocking(2, || false));
        let mut all = Vec::new();
        while all.len() < 3 {
            if let Received::Items(items) = queue.receive(Some(Instant::now())) {
                all.extend(items);
            }
            tokio::task::yield_now().await;
        }
        assert_eq!((task.await.unwrap(), thread.join().unwrap()), (Ok(()), Ok(())));
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        queue.offer(3).unwrap();
        let waiting = Arc::clone(&queue);
        let task = tokio::spawn(async move { waiting.send(4).await });
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap(), Err(4));
    }
}
