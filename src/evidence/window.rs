//! The time that records cover.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

/// A time without records that is longer than this does not count as covered.
const HOLE: Duration = Duration::from_secs(86_400);
/// Most hours that are counted separately: more than ten years.
const MOST_HOURS: usize = 100_000;
/// Bytes of a time up to its hour, as in `2026-11-28T10`.
const HOUR: usize = 13;

/// From the first record to the last, and the hours that have any. Their times are texts of one form, which sort like the times.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    ends: Option<(String, String)>,
    hours: BTreeSet<Box<str>>,
}

impl Window {
    /// Adds the time of a record.
    pub(crate) fn add(&mut self, at: &str) {
        if let Some(hour) = at.get(..HOUR)
            && !self.hours.contains(hour)
            && self.hours.len() < MOST_HOURS
        {
            self.hours.insert(hour.into());
        }
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

    /// How much of it is covered: without the holes that are longer than a day.
    pub(crate) fn covered(&self) -> Duration {
        let holes: Duration = self.holes().filter(|hole| *hole > HOLE).sum();
        self.length().saturating_sub(holes)
    }

    /// The longest time without a record, in whole hours; zero without a hole.
    pub(crate) fn longest_hole(&self) -> Duration {
        self.holes().max().unwrap_or_default()
    }

    /// Whole hours without a record, between two that have one.
    fn holes(&self) -> impl Iterator<Item = Duration> {
        let start = |hour: &str| format!("{hour}:00:00Z").parse::<Timestamp>().ok();
        let hours = self.hours.iter().filter_map(move |hour| start(hour));
        let next = hours.clone().skip(1);
        hours
            .zip(next)
            .map(|(one, next)| next.duration_since(one).unsigned_abs().saturating_sub(Duration::from_secs(3600)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_without_records_are_not_covered() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        for (times, length, covered, hole) in [
            (&[][..], 0, 0, 0),
            (&["2026-11-01T10:00:00.000Z"], 0, 0, 0),
            (&["2026-11-01T10:00:00.000Z", "2026-11-02T10:00:00.000Z"], 24, 24, 23),
            (&["2026-11-01T10:00:00.000Z", "2026-11-08T10:00:00.000Z"], 168, 1, 167),
            (&["2026-11-08T10:00:00.000Z", "2026-11-01T10:00:00.000Z", "2026-11-07T10:00:00.000Z"], 168, 25, 143),
            (&["then", "2026-11-01T10:00:00.000Z"], 0, 0, 0),
        ] {
            let mut window = Window::default();
            times.iter().for_each(|at| window.add(at));
            let is = (window.length(), window.covered(), window.longest_hole());
            assert_eq!(is, (hours(length), hours(covered), hours(hole)), "{times:?}");
        }
    }
}
