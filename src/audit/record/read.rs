//! Formats a record as one readable line: time, status, request, caller, decision with its reason, and duration.
//!
//! Takes the JSON line, not the [`Record`](super::Record), so that a file is shown like live records. A
//! character that could control a terminal is shown as its code point.

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::fields::{CLIENT_DISCONNECTED, CLIENT_STALLED, REQUEST};
use super::text::is_hidden;

/// Longest text of a column; a longer one is truncated.
const COLUMN_MAX: usize = 64;

/// Formats one JSON record as a readable line, without a line break. Anything else is shown unchanged.
///
/// `12:04:05.123  403  POST   /v1/orders   acme-app   refused by scope: insufficient_scope   0.2 ms`
pub(crate) fn readable(line: &[u8], colour: bool) -> String {
    let Ok(record @ Value::Object(_)) = serde_json::from_slice(line) else {
        return shown(String::from_utf8_lossy(line).trim_end(), usize::MAX);
    };
    let record = Fields(&record);
    let paint = if colour { |style: Style| style } else { |_: Style| Style::new() };
    let (dim, bold) = (paint(Style::new().dimmed()), paint(Style::new().bold()));
    let status = record.number("/http/response/status_code");
    let (verdict, verdict_style) = verdict(&record);
    let (status_style, verdict_style) = (paint(status_style(status)), paint(verdict_style));

    let mut out = String::with_capacity(160);
    let time = record.text("/@timestamp").map_or_else(|| "-".to_owned(), |at| time_of_day(&at));
    let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let method = record.text("/http/request/method").unwrap_or_else(|| "-".to_owned());
    let path = record.text("/url/path").unwrap_or_else(|| "-".to_owned());
    let consumer = record.text("/bartizan/consumer").or_else(|| record.text("/user/id"));
    let consumer = consumer.unwrap_or_else(|| "-".to_owned());
    // Writing to a `String` cannot fail. Padding is inside the styles: escape sequences have no width.
    let _ = write!(out, "{dim}{time:<12}{dim:#}  {status_style}{status:>3}{status_style:#}  ");
    let _ = write!(
        out,
        "{bold}{method:<6}{bold:#} {path:<28}  {consumer:<16}  {verdict_style}{verdict:<40}{verdict_style:#}"
    );
    if let Some(took) = record.number("/event/duration") {
        let _ = write!(out, "  {dim}{:>8}{dim:#}", length(took));
    }
    if let Some(took) = record.number("/bartizan/upstream/duration") {
        let _ = write!(out, "  {dim}upstream {}{dim:#}", length(took));
    }
    out.truncate(out.trim_end().len());
    out
}

/// The fields of a record, made safe for a terminal.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn text(&self, pointer: &str) -> Option<String> {
        self.0.pointer(pointer).and_then(Value::as_str).map(|text| shown(text, COLUMN_MAX))
    }

    fn number(&self, pointer: &str) -> Option<u64> {
        self.0.pointer(pointer).and_then(Value::as_u64)
    }
}

