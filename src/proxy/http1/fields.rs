//! Field lines, in heads and in trailers (RFC 9112 §5).

use std::ops::Range;

use super::framing_error::FramingErrorKind;
use crate::all_bytes::{all_bytes, all_of_block};

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

/// A whole line.
pub(crate) struct Line<'a> {
    /// Its length, with its CRLF.
    pub(crate) length: usize,
    /// It without its CRLF.
    pub(crate) content: Result<&'a [u8], FramingErrorKind>,
}

/// Takes the line that `input` begins with, as [`line_length`] and a strict [`line_content`] do. In one pass if nothing is wrong with
/// it, and it has no tab.
pub(crate) fn strict_line(input: &[u8], limit: usize) -> Result<Option<Line<'_>>, FramingErrorKind> {
    let ordinary = first_control(input).and_then(|end| input.split_at_checked(end));
    if let Some((content, [b'\r', b'\n', ..])) = ordinary
        && content.len() + 2 <= limit
    {
        return Ok(Some(Line { length: content.len() + 2, content: Ok(content) }));
    }
    let length = line_length(input, limit)?;
    let line = length.and_then(|length| input.get(..length));
    Ok(line.map(|line| Line { length: line.len(), content: line_content(line, Strictness::Strict) }))
}

/// Where the first control character is, tabs included. Sixteen bytes at once while there is none, then eight.
fn first_control(bytes: &[u8]) -> Option<usize> {
    // 1 in each byte, and the highest bit of each.
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    let is_no_control = |byte| (byte >= 0x20) & (byte != 0x7f);
    let without = bytes.as_chunks::<16>().0.iter().take_while(|block| all_of_block(block, &is_no_control));
    let mut at = 16 * without.count();
    for block in bytes.get(at..)?.as_chunks::<8>().0 {
        let block = u64::from_le_bytes(*block);
        let delete = block ^ (ONES * 0x7f);
        // The lowest byte that is found is one. Those above may be found because of it.
        let found = (block.wrapping_sub(ONES * 0x20) & !block | delete.wrapping_sub(ONES) & !delete) & HIGH;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?.iter().position(|&byte| !is_no_control(byte));
    rest.map(|rest| at + rest)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The one pass finds what the passes one by one do, wherever the line ends and whatever is wrong with it.
    #[test]
    fn a_line_is_read_alike_in_one_pass() {
        for length in 0..40 {
            for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_graphic()) {
                for at in 0..length {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    let input = [&text[..], b"\r\nb\r\n"].concat();
                    for limit in [at, length, length + 1, length + 2, 99] {
                        let whole = line_length(&input, limit);
                        let content = |length| line_content(&input[..length], Strictness::Strict);
                        let expected = whole.map(|length| length.map(|length| (length, content(length))));
                        let read = strict_line(&input, limit).map(|line| line.map(|line| (line.length, line.content)));
                        assert_eq!(read, expected, "{byte} at {at} of {length}, {limit}");
                    }
                }
            }
            let incomplete = [b"a".repeat(length), b"\r".to_vec()].concat();
            assert!(strict_line(&incomplete, 99).is_ok_and(|line| line.is_none()));
        }
    }
}
