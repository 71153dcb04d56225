//! White space of values (XSD 1.0 Part 2, §4.3.6), and `xs:anyURI`.

use std::borrow::Cow;

use crate::xsd::chars::{is_space, is_space_byte};

/// What happens to white space before a value is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WhiteSpace {
    /// Nothing.
    Preserve,
    /// Each becomes a space.
    Replace,
    /// Runs become one space; none first or last.
    Collapse,
}

impl WhiteSpace {
    /// Applies it to a text.
    pub(crate) fn apply(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Preserve => Cow::Borrowed(text),
            Self::Replace => replace(text),
            Self::Collapse => collapse(text),
        }
    }

    /// The facet's value.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Preserve => "preserve",
            Self::Replace => "replace",
            Self::Collapse => "collapse",
        }
    }
}

fn replace(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| matches!(byte, b'\t' | b'\n' | b'\r')) {
        Cow::Owned(text.replace(['\t', '\n', '\r'], " "))
    } else {
        Cow::Borrowed(text)
    }
}

/// Collapses white space. Allocates only if some is within the text that is not a single space.
pub(crate) fn collapse(text: &str) -> Cow<'_, str> {
    // Most values have none at all.
    if !text.bytes().fold(false, |found, byte| found | is_space_byte(byte)) {
        return Cow::Borrowed(text);
    }
    let text = text.trim_matches(is_space);
    let mut before = false;
    let sound = text.bytes().all(|byte| {
        let space = is_space_byte(byte);
        let odd = space && (before || byte != b' ');
        before = space;
        !odd
    });
    if sound {
        return Cow::Borrowed(text);
    }
    let mut collapsed = String::with_capacity(text.len());
    for word in words(text) {
        if !collapsed.is_empty() {
            collapsed.push(' ');
        }
        collapsed.push_str(word);
    }
    Cow::Owned(collapsed)
}

/// The items of a list.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Whether a text can be an `xs:anyURI`: almost everything can, as other characters are escaped before it is used as a URI
/// (XML Linking Language, §5.4). What remains to be wrong is an incomplete escape, or a second `#`.
pub(crate) fn is_any_uri(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut escapes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').map(|(at, _)| at);
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let escaped = escapes.all(|at| hex(at.saturating_add(1)) && hex(at.saturating_add(2)));
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    // A colon before any slash ends a scheme, which begins with a letter and has something after it.
    let schemed = match before.find([':', '/', '?']) {
        Some(at) if before.get(at..).is_some_and(|rest| rest.starts_with(':')) => {
            let (scheme, rest) = before.split_at_checked(at).unwrap_or(("", ""));
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
            scheme.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
                && scheme.bytes().all(letters)
                && rest.len() > 1
        }
        _ => true,
    };
    escaped && schemed && !fragment.contains('#')
}

/// Whether a text is a language tag (RFC 3066).
pub(crate) fn is_language(text: &str) -> bool {
    text.split('-').enumerate().all(|(index, part)| {
        let letters = |byte: u8| if index == 0 { byte.is_ascii_alphabetic() } else { byte.is_ascii_alphanumeric() };
        (1..=8).contains(&part.len()) && part.bytes().all(letters)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space() {
        for (text, replaced, collapsed) in [
            ("a b", "a b", "a b"),
            ("\ta\n\nb ", " a  b ", "a b"),
            ("", "", ""),
            (" \r", "  ", ""),
            ("a\tb", "a b", "a b"),
        ] {
            assert_eq!(WhiteSpace::Replace.apply(text), replaced, "{text:?}");
            assert_eq!(WhiteSpace::Collapse.apply(text), collapsed, "{text:?}");
        }
        assert_eq!(words(" a\nb  c").collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn languages() {
        for (text, expected) in
            [("en", true), ("de-CH-1996", true), ("", false), ("1a", false), ("en-", false), ("abcdefghi", false)]
        {
            assert_eq!(is_language(text), expected, "{text}");
        }
    }
}