/// Describes the decision: which stage made it, and why.
fn verdict(record: &Fields<'_>) -> (String, Style) {
    let outcome = record.0.pointer("/event/outcome").and_then(Value::as_str);
    let failed = outcome == Some("failure");
    let (stage, reason) = (record.text("/bartizan/stage"), record.text("/event/reason"));
    let (mut words, colour) = match (failed, stage, reason) {
        (_, None, None) if outcome == Some("unknown") => ("outcome unknown".to_owned(), AnsiColor::Yellow),
        (_, None, None) => ("allowed".to_owned(), AnsiColor::Green),
        // Only reported.
        (false, _, reason) => (format!("allowed: {}", reason.unwrap_or_default()), AnsiColor::Yellow),
        (true, Some(stage), Some(reason)) if stage == "forward" => (format!("failed: {reason}"), AnsiColor::Red),
        (true, Some(stage), Some(reason)) => (format!("refused by {stage}: {reason}"), AnsiColor::Red),
        (true, Some(stage), None) => (format!("refused by {stage}"), AnsiColor::Red),
        (true, None, Some(reason)) if reason == CLIENT_DISCONNECTED => {
            ("client disconnected".to_owned(), AnsiColor::Yellow)
        }
        (true, None, Some(reason)) if reason == CLIENT_STALLED => ("client stalled".to_owned(), AnsiColor::Yellow),
        (true, None, Some(reason)) => (format!("refused: {reason}"), AnsiColor::Red),
    };
    let marks = record.0.pointer("/http").is_none();
    if let (Some(action), true) = (record.text("/event/action"), marks) {
        let reason = record.text("/event/reason").map(|reason| format!(": {reason}")).unwrap_or_default();
        return (format!("{action}{reason}"), Style::new().dimmed());
    }
    if let Some(action) = record.text("/event/action").filter(|action| action != REQUEST) {
        words = format!("{action}: {words}");
    }
    if let Some(pointer) = record.text("/bartizan/violations/0/pointer") {
        let more = record
            .0
            .pointer("/bartizan/violations")
            .and_then(Value::as_array)
            .map_or(0, |all| all.len().saturating_sub(1));
        words.push_str(" at ");
        words.push_str(if pointer.is_empty() { "the root" } else { &pointer });
        if more > 0 {
            let _ = write!(words, " and {more} more");
        }
    }
    (words, Style::new().fg_color(Some(colour.into())))
}

fn status_style(status: Option<u64>) -> Style {
    let colour = match status {
        Some(200..=299) => AnsiColor::Green,
        Some(300..=399) => AnsiColor::Cyan,
        Some(400..=499) => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    };
    Style::new().fg_color(Some(colour.into())).bold()
}

/// Formats a timestamp as local time of day; an invalid one is shown unchanged.
fn time_of_day(at: &str) -> String {
    at.parse::<Timestamp>()
        .map_or_else(|_| at.to_owned(), |at| TimeZone::system().to_datetime(at).strftime("%H:%M:%S%.3f").to_string())
}

