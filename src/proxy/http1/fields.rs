//! Field lines, in heads and in trailers (RFC 9112 §5).

use std::ops::Range;

use super::framing_error::FramingErrorKind;
use crate::all_bytes::all_bytes;

/// How strictly a message is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// For requests: only the subset that all parsers read alike, because differences allow request smuggling.
    Strict,
    /// For responses: also trailer lines that end in LF alone (RFC 9112 §2.2), and whitespace after a chunk's size
    /// (§7.1.1), which existing upstreams send.
    Lenient,
}

/// The limits on a head; trailers have the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    /// Maximum size in bytes, from the start line to the empty line, both included.
    pub(crate) size: usize,
    /// Maximum number of header fields.
    pub(crate) headers: usize,
}

/// Returns the length of the line that `input` begins with, including its LF, or `None` while it is incomplete. `limit`
/// is its maximum length.
pub(crate) fn line_length(input: &[u8], limit: usize) -> Result<Option<usize>, FramingErrorKind> {
    let length = memchr::memchr(b'\n', input).map(|at| at + 1);
    // Check the size before the content, so that the result does not depend on how the bytes were split into reads.
    if length.unwrap_or(input.len()) > limit {
        return Err(FramingErrorKind::TooLarge);
    }
    Ok(length)
}

/// Strips the end of a line, and checks that it has one and no control characters except tabs (RFC 9110 §5.5).
pub(crate) fn line_content(line: &[u8], strictness: Strictness) -> Result<&[u8], FramingErrorKind> {
    let text = match (line.strip_suffix(b"\r\n"), strictness) {
        (Some(text), _) => text,
        (None, Strictness::Strict) => return Err(FramingErrorKind::BareLf),
        (None, Strictness::Lenient) => line.strip_suffix(b"\n").ok_or(FramingErrorKind::BareLf)?,
    };
    match all_bytes(text, |byte| ((byte >= 0x20) | (byte == b'\t')) & (byte != 0x7f)) {
        true => Ok(text),
        false if memchr::memchr(0, text).is_some() => Err(FramingErrorKind::Nul),
        false if memchr::memchr(b'\r', text).is_some() => Err(FramingErrorKind::BareCr),
        false => Err(FramingErrorKind::Control),
    }
}

/// Returns where the name of a field line ends, and the range of its trimmed value (RFC 9112 §5). `first` says that no
/// field precedes it.
pub(crate) fn split_field(line: &[u8], first: bool) -> Result<(usize, Range<usize>), FramingErrorKind> {
    let end = line.iter().position(|&byte| !is_token(byte)).unwrap_or(line.len());
    match line.split_at_checked(end) {
        Some(([], [b':', ..])) => Err(FramingErrorKind::EmptyName),
        Some((_, [b':', value @ ..])) => {
            // Controls other than tabs were refused before, so this trims exactly OWS (RFC 9110 §5.6.3).
            let trimmed = value.trim_ascii_start();
            let start = line.len() - trimmed.len();
            Ok((end, start..start + trimmed.trim_ascii_end().len()))
        }
        Some(([], [b' ' | b'\t', ..])) if first => Err(FramingErrorKind::LeadingWhitespace),
        Some(([], [b' ' | b'\t', ..])) => Err(FramingErrorKind::Folding),
        Some((_, rest)) if memchr::memchr(b':', rest).is_none() => Err(FramingErrorKind::MissingColon),
        Some((_, [b' ' | b'\t', ..])) => Err(FramingErrorKind::SpaceBeforeColon),
        _ => Err(FramingErrorKind::Name),
    }
}

/// Writes a field line with its CRLF.
pub(crate) fn write_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// `tchar` (RFC 9110 §5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut at = 0;
        while at < 256 {
            let byte = at as u8;
            table[at] = byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
            at += 1;
        }
        table
    };
    TOKEN[usize::from(byte)]
}
