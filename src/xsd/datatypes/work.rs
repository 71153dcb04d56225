//! What judging values may still take.

use std::cell::{Cell, RefCell};

use crate::budget::{Exhausted, Reservation, Steps};

/// Steps, and bytes of what is kept only while a value is judged. Once there was too little of either, nothing is left.
#[derive(Debug)]
pub(crate) struct Work {
    steps: Cell<Steps>,
    memory: Cell<usize>,
    /// Bytes that are taken, with what was kept before.
    kept: Cell<usize>,
    /// What they are taken from, beyond [`UNCOUNTED`].
    taken: RefCell<Option<Reservation>>,
    lacks_memory: Cell<Option<usize>>,
    is_short: Cell<bool>,
}

/// Bytes that are kept of an instance without being taken from a budget of all instances, and in pieces of which they are taken.
pub(crate) const UNCOUNTED: usize = 64 << 10;

impl Work {
    /// Returns so much work.
    pub(crate) fn new(steps: Steps, memory: usize) -> Self {
        let (lacks_memory, is_short) = (Cell::default(), Cell::default());
        let (steps, memory, kept, taken) = (Cell::new(steps), Cell::new(memory), Cell::new(0), RefCell::default());
        Self { steps, memory, kept, taken, lacks_memory, is_short }
    }

    /// Takes bytes from a budget of all instances, beside those that are `kept` already.
    pub(crate) fn taking_from(self, taken: Option<Reservation>, kept: usize) -> Self {
        Self { kept: Cell::new(kept), taken: RefCell::new(taken), ..self }
    }

    /// Enough for a text that is made for a schema.
    pub(crate) fn in_schema() -> Self {
        Self::new(Steps::new(1_000_000), VALUE)
    }

    /// Takes steps before they are done; `false` if there are too few.
    pub(crate) fn take(&self, steps: usize) -> bool {
        self.within(|left| left.take(steps as u64)).is_some()
    }

    /// Lets a function take steps; `None` if there are too few.
    pub(crate) fn within<T>(&self, work: impl FnOnce(&mut Steps) -> Result<T, Exhausted>) -> Option<T> {
        let mut left = self.steps.get();
        let done = work(&mut left).ok();
        self.steps.set(left);
        self.is_short.set(self.is_short.get() || done.is_none());
        done
    }

    /// Takes bytes before they are kept; `false` if there are too few.
    pub(crate) fn take_memory(&self, bytes: usize) -> bool {
        let left = self.memory.get().checked_sub(bytes);
        self.memory.set(left.unwrap_or(0));
        self.kept.set(self.kept.get().saturating_add(bytes));
        let kept = self.kept.get();
        let counted = self
            .taken
            .borrow_mut()
            .as_mut()
            .is_none_or(|taken| kept <= UNCOUNTED || taken.grow_to(kept.next_multiple_of(UNCOUNTED)).is_ok());
        self.lacks_memory.set(self.lacks_memory.get().or((!counted).then_some(kept)));
        self.is_short.set(self.is_short.get() || left.is_none() || !counted);
        left.is_some() && counted
    }

    /// How many bytes were kept when the budget of all instances had too little left, if that was so.
    pub(crate) fn lacks_memory(&self) -> Option<usize> {
        self.lacks_memory.get()
    }

    /// What bytes are taken from.
    pub(crate) fn give_back(&self) -> Option<Reservation> {
        self.taken.take()
    }

    /// The steps that are left.
    pub(crate) fn steps(&self) -> Steps {
        self.steps.get()
    }

    /// Whether there was too little, so that what was found may be wrong.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.get()
    }
}

/// Most bytes that one value of a schema takes while it is judged.
const VALUE: usize = 16 << 20;
/// Steps that all values of a schema may take together: about a second.
const VALUES: u64 = 40_000_000;

/// What judging all values of a schema may still take: enumerated ones, bounds, defaults and fixed ones.
#[derive(Debug)]
pub(crate) struct ValuesWork {
    steps: Cell<Steps>,
    is_short: Cell<bool>,
}

impl Default for ValuesWork {
    fn default() -> Self {
        Self { steps: Cell::new(Steps::new(VALUES)), is_short: Cell::new(false) }
    }
}

impl ValuesWork {
    /// Lets a function judge a value; `None` if there was too little work left for it.
    pub(crate) fn judge<T>(&self, judge: impl FnOnce(&Work) -> T) -> Option<T> {
        let work = Work::new(self.steps.get(), VALUE);
        let judged = judge(&work);
        self.steps.set(work.steps());
        self.is_short.set(self.is_short.get() || work.is_short());
        (!work.is_short()).then_some(judged)
    }

    /// Why a text is no value of what `of` says.
    pub(crate) fn explain(&self, text: &str, of: &str) -> String {
        if self.is_short.get() {
            return TOO_MUCH.to_owned();
        }
        format!("`{text}` is not a value of {of}")
    }

    /// Whether there was too little for a value.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.get()
    }
}

/// What is wrong with a schema whose values take too much work.
pub(crate) const TOO_MUCH: &str = "the values in the schema are too complex to be checked, all together";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_schema_share_their_work() {
        let values = ValuesWork::default();
        let judge = |steps: usize| values.judge(|work| work.take(steps));
        assert_eq!((judge(VALUES as usize - 10), judge(5)), (Some(true), Some(true)));
        assert_eq!(values.explain("x", "the type"), "`x` is not a value of the type");
        assert_eq!((judge(10), values.is_short()), (None, true));
        assert_eq!(values.explain("x", "the type"), TOO_MUCH);
    }
}
