//! Writes of families that wait for each other, so that they are written together.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::state::registry::store_error::StoreError;

/// The families that are to be written.
#[derive(Default)]
pub(super) struct Swaps {
    pub(super) waiting: Mutex<Vec<Arc<Swap>>>,
    /// Held by the one who writes.
    pub(super) writing: Mutex<()>,
}

/// A family that is to take the place of another.
pub(super) struct Swap {
    id: Box<str>,
    pub(super) expected: Option<Vec<u8>>,
    pub(super) stored: Vec<u8>,
    /// Whether it did, once that has been written.
    done: OnceLock<Result<bool, StoreError>>,
}

impl Swap {
    /// Stores these bytes under this id, where the expected ones are there.
    pub(super) fn new(id: &str, expected: Option<Vec<u8>>, stored: Vec<u8>) -> Self {
        Self { id: id.into(), expected, stored, done: OnceLock::new() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl Swaps {
    /// Has a family written, by `write` or by somebody who writes already; returns whether it took the place of the other. `write`
    /// says so of each that it is given. Blocks.
    ///
    /// # Errors
    /// That of the write.
    pub(super) fn add(
        &self,
        swap: Swap,
        write: impl FnOnce(&[Arc<Swap>]) -> Result<Vec<bool>, StoreError>,
    ) -> Result<bool, StoreError> {
        let swap = Arc::new(swap);
        lock(&self.waiting).push(Arc::clone(&swap));
        let writing = lock(&self.writing);
        // The thread that held the lock may have written it.
        if swap.done.get().is_none() {
            let swaps = std::mem::take(&mut *lock(&self.waiting));
            match write(&swaps) {
                Ok(fitting) => swaps.iter().zip(fitting).for_each(|(swap, fits)| drop(swap.done.set(Ok(fits)))),
                Err(error) => swaps.iter().for_each(|swap| drop(swap.done.set(Err(error.clone())))),
            }
        }
        drop(writing);
        let lost = || StoreError::Unusable("the store's task failed".to_owned());
        swap.done.get().cloned().unwrap_or_else(|| Err(lost()))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
