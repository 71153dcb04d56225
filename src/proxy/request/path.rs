//! Normalises paths, so that the path that is matched is the path that is forwarded (RFC 3986 §6.2.2, RFC 9110 §4.2.3).
//!
//! Normalised, because all parsers agree on the result:
//! - Percent-encoded unreserved characters (`A-Z a-z 0-9 - . _ ~`) are decoded. The remaining escapes get upper-case
//!   hexadecimal digits.
//! - `|`, `^`, `[` and `]`, which browsers send as they are, are percent-encoded.
//! - Plain dot segments are removed: `/a/./b/../c` becomes `/a/c`. The upstream never sees them.
//!
//! Refused, because parsers disagree:
//! - An encoded slash, unless a route keeps it; a backslash in either form, an empty segment (`//`), an encoded percent sign that would begin
//!   another escape (`%252e`).
//! - A dot segment that appears only after decoding (`%2e%2e`) or has parameters (`..;x`, `..%3Bx`), and `..` above the
//!   root.
//! - Characters that a server may turn into a slash, a backslash, a dot or a percent sign, such as full-width ones.
//! - Control characters including NUL, decoded bytes that are not UTF-8 (such as overlong forms and surrogates), a
//!   fragment, and all other characters that RFC 3986 does not allow in a path.
//!
//! Encoded reserved characters (`%3B`, `%3F`, `%40`) stay encoded, because decoding would change their meaning. The
//! query is not handled here: it is split off before, and forwarded as received.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::policy::ENCODED_SLASH;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathError {
    /// Empty, `*`, or anything else that does not begin with a slash.
    NotAbsolute,
    /// `//`.
    EmptySegment,
    /// `%2F`.
    EncodedSlash,
    /// `\` or `%5C`.
    Backslash,
    /// A dot segment that appears only after decoding, or that has parameters.
    DotSegment,
    /// `..` with nothing before it.
    AboveRoot,
    /// `%` without two hexadecimal digits.
    Escape,
    /// `%25` before two hexadecimal digits.
    DoubleEncoding,
    /// A control character, encoded or not.
    Control,
    /// Decoded bytes that are not UTF-8.
    NotUtf8,
    /// `#`.
    Fragment,
    /// A character that must be percent-encoded in a path.
    Character,
    /// A form of a slash, a backslash, a dot or a percent sign.
    Lookalike,
}

impl PathError {
    /// Returns what the client has to change.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::NotAbsolute => "Send a path that begins with a slash.",
            Self::EmptySegment => "Remove the double slash from the path.",
            Self::EncodedSlash => "Remove the encoded slash (%2F) from the path.",
            Self::Backslash => "Remove the backslash from the path.",
            Self::DotSegment => "Remove the encoded dot segment from the path.",
            Self::AboveRoot => "Remove the dot segments that lead above the root from the path.",
            Self::Escape => "Write two hexadecimal digits after each percent sign in the path.",
            Self::DoubleEncoding => "Percent-encode the path once, not twice.",
            Self::Control => "Remove the control character from the path.",
            Self::NotUtf8 => "Percent-encode the path as UTF-8.",
            Self::Fragment => "Send the path without a fragment.",
            Self::Character => "Percent-encode the characters that are not allowed in a path.",
            Self::Lookalike => {
                "Remove the character that stands for a slash, backslash, dot or percent sign from the path."
            }
        }
    }
}

/// What becomes of encoded slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncodedSlashes {
    /// A path with one is refused.
    Refused,
    /// They stay. A path is refused if they separate dot segments or nothing: a server may take them for slashes.
    Kept,
}

impl EncodedSlashes {
    /// What becomes of them while the route of a request is not known, or is this one.
    pub(crate) fn of(keeps: bool) -> Self {
        if keeps { Self::Kept } else { Self::Refused }
    }
}

