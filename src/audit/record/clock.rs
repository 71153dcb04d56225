//! Timestamps as text.

use std::fmt::Write as _;

use jiff::Timestamp;

/// Formats timestamps, and caches the text of the last second, which many records share.
#[derive(Default)]
pub(in crate::audit) struct Clock {
    /// Seconds since the epoch that `text` is for.
    second: Option<i64>,
    /// Date and time up to the seconds, and the dot.
    text: String,
}

impl Clock {
    /// Appends `at` as RFC 3339 in UTC, cut to milliseconds.
    pub(in crate::audit) fn write(&mut self, out: &mut Vec<u8>, at: Timestamp) {
        let milliseconds = at.as_millisecond();
        let second = milliseconds.div_euclid(1000);
        if self.second != Some(second) {
            self.text.clear();
            let start = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            // Writing to a `String` cannot fail, and the format is a good one.
            let _ = write!(self.text, "{}.", start.strftime("%Y-%m-%dT%H:%M:%S"));
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let fraction = milliseconds.rem_euclid(1000);
        out.extend([100, 10, 1].map(|unit| b"0123456789"[usize::try_from(fraction / unit % 10).unwrap_or(0)]));
        out.push(b'Z');
    }
}
