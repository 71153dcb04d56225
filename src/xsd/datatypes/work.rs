//! What judging values may still take.

use std::cell::Cell;

use crate::budget::{Exhausted, Steps};

/// Steps, and bytes of what is kept only while a value is judged. Once there was too little of either, nothing is left.
#[derive(Debug)]
pub(crate) struct Work {
    steps: Cell<Steps>,
    memory: Cell<usize>,
    is_short: Cell<bool>,
}

impl Work {
    /// Returns so much work.
    pub(crate) fn new(steps: Steps, memory: usize) -> Self {
        Self { steps: Cell::new(steps), memory: Cell::new(memory), is_short: Cell::new(false) }
    }

    /// Enough for a value in a schema.
    pub(crate) fn in_schema() -> Self {
        Self::new(Steps::new(1_000_000), 16 << 20)
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
        self.is_short.set(self.is_short.get() || left.is_none());
        left.is_some()
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
