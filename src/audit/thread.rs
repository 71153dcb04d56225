//! The threads of the record. What depends on one learns when a fault ends it: otherwise, everybody would wait for it.

use std::io;
use std::thread::{Builder, Thread, panicking};

use tokio::sync::watch;

/// What messages say of what a thread did that ended by a fault.
pub(super) const DIED: &str = "its thread ended by an internal error; restart the process";

/// Calls a function if the thread panics.
struct OnPanic<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if panicking() {
            (self.0)();
        }
    }
}

/// Starts a thread, and calls `died` on it if `work` panics. The receiver is closed when the thread has ended.
///
/// # Errors
/// The system refuses.
pub(super) fn spawn(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
    mut died: impl FnMut() + Send + 'static,
) -> io::Result<(Thread, watch::Receiver<()>)> {
    let (alive, done) = watch::channel(());
    let thread = Builder::new().name(name.to_owned()).spawn(move || {
        // Dropped in reverse order: those who learn that the thread has ended find what `died` did.
        let _alive = alive;
        let _guard = OnPanic(move || {
            tracing::error!(thread = name, "a thread of the audit record ended by an internal error");
            died();
        });
        work();
    })?;
    Ok((thread.thread().clone(), done))
}
