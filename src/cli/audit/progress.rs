//! A progress bar on a terminal, for what takes longer than a second.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// After this time the bar is shown; it is drawn again this often.
const FIRST: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(100);

/// Width of the bar in characters.
const WIDTH: u64 = 30;

/// Shows on standard error, if that is a terminal, how much is done.
pub(in crate::cli) struct Progress {
    total: u64,
    started: Instant,
    next: Option<Instant>,
    drawn: bool,
}

impl Progress {
    /// `total` is how much there is to do; nothing is shown if that is zero.
    pub(in crate::cli) fn new(total: u64) -> Self {
        let started = Instant::now();
        let shown = total > 0 && std::io::stderr().is_terminal();
        Self { total, started, next: shown.then(|| started + FIRST), drawn: false }
    }

    /// Draws the bar if it is time. `done` is how much is done.
    pub(in crate::cli) fn at(&mut self, done: u64, what: &str) {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + AGAIN);
        self.drawn = true;
        let share = done.min(self.total).saturating_mul(100) / self.total;
        let filled = usize::try_from(share * WIDTH / 100).unwrap_or_default();
        let left = usize::try_from(WIDTH).unwrap_or_default().saturating_sub(filled);
        let seconds = now.duration_since(self.started).as_secs();
        // If it cannot be written, there is nobody to read it.
        let _ = write!(
            std::io::stderr(),
            "\r{}{} {share:>3} %  {what}  {seconds} s ",
            "█".repeat(filled),
            "░".repeat(left)
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            // Clears the line, for what comes next.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
