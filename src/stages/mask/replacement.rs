//! What stands in the place of a hidden value.

use std::borrow::Cow;

/// What hides a length as well as a value.
const STARS: &str = "***";

/// What callers get in place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Replacement {
    /// Nothing: the member is left out.
    Remove,
    /// `null`.
    Null,
    /// `"***"`.
    Stars,
    /// `"***"` and so many of the last characters, but never more than half of them.
    KeepLast(usize),
}

impl Replacement {
    /// Reads `remove`, `null`, `***` or `keep_last N`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "remove" => Some(Self::Remove),
            "null" => Some(Self::Null),
            STARS => Some(Self::Stars),
            _ => {
                let count = text.strip_prefix("keep_last ")?.trim();
                count.parse().ok().filter(|count| *count > 0).map(Self::KeepLast)
            }
        }
    }

    /// What stands in place of a value that begins with this byte: only of texts and numbers something is shown.
    pub(super) fn of(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::KeepLast(_), b'"' | b'-' | b'0'..=b'9') => self,
            (Self::KeepLast(_), _) => Self::Stars,
            _ => self,
        }
    }

    /// Whether something of the value is shown.
    pub(super) fn shows_some(self) -> bool {
        matches!(self, Self::KeepLast(_))
    }

    /// The most bytes that stand in place of a value: what is kept of it is not longer than it, and in quotes after the stars.
    pub(super) fn most_bytes(self, value: &[u8]) -> usize {
        match self {
            Self::Remove => 0,
            Self::Null | Self::Stars => 5,
            Self::KeepLast(_) => value.len().saturating_add(5),
        }
    }

    /// Appends what stands in place of a value, which is valid JSON; `false` if it is to be left out. The error: its text cannot be
    /// read.
    pub(super) fn write(self, value: &[u8], out: &mut Vec<u8>) -> Result<bool, serde_json::Error> {
        match self {
            Self::Remove => return Ok(false),
            Self::Null => out.extend_from_slice(b"null"),
            Self::Stars => write_text(STARS, out)?,
            Self::KeepLast(most) => {
                let text = match value.first() {
                    Some(b'"') => text_of(value)?,
                    Some(b'-' | b'0'..=b'9') => String::from_utf8_lossy(value),
                    _ => Cow::Borrowed(""),
                };
                let length = text.chars().count();
                let left_out = length - most.min(length / 2);
                let shown = text.char_indices().nth(left_out).and_then(|(at, _)| text.get(at..)).unwrap_or_default();
                write_text(STARS, out)?;
                // Replaces the closing quote with the text that is shown, and removes that text's own opening quote.
                let end = out.len().saturating_sub(1);
                out.truncate(end);
                write_text(shown, out)?;
                out.remove(end);
            }
        }
        Ok(true)
    }
}

/// The text of a JSON string.
fn text_of(value: &[u8]) -> Result<Cow<'_, str>, serde_json::Error> {
    let plain = value.get(1..value.len().saturating_sub(1)).unwrap_or_default();
    match (memchr::memchr(b'\\', plain), str::from_utf8(plain)) {
        (None, Ok(plain)) => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_slice::<String>(value).map(Cow::Owned),
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    serde_json::to_writer(out, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_half_of_a_value_is_kept() {
        for (written, value, expected) in [
            ("keep_last 4", r#""DE02120300000000202051""#, r#""***2051""#),
            ("keep_last 4", r#""12345""#, r#""***45""#),
            ("keep_last 4", r#""1""#, r#""***""#),
            ("keep_last 4", r#""""#, r#""***""#),
            ("keep_last 2", r#""a\u00e9\ud83d\ude00\"""#, r#""***😀\"""#),
            ("keep_last 4", "1234567890", r#""***7890""#),
            ("keep_last 4", "-12", r#""***2""#),
            ("keep_last 4", "true", r#""***""#),
            ("keep_last 4", "[1,2,3,4,5,6,7,8]", r#""***""#),
            ("null", "1", "null"),
            ("***", "{}", r#""***""#),
        ] {
            let mut out = Vec::new();
            assert!(Replacement::read(written).unwrap().write(value.as_bytes(), &mut out).unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{written} {value}");
        }
        for wrong in ["", "keep_last", "keep_last 0", "keep_last x", "keep_last -1", "hide", "****"] {
            assert_eq!(Replacement::read(wrong), None, "{wrong}");
        }
        assert!(Replacement::KeepLast(2).write(br#""\ud800""#, &mut Vec::new()).is_err());
    }
}
