//! A worker's connections to an address, and the requests that wait for one because there may be no more.
//!
//! They are called in the order in which they came, and none that comes later is served before them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::oneshot;

/// The connections that are open, and who waits.
#[derive(Default)]
pub(super) struct Slots {
    open: Cell<usize>,
    /// By their numbers, which grow.
    waiting: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
    next: Cell<u64>,
    /// Those that were called and have not taken a place yet.
    called: Cell<usize>,
}

impl Slots {
    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Whether others have to wait behind those who wait already.
    pub(super) fn are_awaited(&self) -> bool {
        self.called.get() > 0 || !self.waiting.borrow().is_empty()
    }

    /// Lines up.
    pub(super) fn queue(self: &Rc<Self>) -> Turn {
        let number = self.next.replace(self.next.get() + 1);
        let (caller, called) = oneshot::channel();
        self.waiting.borrow_mut().push_back((number, caller));
        Turn { slots: Rc::clone(self), number, called, is_over: false }
    }

    /// Calls the next one: a request has ended, or a connection.
    pub(super) fn call_next(&self) {
        // Not in the condition: it would be borrowed for as long.
        let next = self.waiting.borrow_mut().pop_front();
        if let Some((_, caller)) = next {
            self.called.set(self.called.get() + 1);
            // It is dropped only together with its place in the queue.
            let _ = caller.send(());
        }
    }
}

/// The place of a request that waits. If it gives up after it was called, the next one is.
pub(super) struct Turn {
    slots: Rc<Slots>,
    number: u64,
    called: oneshot::Receiver<()>,
    is_over: bool,
}

impl Turn {
    /// Waits until it is called.
    pub(super) async fn comes(&mut self) {
        // The other end is dropped only once it was sent.
        let _ = (&mut self.called).await;
    }

    /// Ends it: the request has what it was called for.
    pub(super) fn take(&mut self) {
        self.is_over = true;
        self.slots.called.set(self.slots.called.get().saturating_sub(1));
    }

    /// Lines up again before all others: there was nothing after all.
    pub(super) fn again(&mut self) {
        let (caller, called) = oneshot::channel();
        self.called = called;
        self.slots.called.set(self.slots.called.get().saturating_sub(1));
        self.slots.waiting.borrow_mut().push_front((self.number, caller));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut waiting = self.slots.waiting.borrow_mut();
        // Two that were called may line up again in the other order, so that this is not sorted.
        match waiting.iter().position(|(number, _)| *number == self.number) {
            Some(position) => drop(waiting.remove(position)),
            None => {
                drop(waiting);
                self.take();
                self.slots.call_next();
            }
        }
    }
}

/// One open connection, counted until this is dropped. Then the next request that waits may have one.
pub(super) struct Open(Rc<Slots>);

impl Open {
    /// Counts one more.
    pub(super) fn count(slots: &Rc<Slots>) -> Self {
        slots.open.set(slots.open.get() + 1);
        Self(Rc::clone(slots))
    }

    /// Tells that the connection has room for another request.
    pub(super) fn has_room(&self) {
        self.0.call_next();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.call_next();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_called(turn: &mut Turn) -> bool {
        pin!(turn.comes()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn they_are_called_in_their_order_and_nobody_is_forgotten() {
        let slots = Rc::new(Slots::default());
        let [one, other] = [Open::count(&slots), Open::count(&slots)];
        assert!(!slots.are_awaited());
        let [mut first, mut second, mut third, fourth] = std::array::from_fn(|_| slots.queue());
        // One that does not wait any more is not called, and leaves no trace.
        drop(fourth);
        assert_eq!(slots.waiting.borrow().len(), 3);
        assert!(!is_called(&mut first));
        one.has_room();
        assert!(is_called(&mut first) && !is_called(&mut second));
        // There was nothing: it comes before the others.
        first.again();
        assert!(!is_called(&mut first));
        drop(one);
        assert!(is_called(&mut first) && !is_called(&mut second));
        first.take();
        drop(first);
        assert!(!is_called(&mut second));
        // One that was called and is gone makes way for the next.
        drop(other);
        drop(second);
        assert!(is_called(&mut third));
        assert!(slots.are_awaited());
        third.take();
        drop(third);
        assert!(!slots.are_awaited() && slots.open() == 0 && slots.called.get() == 0);
    }
}