/// Formats a duration in a suitable unit.
fn length(nanoseconds: u64) -> String {
    let seconds = Duration::from_nanos(nanoseconds).as_secs_f64();
    match nanoseconds {
        0..=99_999 => format!("{:.0} µs", seconds * 1e6),
        100_000..=99_999_999 => format!("{:.1} ms", seconds * 1e3),
        100_000_000..=999_999_999 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}

/// A text with nothing in it that acts on a terminal: such characters are shown as their code points.
pub(crate) fn visible(text: &str) -> String {
    shown(text, usize::MAX)
}

/// A text with nothing in it that acts on a terminal, cut to `most` characters.
fn shown(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for (index, character) in text.chars().enumerate() {
        if index == most {
            out.push('…');
            break;
        }
        if is_hidden(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::{line, sample};
    use super::super::{Outcome, Record, UpstreamFields};
    use super::*;
    use crate::refusal::Violation;

    /// The line without its time of day, which depends on where the test runs.
    fn rest(record: &Record<'_>) -> String {
        readable(&line(record), false)[12..].trim_start().to_owned()
    }

    #[test]
    fn a_record_is_one_aligned_line() {
        let request = Record {
            outcome: Outcome::Failure,
            reason: Some("insufficient_scope"),
            stage: Some("scope"),
            status: Some(403),
            method: Some("POST"),
            path: Some(b"/v1/orders"),
            consumer: Some("acme-app"),
            target: None,
            duration: Duration::from_micros(200),
            ..sample()
        };
        assert_eq!(
            rest(&request),
            "403  POST   /v1/orders                    acme-app          refused by scope: insufficient_scope        0.2 ms"
        );
        let allowed = Record {
            outcome: Outcome::Success,
            reason: None,
            stage: None,
            status: Some(200),
            duration: Duration::from_micros(85),
            upstream: Some(UpstreamFields {
                server: "http://127.0.0.1:9000",
                duration: Some(Duration::from_micros(40)),
                attempts: 1,
            }),
            ..request.clone()
        };
        assert_eq!(
            rest(&allowed),
            "200  POST   /v1/orders                    acme-app          allowed                                      85 µs  upstream 40 µs"
        );
        assert!(
            readable(&line(&allowed), false)[..12].bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte))
        );
    }

    #[test]
    fn the_verdict_says_what_was_decided() {
        let violation = |pointer: &str| Violation::new(pointer, "wrong");
        let (two, root) = ([violation("/a"), violation("/b")], [violation("")]);
        let failed = Record { outcome: Outcome::Failure, ..sample() };
        for (record, verdict) in [
            (failed.clone(), "  allowed  "),
            (Record { reason: Some(CLIENT_DISCONNECTED), ..failed.clone() }, "  client disconnected  "),
            (Record { reason: Some(CLIENT_STALLED), ..failed.clone() }, "  client stalled  "),
            (
                Record { reason: Some("no_route"), stage: Some("request"), ..failed.clone() },
                "refused by request: no_route  ",
            ),
            (
                Record { reason: Some("upstream_timeout"), stage: Some("forward"), ..failed.clone() },
                "  failed: upstream_timeout  ",
            ),
            (Record { action: "key revoked", ..sample() }, "  key revoked: allowed  "),
            (
                Record { action: "key_rotated", outcome: Outcome::Unknown, ..sample() },
                "  key_rotated: outcome unknown  ",
            ),
            (
                Record { reason: Some("schema_violation"), stage: Some("schema"), violations: &two, ..failed.clone() },
                "refused by schema: schema_violation at /a and 1 more  ",
            ),
            (
                Record { reason: Some("schema_violation"), stage: Some("schema"), violations: &root, ..failed.clone() },
                "schema_violation at the root  ",
            ),
        ] {
            let text = readable(&line(&record), false);
            assert!(text.contains(verdict), "{text}");
        }
    }

    #[test]
    fn nothing_from_outside_acts_on_the_terminal() {
        let hostile = "/\u{1b}[31m\u{9b}2J\r\u{202e}x";
        let record =
            Record { path: Some(hostile.as_bytes()), consumer: Some(hostile), method: Some(hostile), ..sample() };
        let text = readable(&line(&record), false);
        assert!(text.contains("/\\u{1b}[31m\\u{9b}2J\\u{d}\\u{202e}x"), "{text}");
        assert!(!text.chars().any(is_hidden), "{text}");
        for no_record in [&b"\x1b[2Jnot json\n"[..], b"[1]\n", b"\xff\x07", b""] {
            assert!(!readable(no_record, true).chars().any(is_hidden));
        }
        assert_eq!(
            readable(b"{\"@timestamp\":\"\\u001b[1m\",\"event\":7}", false).split_once("  ").unwrap().0,
            "\\u{1b}[1m"
        );
        let long = "a".repeat(1000);
        assert!(
            readable(&line(&Record { consumer: Some(&long), ..sample() }), false)
                .contains(&format!("{}… ", &long[..64]))
        );
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        let line = line(&Record { status: Some(500), ..sample() });
        let (plain, coloured) = (readable(&line, false), readable(&line, true));
        assert!(!plain.contains('\u{1b}') && coloured.contains("\u{1b}[31m"));
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string().trim_end(), plain);
    }

    #[test]
    fn lengths_of_time_read_well() {
        for (nanoseconds, text) in [
            (0, "0 µs"),
            (85_400, "85 µs"),
            (100_000, "0.1 ms"),
            (12_340_000, "12.3 ms"),
            (250_000_000, "250 ms"),
            (1_500_000_000, "1.5 s"),
            (90_000_000_000, "90.0 s"),
        ] {
            assert_eq!(length(nanoseconds), text);
        }
    }
}
