//! The encodings of parameters and form fields.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::stages::strict_json::Intake;

/// The encoding of a raw text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextEncoding {
    /// None.
    Plain,
    /// Percent-encoding (RFC 3986 §2.1).
    Percent,
    /// Percent-encoding with `+` for spaces.
    Form,
}

/// How texts of one message become values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoding<'m> {
    pub(super) encoding: TextEncoding,
    /// What the JSON in all of them together takes, and their numbers.
    pub(super) intake: &'m Intake,
}

/// Decodes a text. The error completes a sentence that begins with "it".
pub(super) fn decoded(text: &str, encoding: TextEncoding) -> Result<Cow<'_, str>, &'static str> {
    const BROKEN: &str = "is not UTF-8 text";
    match encoding {
        TextEncoding::Plain => Ok(Cow::Borrowed(text)),
        TextEncoding::Form if text.contains('+') => {
            let blanks = text.replace('+', " ");
            let decoded = percent_decode_str(&blanks).decode_utf8().map_err(|_| BROKEN)?;
            Ok(Cow::Owned(decoded.into_owned()))
        }
        TextEncoding::Percent | TextEncoding::Form => percent_decode_str(text).decode_utf8().map_err(|_| BROKEN),
    }
}

/// Whether a `%` is not followed by two hexadecimal digits (RFC 3986 §2.1). Some servers keep it, some drop it, others refuse it.
pub(super) fn has_broken_escapes(text: &str) -> bool {
    text.split('%').skip(1).any(|after| {
        let mut digits = after.bytes();
        !(digits.next().is_some_and(|byte| byte.is_ascii_hexdigit())
            && digits.next().is_some_and(|byte| byte.is_ascii_hexdigit()))
    })
}

/// A JSON text without a byte order mark, which parsers may ignore (RFC 8259 §8.1). It is forwarded all the same.
pub(super) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}
