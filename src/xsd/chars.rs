//! Characters and names of XML 1.0 (fifth edition) and of Namespaces in XML.

/// `Char` (§2.2).
pub(crate) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// White space (§2.3).
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// White space, as a byte.
pub(crate) fn is_space_byte(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// `NameStartChar` (§2.3), with `:`.
pub(crate) const NAME_START: [(char, char); 16] = [
    (':', ':'),
    ('A', 'Z'),
    ('_', '_'),
    ('a', 'z'),
    ('\u{c0}', '\u{d6}'),
    ('\u{d8}', '\u{f6}'),
    ('\u{f8}', '\u{2ff}'),
    ('\u{370}', '\u{37d}'),
    ('\u{37f}', '\u{1fff}'),
    ('\u{200c}', '\u{200d}'),
    ('\u{2070}', '\u{218f}'),
    ('\u{2c00}', '\u{2fef}'),
    ('\u{3001}', '\u{d7ff}'),
    ('\u{f900}', '\u{fdcf}'),
    ('\u{fdf0}', '\u{fffd}'),
    ('\u{10000}', '\u{effff}'),
];

/// What `NameChar` (§2.3) has more than [`NAME_START`].
pub(crate) const NAME_MORE: [(char, char); 6] =
    [('-', '-'), ('.', '.'), ('0', '9'), ('\u{b7}', '\u{b7}'), ('\u{300}', '\u{36f}'), ('\u{203f}', '\u{2040}')];

fn within(ranges: &[(char, char)], c: char) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// `NameStartChar`, with `:`.
pub(crate) fn is_name_start(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() || c == '_' || c == ':' } else { within(&NAME_START, c) }
}

/// `NameChar`, with `:`.
pub(crate) fn is_name_char(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.')
    } else {
        within(&NAME_START, c) || within(&NAME_MORE, c)
    }
}

/// `Name` (§2.3).
pub(crate) fn is_name(text: &str) -> bool {
    text.chars().next().is_some_and(is_name_start) && text.chars().all(is_name_char)
}

/// `NCName` (Namespaces in XML, §3): a name without a colon.
pub(crate) fn is_nc_name(text: &str) -> bool {
    is_name(text) && !text.as_bytes().contains(&b':')
}

/// `Nmtoken` (§2.3).
pub(crate) fn is_nmtoken(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_name_char)
}

/// Splits a qualified name into its prefix, empty for none, and its local name; `None` if it is not one.
pub(crate) fn split_qname(text: &str) -> Option<(&str, &str)> {
    match text.split_once(':') {
        None => is_nc_name(text).then_some(("", text)),
        Some((prefix, local)) => (is_nc_name(prefix) && is_nc_name(local)).then_some((prefix, local)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, name, nc_name, nmtoken) in [
            ("a", true, true, true),
            ("a:b", true, false, true),
            ("-a", false, false, true),
            ("1", false, false, true),
            ("", false, false, false),
            ("é·", true, true, true),
            ("a b", false, false, false),
        ] {
            assert_eq!((is_name(text), is_nc_name(text), is_nmtoken(text)), (name, nc_name, nmtoken), "{text}");
        }
        assert_eq!(split_qname("a:b"), Some(("a", "b")));
        assert_eq!(split_qname("b"), Some(("", "b")));
        for text in ["a:b:c", ":b", "a:", ""] {
            assert_eq!(split_qname(text), None, "{text}");
        }
    }
}
