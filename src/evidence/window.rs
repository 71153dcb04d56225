//! The time that records cover.

use std::time::Duration;

use jiff::Timestamp;

/// From the first record to the last. Their times are texts of one form, which sort like the times.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    ends: Option<(String, String)>,
}

impl Window {
    /// Adds the time of a record.
    pub(crate) fn add(&mut self, at: &str) {
        match &mut self.ends {
            None => self.ends = Some((at.to_owned(), at.to_owned())),
            Some((first, last)) => {
                // Most records come in the order of time.
                if at > last.as_str() {
                    last.clear();
                    last.push_str(at);
                } else if at < first.as_str() {
                    first.clear();
                    first.push_str(at);
                }
            }
        }
    }

    /// The first and the last time, as recorded.
    pub(crate) fn ends(&self) -> Option<(&str, &str)> {
        self.ends.as_ref().map(|(first, last)| (first.as_str(), last.as_str()))
    }

    /// How long it is; zero without records.
    pub(crate) fn length(&self) -> Duration {
        let times = self.ends().and_then(|(first, last)| first.parse().ok().zip(last.parse().ok()));
        times.map_or(Duration::ZERO, |(first, last): (Timestamp, Timestamp)| last.duration_since(first).unsigned_abs())
    }
}
