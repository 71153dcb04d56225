//! `Date` of a response (RFC 9110 §6.6.1).

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::HeaderValue;

/// Returns the `Date` of a response that is sent now.
pub(crate) fn date() -> HeaderValue {
    thread_local! {
        /// The last second that was asked for, and its text.
        static LAST: RefCell<(u64, HeaderValue)> = const { RefCell::new((u64::MAX, HeaderValue::from_static(""))) };
    }
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second {
            (*last, *text) = (second, at(Duration::from_secs(second)));
        }
        text.clone()
    })
}

/// Empty for a time that has no such form, which no clock tells.
fn at(since_epoch: Duration) -> HeaderValue {
    let second = i64::try_from(since_epoch.as_secs()).ok();
    let time = second.and_then(|second| jiff::Timestamp::from_second(second).ok());
    let text = time.and_then(|time| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok());
    text.and_then(|text| HeaderValue::try_from(text).ok()).unwrap_or_else(|| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_of_rfc_9110() {
        for (second, expected) in
            [(0, "Thu, 01 Jan 1970 00:00:00 GMT"), (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (u64::MAX, "")]
        {
            assert_eq!(at(Duration::from_secs(second)), expected, "{second}");
        }
        assert_eq!(date().as_bytes().len(), 29);
    }
}
