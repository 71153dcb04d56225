//! A change that is being made. It is made to its end even if nobody waits for that any more.

use tokio::task::JoinHandle;

use super::store_error::StoreError;

/// A change that is being made, or was.
#[derive(Debug)]
pub(crate) struct Underway {
    task: JoinHandle<Result<(), StoreError>>,
    result: Option<Result<(), StoreError>>,
}

impl Underway {
    pub(super) fn new(task: JoinHandle<Result<(), StoreError>>) -> Self {
        Self { task, result: None }
    }

    /// Waits until it is stored and in force, or has failed. May be dropped, and called again.
    pub(crate) async fn done(&mut self) -> Result<(), StoreError> {
        if let Some(result) = &self.result {
            return result.clone();
        }
        let result = (&mut self.task).await;
        let result = result.unwrap_or_else(|error| Err(StoreError::Unreachable(error.to_string())));
        self.result.insert(result).clone()
    }

    /// What became of it; `None` if nobody has waited for its end.
    pub(crate) fn result(&self) -> Option<&Result<(), StoreError>> {
        self.result.as_ref()
    }
}