/// Returns the normal form of `raw`, a path without its query. Borrows if `raw` is in normal form already. An ordinary
/// path (no escapes, no segment that begins with a dot) costs one scan.
///
/// # Errors
/// [`PathError`] if the path is ambiguous; the request is refused with 400.
pub(crate) fn normalise(raw: &str, slashes: EncodedSlashes) -> Result<Cow<'_, str>, PathError> {
    let Some(segments) = raw.strip_prefix('/') else {
        return Err(PathError::NotAbsolute);
    };
    if is_plain(segments) {
        return Ok(Cow::Borrowed(raw));
    }

    let mut path = String::with_capacity(raw.len());
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" if !last => return Err(PathError::EmptySegment),
            "." => {}
            ".." => {
                let parent = path.rfind('/').ok_or(PathError::AboveRoot)?;
                path.truncate(parent);
            }
            _ => {
                path.push('/');
                push_segment(&mut path, segment, slashes)?;
            }
        }
        if last && matches!(segment, "." | "..") {
            path.push('/');
        }
    }

    check_decoded(&path)?;
    Ok(if path == raw { Cow::Borrowed(raw) } else { Cow::Owned(path) })
}

/// Whether a single scan shows that everything after the first slash is in normal form.
fn is_plain(segments: &str) -> bool {
    let mut previous = b'/';
    for &byte in segments.as_bytes() {
        let begins = previous == b'/';
        if !is_path_byte(byte) && byte != b'/' || begins && matches!(byte, b'/' | b'.') {
            return false;
        }
        previous = byte;
    }
    true
}

/// Appends the normal form of one segment.
fn push_segment(path: &mut String, segment: &str, slashes: EncodedSlashes) -> Result<(), PathError> {
    let start = path.len();
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (Some(high), Some(low)) = (bytes.next().and_then(hex_value), bytes.next().and_then(hex_value))
                else {
                    return Err(PathError::Escape);
                };
                match high << 4 | low {
                    b'/' if slashes == EncodedSlashes::Kept => path.push_str(ENCODED_SLASH),
                    octet => push_escape(path, octet)?,
                }
            }
            b'\\' => return Err(PathError::Backslash),
            b'#' => return Err(PathError::Fragment),
            _ if byte.is_ascii_control() => return Err(PathError::Control),
            _ if is_path_byte(byte) => path.push(char::from(byte)),
            _ if is_left_raw(byte) => push_escape(path, byte)?,
            _ => return Err(PathError::Character),
        }
    }
    let normal = path.get(start..).unwrap_or_default();
    let mut parts = normal.split(ENCODED_SLASH).peekable();
    while let Some(part) = parts.next() {
        let name = part.split(';').next().unwrap_or_default();
        let name = name.split("%3B").next().unwrap_or_default();
        match name {
            "." | ".." => return Err(PathError::DotSegment),
            "" if part.is_empty() && parts.peek().is_some() => return Err(PathError::EmptySegment),
            _ => {}
        }
    }
    Ok(())
}

/// Appends the normal form of an octet that was percent-encoded.
fn push_escape(path: &mut String, octet: u8) -> Result<(), PathError> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    match octet {
        b'/' => return Err(PathError::EncodedSlash),
        b'\\' => return Err(PathError::Backslash),
        _ if octet.is_ascii_control() => return Err(PathError::Control),
        _ if is_unreserved(octet) => path.push(char::from(octet)),
        _ => {
            path.push('%');
            path.push(char::from(DIGITS[usize::from(octet >> 4)]));
            path.push(char::from(DIGITS[usize::from(octet & 15)]));
        }
    }
    Ok(())
}

/// Checks what only the whole normalised path shows: double encoding, and the decoded text.
fn check_decoded(path: &str) -> Result<(), PathError> {
    for (at, escaped) in path.match_indices("%25") {
        let after = path.as_bytes().get(at + escaped.len()..at + escaped.len() + 2);
        if after.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(PathError::DoubleEncoding);
        }
    }
    let text = percent_decode_str(path).decode_utf8().map_err(|_| PathError::NotUtf8)?;
    if text.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    if text.is_ascii() {
        return Ok(());
    }
    let dots = |segment: &str| {
        let name = segment.split(';').next().unwrap_or_default();
        !name.is_ascii() && name.chars().all(|c| c == '.' || is_dots(c))
    };
    if text.chars().any(is_lookalike) || text.split('/').any(dots) { Err(PathError::Lookalike) } else { Ok(()) }
}

