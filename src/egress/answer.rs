//! A response to a request of the process itself.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

/// How much of what a peer says is shown, in characters.
const SHOWN: usize = 300;
/// Longest wait that a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A response, with its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// At most the limit of the client; what is no success is cut at 16 KiB.
    pub(crate) body: Bytes,
}

impl Answer {
    /// What its body says, on one line and shortened.
    pub(crate) fn complaint(&self) -> String {
        shown(&String::from_utf8_lossy(&self.body))
    }

    /// `Retry-After`, at most ten minutes: seconds, or a date (RFC 9110 §10.2.3).
    pub(crate) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let wait = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
                Duration::try_from(date.duration_since(now)).unwrap_or_default()
            }
        };
        Some(wait.min(LONGEST_WAIT))
    }
}

/// What a peer says, for operators: on one line and shortened.
pub(crate) fn shown(text: &str) -> String {
    let visible = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(SHOWN).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_server_says_how_long_to_wait() {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        for (text, wait) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("100000", Some(600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let mut answer = answer("");
            answer.headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(answer.retry_after(now), wait.map(Duration::from_secs), "{text}");
        }
        assert_eq!(answer("").retry_after(now), None);
    }

    fn answer(body: impl Into<Bytes>) -> Answer {
        Answer { status: StatusCode::SERVICE_UNAVAILABLE, headers: HeaderMap::new(), body: body.into() }
    }

    #[test]
    fn a_complaint_is_one_short_line() {
        for (body, shown) in [
            (" slow\r\ndown\n".to_owned(), "slow  down".to_owned()),
            (String::new(), String::new()),
            ("\u{e4}".repeat(1000), "\u{e4}".repeat(SHOWN)),
        ] {
            assert_eq!(answer(body).complaint(), shown);
        }
    }
}
