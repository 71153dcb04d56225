//! Runs long validations outside the worker threads, which have other requests to serve.

use std::sync::LazyLock;

use tokio::sync::Semaphore;

use crate::refusal::{Reason, Refusal, Stage};

/// Limits the concurrent validations of the whole process to the number of cores.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)));

/// Runs a validation on another thread.
pub(super) async fn offload(validate: impl FnOnce() -> Result<(), Refusal> + Send + 'static) -> Result<(), Refusal> {
    let turn = TURNS.acquire().await.map_err(|error| undecided(error.to_string()))?;
    let validated = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        validate()
    });
    validated.await.unwrap_or_else(|error| Err(undecided(error.to_string())))
}

/// Refuses a request whose validation failed to run: the check fails closed.
pub(super) fn undecided(cause: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Stage::Schema, Reason::Overloaded, "the body cannot be checked now; try again").cause(cause)
}
