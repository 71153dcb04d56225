//! Judging beside the workers what takes long: a worker has others to serve.

use std::sync::LazyLock;

use tokio::sync::Semaphore;

use crate::refusal::{Reason, Refusal, Stage};

/// As many bodies are judged beside the workers at a time as there are cores, in the whole process.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)));

/// Judges on another thread.
pub(super) async fn offload(judge: impl FnOnce() -> Result<(), Refusal> + Send + 'static) -> Result<(), Refusal> {
    let turn = TURNS.acquire().await.map_err(|error| undecided(error.to_string()))?;
    let judged = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        judge()
    });
    judged.await.unwrap_or_else(|error| Err(undecided(error.to_string())))
}

/// Failing to decide lets nobody through.
pub(super) fn undecided(cause: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Stage::Schema, Reason::Overloaded, "the body cannot be checked now; try again").cause(cause)
}
