//! Runs slow work (decoding and validating large bodies) outside the worker threads, which have other requests to serve.
//!
//! As much runs at once as there are cores. A bounded number of jobs waits for its turn, and each for a bounded time; past
//! either bound the request is refused: the check fails closed.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::body::overloaded;
use crate::refusal::{Refusal, Stage};

/// Jobs that wait per core.
const WAITING: usize = 32;
/// How long a job waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

static QUEUE: LazyLock<Queue> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Queue::new(cores, cores.saturating_mul(WAITING))
});

/// A queue for other threads.
struct Queue {
    /// Jobs that may run at once.
    turns: Semaphore,
    /// Jobs that may wait at once.
    places: Semaphore,
}

/// Runs work on another thread.
pub(super) async fn offload<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    QUEUE.run(work).await
}

impl Queue {
    fn new(turns: usize, places: usize) -> Self {
        Self { turns: Semaphore::new(turns), places: Semaphore::new(places) }
    }

    async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = self.turn().await?;
        let done = tokio::task::spawn_blocking(move || {
            // Held until the work has ended, even if the request is gone by then.
            let _turn = turn;
            work()
        });
        done.await.unwrap_or_else(|error| Err(undecided(error.to_string())))
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let _place = self.places.try_acquire().map_err(|_| undecided("too many checks are waiting"))?;
        match tokio::time::timeout(PATIENCE, self.turns.acquire()).await {
            Ok(turn) => turn.map_err(|error| undecided(error.to_string())),
            Err(_) => Err(undecided("the check waited too long for its turn")),
        }
    }
}

/// Refuses a request whose check failed to run: the check fails closed.
pub(super) fn undecided(cause: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    overloaded(Stage::Schema, "the body cannot be checked now; try again later").cause(cause)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::refusal::Reason;

    /// A queue with one turn and one place, and a job that has the turn until the sender is dropped.
    async fn busy() -> (&'static Queue, mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), Refusal>>) {
        let queue: &'static Queue = Box::leak(Box::new(Queue::new(1, 1)));
        let (go, may_go) = mpsc::channel::<()>();
        let running = tokio::spawn(queue.run(move || {
            let _ = may_go.recv();
            Ok(())
        }));
        while queue.turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        (queue, go, running)
    }

    #[tokio::test]
    async fn past_the_queue_work_is_refused_and_what_waits_gets_its_turn() {
        // S9: work that is queued without a bound holds memory without a bound.
        let (queue, go, running) = busy().await;
        let waiting = tokio::spawn(queue.run(|| Ok(1)));
        while queue.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refusal = queue.run(|| Ok(2)).await.unwrap_err();
        assert_eq!((refusal.reason(), refusal.own_members().retry_after), (Reason::Overloaded, Some(1)));
        drop(go);
        assert_eq!((running.await.unwrap(), waiting.await.unwrap()), (Ok(()), Ok(1)));
        assert_eq!((queue.turns.available_permits(), queue.places.available_permits()), (1, 1));
    }

    #[tokio::test]
    async fn who_does_not_wait_any_more_leaves_its_place() {
        let (queue, go, running) = busy().await;
        let waiting = tokio::spawn(queue.run(|| Ok(())));
        while queue.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(queue.places.available_permits(), 1);
        drop(go);
        assert_eq!(running.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_turn_has_a_deadline() {
        let queue = Queue::new(0, 1);
        let refusal = queue.turn().await.unwrap_err();
        assert_eq!(
            (refusal.reason(), refusal.logged()),
            (Reason::Overloaded, Some("the check waited too long for its turn"))
        );
    }
}