/// Whether a server may turn a character into a slash, a backslash, a dot or a percent sign: by the compatibility
/// mappings of Unicode (NFKC, UAX #15), or by the nearest character of an older encoding.
fn is_lookalike(c: char) -> bool {
    matches!(
        c,
        // Slashes, `a/c` and the like.
        '\u{2044}' | '\u{2100}' | '\u{2101}' | '\u{2105}' | '\u{2106}' | '\u{2215}' | '\u{29f8}' | '\u{ff0f}'
        // Backslashes.
        | '\u{2216}' | '\u{29f5}' | '\u{29f9}' | '\u{fe68}' | '\u{ff3c}'
        // Dots, also after a digit.
        | '\u{2024}' | '\u{2488}'
            ..='\u{249b}' | '\u{fe52}' | '\u{ff0e}' | '\u{1f100}'
        // Percent signs, which could begin an escape.
        | '\u{fe6a}' | '\u{ff05}'
    )
}

/// Whether a character becomes several dots in NFKC. They are common in text, and harmless beside anything else.
fn is_dots(c: char) -> bool {
    matches!(c, '\u{2025}' | '\u{2026}' | '\u{fe19}' | '\u{fe30}')
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// `unreserved` (RFC 3986 §2.3).
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The characters that RFC 3986 does not allow in a segment, and that browsers send as they are: they are not in the path
/// percent-encode set (WHATWG URL §1.3), or were not until 2023, as `^`.
const fn is_left_raw(byte: u8) -> bool {
    matches!(byte, b'|' | b'^' | b'[' | b']')
}

/// `pchar` without escapes (RFC 3986 §3.3): the bytes that are allowed unencoded in a segment.
fn is_path_byte(byte: u8) -> bool {
    const PLAIN: [bool; 256] = {
        let mut table = [false; 256];
        let mut at = 0;
        while at < 256 {
            let byte = at as u8;
            table[at] = is_unreserved(byte)
                || matches!(
                    byte,
                    b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
                );
            at += 1;
        }
        table
    };
    PLAIN[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::{EncodedSlashes, PathError, normalise};

    /// Paths and their normal forms.
    const NORMAL: &[(&str, &str)] = &[
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/v1/orders/42", "/v1/orders/42"),
        ("/A-Z_0.9~", "/A-Z_0.9~"),
        ("/a;v=1/b,c", "/a;v=1/b,c"),
        ("/a:b@c", "/a:b@c"),
        ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
        ("/a.b", "/a.b"),
        ("/a.", "/a."),
        ("/a..", "/a.."),
        ("/.well-known/jwks.json", "/.well-known/jwks.json"),
        ("/...", "/..."),
        ("/..a", "/..a"),
        ("/.a/..b", "/.a/..b"),
        ("/.", "/"),
        ("/./", "/"),
        ("/./a", "/a"),
        ("/a/.", "/a/"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../..", "/"),
        ("/a/b/../../c", "/c"),
        ("/a/b/c/./../../g", "/a/g"),
        ("/mid/content=5/../6", "/mid/6"),
        ("/%61", "/a"),
        ("/%41%7a", "/Az"),
        ("/%7Euser", "/~user"),
        ("/%2D%5f", "/-_"),
        ("/a%2eb", "/a.b"),
        ("/%2e%2e%2e", "/..."),
        ("/%2ewell-known", "/.well-known"),
        ("/a%20b", "/a%20b"),
        ("/a%3bb", "/a%3Bb"),
        ("/a%3fb", "/a%3Fb"),
        ("/a%23b", "/a%23b"),
        ("/%c3%a9", "/%C3%A9"),
        ("/%e2%82%ac", "/%E2%82%AC"),
        ("/%F0%9F%98%80", "/%F0%9F%98%80"),
        ("/100%25", "/100%25"),
        ("/100%25/x", "/100%25/x"),
        ("/%25zz", "/%25zz"),
        ("/%257", "/%257"),
        ("/%25", "/%25"),
        ("/%40%3a", "/%40%3A"),
        ("/%3B..", "/%3B.."),
        ("/a;x/../b", "/b"),
        // F36: as browsers send them.
        ("/a|b", "/a%7Cb"),
        ("/a%7cb", "/a%7Cb"),
        ("/[a]^", "/%5Ba%5D%5E"),
        ("/..|", "/..%7C"),
        // An ellipsis in a text, a yen sign, full-width letters and a Japanese full stop are none of these.
        ("/to%20be%20continued%E2%80%A6", "/to%20be%20continued%E2%80%A6"),
        ("/%C2%A5100/%EF%BD%81/%E3%80%82", "/%C2%A5100/%EF%BD%81/%E3%80%82"),
    ];

    /// Paths that are refused.
    const REFUSED: &[(&str, PathError)] = &[
        ("", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("a", PathError::NotAbsolute),
        ("./a", PathError::NotAbsolute),
        ("%2Fa", PathError::NotAbsolute),
        ("//", PathError::EmptySegment),
        ("//a", PathError::EmptySegment),
        ("/a//b", PathError::EmptySegment),
        ("/a//", PathError::EmptySegment),
        ("/a//../b", PathError::EmptySegment),
        ("/a%2fb", PathError::EncodedSlash),
        ("/a%2Fb", PathError::EncodedSlash),
        ("/..%2fadmin", PathError::EncodedSlash),
        ("/a\\b", PathError::Backslash),
        ("/..\\a", PathError::Backslash),
        ("/a%5cb", PathError::Backslash),
        ("/a%5Cb", PathError::Backslash),
        ("/%2e", PathError::DotSegment),
        ("/%2E%2e/a", PathError::DotSegment),
        ("/a/%2e%2e/b", PathError::DotSegment),
        ("/a/.%2e", PathError::DotSegment),
        ("/a/%2e./b", PathError::DotSegment),
        ("/a/..;/b", PathError::DotSegment),
        ("/a/.;x=1/b", PathError::DotSegment),
        ("/a/..;", PathError::DotSegment),
        ("/a/..%3B/b", PathError::DotSegment),
        ("/a/..%3bx", PathError::DotSegment),
        ("/a/%2e%2e;x/b", PathError::DotSegment),
        ("/..", PathError::AboveRoot),
        ("/../a", PathError::AboveRoot),
        ("/a/../..", PathError::AboveRoot),
        ("/./..", PathError::AboveRoot),
        ("/%", PathError::Escape),
        ("/%2", PathError::Escape),
        ("/%/b", PathError::Escape),
        ("/%2/b", PathError::Escape),
        ("/%zz", PathError::Escape),
        ("/%u002f", PathError::Escape),
        ("/%+1", PathError::Escape),
        ("/%252e%252e", PathError::DoubleEncoding),
        ("/%252f", PathError::DoubleEncoding),
        ("/%2525", PathError::DoubleEncoding),
        ("/%25%32%66", PathError::DoubleEncoding),
        ("/%252%65", PathError::DoubleEncoding),
        ("/%00", PathError::Control),
        ("/a%0d%0ab", PathError::Control),
        ("/%7f", PathError::Control),
        ("/%1F", PathError::Control),
        ("/%c2%85", PathError::Control),
        ("/a\0", PathError::Control),
        ("/a\tb", PathError::Control),
        ("/a\u{7f}", PathError::Control),
        ("/%ff", PathError::NotUtf8),
        ("/%c0%af", PathError::NotUtf8),
        ("/%c0%ae%c0%ae/", PathError::NotUtf8),
        ("/%e0%80%af", PathError::NotUtf8),
        ("/%ed%a0%80", PathError::NotUtf8),
        ("/%f4%90%80%80", PathError::NotUtf8),
        ("/%c3", PathError::NotUtf8),
        ("/%c3a", PathError::NotUtf8),
        ("/%a9", PathError::NotUtf8),
        ("/%e2%82/%ac", PathError::NotUtf8),
        ("/a#b", PathError::Fragment),
        ("/a b", PathError::Character),
        ("/a?b", PathError::Character),
        ("/{id}", PathError::Character),
        ("/a\"b", PathError::Character),
        ("/a{b", PathError::Character),
        ("/a`b", PathError::Character),
        ("/<a>", PathError::Character),
        ("/é", PathError::Character),
        // A2: forms of separators that a server may turn into the separator itself.
        ("/..%EF%BC%8Fadmin", PathError::Lookalike),
        ("/a%e2%81%84b", PathError::Lookalike),
        ("/a%e2%88%95b", PathError::Lookalike),
        ("/a%e2%a7%b8b", PathError::Lookalike),
        ("/a%e2%84%80b", PathError::Lookalike),
        ("/..%EF%BC%BCadmin", PathError::Lookalike),
        ("/a%ef%b9%a8b", PathError::Lookalike),
        ("/a%e2%88%96b", PathError::Lookalike),
        ("/%EF%BC%8E%EF%BC%8E/admin", PathError::Lookalike),
        ("/%e2%80%a4%e2%80%a4/admin", PathError::Lookalike),
        ("/%ef%b9%92/a", PathError::Lookalike),
        ("/index%ef%bc%8ephp", PathError::Lookalike),
        ("/%e2%92%88php", PathError::Lookalike),
        ("/%EF%BC%852e", PathError::Lookalike),
        ("/%ef%b9%aa2e", PathError::Lookalike),
        ("/%e2%80%a5/admin", PathError::Lookalike),
        ("/%e2%80%a5;x/admin", PathError::Lookalike),
        ("/.%e2%80%a6", PathError::Lookalike),
        ("/%ef%b8%b0/", PathError::Lookalike),
    ];

    #[test]
    fn normal_forms() {
        for (raw, normal) in NORMAL {
            let got = normalise(raw, EncodedSlashes::Refused);
            assert_eq!(got.as_deref(), Ok(*normal), "{raw}");
            assert_eq!(matches!(got, Ok(Cow::Borrowed(_))), raw == normal, "{raw}: borrowed when nothing changed");
        }
    }

    #[test]
    fn refused() {
        for (raw, error) in REFUSED {
            assert_eq!(normalise(raw, EncodedSlashes::Refused), Err(*error), "{raw}");
            assert!(!error.detail().is_empty());
        }
    }

    #[test]
    fn encoded_slashes_are_kept_where_they_lead_nowhere_else() {
        for (raw, expected) in [
            ("/a%2fb/c", Ok("/a%2Fb/c")),
            ("/a%2Fb", Ok("/a%2Fb")),
            ("/a%2F", Ok("/a%2F")),
            ("/a%2F.b", Ok("/a%2F.b")),
            ("/%2Fetc", Err(PathError::EmptySegment)),
            ("/a%2F%2Fb", Err(PathError::EmptySegment)),
            ("/a%2F..", Err(PathError::DotSegment)),
            ("/..%2Fa", Err(PathError::DotSegment)),
            ("/a%2F%2e%2e%2Fb", Err(PathError::DotSegment)),
            ("/a%2F..;x%2Fb", Err(PathError::DotSegment)),
            ("/a%2F.", Err(PathError::DotSegment)),
            ("/a%5cb", Err(PathError::Backslash)),
            ("/a%252Fb", Err(PathError::DoubleEncoding)),
        ] {
            assert_eq!(normalise(raw, EncodedSlashes::Kept).as_deref(), expected.as_deref(), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_handled(raw in any::<String>()) {
            let _ = normalise(&raw, EncodedSlashes::Refused);
        }

        #[test]
        fn the_normal_form_is_stable(raw in "(/(\\.|\\.\\.|;|%2[0-9a-fA-F]|%[2-9a-fA-F][0-9a-fA-F]|%c3%a9|%25|[a-f0-9.~:;]){0,4}){1,6}") {
            if let Ok(path) = normalise(&raw, EncodedSlashes::Refused) {
                let again = normalise(&path, EncodedSlashes::Refused);
                prop_assert!(matches!(again, Ok(Cow::Borrowed(same)) if same == path), "{raw} -> {path} -> {again:?}");
                prop_assert!(path.starts_with('/') && !path.contains("//") && !path.contains('\\'));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
                for (at, _) in path.match_indices('%') {
                    prop_assert!(path[at + 1..at + 3].bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F')));
                }
            }
        }
    }
}
