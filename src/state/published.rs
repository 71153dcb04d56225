//! A value that is replaced as a whole, and read far more often than replaced.
//!
//! A reader keeps what it saw last and looks at one counter to know whether that is still current, so reading takes no
//! lock until there is something new.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The value in force. Shared by all threads.
#[derive(Debug)]
pub(crate) struct Published<T> {
    generation: AtomicU64,
    current: Mutex<Arc<T>>,
}

impl<T> Published<T> {
    /// Publishes the first value.
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self { generation: AtomicU64::new(1), current: Mutex::new(value) }
    }

    /// Replaces the value.
    pub(crate) fn replace(&self, value: Arc<T>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = value;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Returns the value in force. Takes the lock, so do not use it on the hot path.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One thread's view of a published value, with what that thread derives from it.
pub(crate) struct View<T, V> {
    published: Arc<Published<T>>,
    seen: Cell<u64>,
    view: RefCell<std::rc::Rc<V>>,
}

impl<T, V> View<T, V> {
    /// Returns a view of the value in force.
    pub(crate) fn new(published: Arc<Published<T>>, derive: impl FnOnce(Arc<T>) -> V) -> Self {
        let seen = Cell::new(published.generation.load(Ordering::Acquire));
        let view = RefCell::new(std::rc::Rc::new(derive(published.current())));
        Self { published, seen, view }
    }

    /// Returns the view of the value in force, derived again from the old view if the value has been replaced.
    pub(crate) fn current(&self, derive: impl FnOnce(Arc<T>, &V) -> V) -> std::rc::Rc<V> {
        let generation = self.published.generation.load(Ordering::Acquire);
        if self.seen.replace(generation) != generation {
            let new = std::rc::Rc::new(derive(self.published.current(), &self.view.borrow()));
            self.view.replace(new);
        }
        std::rc::Rc::clone(&self.view.borrow())
    }

    /// Returns whether this view is that of the value in force.
    pub(crate) fn is_current(&self, view: &std::rc::Rc<V>) -> bool {
        let generation = self.published.generation.load(Ordering::Acquire);
        self.seen.get() == generation && std::rc::Rc::ptr_eq(&self.view.borrow(), view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_derived_once_a_replacement() {
        let published = Arc::new(Published::new(Arc::new(1)));
        let view = View::new(Arc::clone(&published), |value| *value * 10);
        let derived = Cell::new(0);
        let read = || {
            *view.current(|value, before| {
                derived.set(derived.get() + 1);
                *value * 10 + before
            })
        };
        assert_eq!((read(), read(), derived.get()), (10, 10, 0));
        published.replace(Arc::new(2));
        assert_eq!((read(), read(), derived.get()), (30, 30, 1));
    }
}
