//! Which text may be written as it is, and how much of it.

use crate::all_bytes::all_bytes;

/// Most bytes of one text in a record, as UTF-8 and before escaping.
pub(crate) const TEXT_MAX: usize = 1024;

/// Returns whether a character is not visible but affects a line or a terminal: controls (C0, DEL, C1), line and paragraph
/// separators, and marks that are invisible or change the direction of text.
pub(in crate::audit) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// JSON in which hidden characters are escaped, as in a record. Outside of texts, JSON has none of them but line breaks and tabs,
/// which stay.
pub(crate) fn visible_json(json: String) -> String {
    let is_hidden = |character: char| is_hidden(character) && !matches!(character, '\n' | '\t');
    if !json.contains(is_hidden) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    for character in json.chars() {
        match is_hidden(character) {
            // Every hidden character is in the Basic Multilingual Plane.
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => escaped.push(character),
        }
    }
    escaped
}

/// Returns whether a text is printable ASCII with nothing to escape.
#[inline]
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    all_bytes(bytes, |byte| (b' '..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\'))
}

/// Truncates a text to [`TEXT_MAX`] bytes, or up to three fewer so that no character is split.
#[inline]
pub(super) fn cut(bytes: &[u8]) -> &[u8] {
    let mut end = TEXT_MAX;
    let Some(mut next) = bytes.get(end) else { return bytes };
    while (TEXT_MAX - 3..=TEXT_MAX).contains(&end) && (0x80..0xc0).contains(next) {
        end -= 1;
        next = bytes.get(end).unwrap_or(&0);
    }
    bytes.get(..end).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped_in_json_and_its_form_stays() {
        for (json, expected) in [
            ("{\n\t\"a\": \"b\"\n}", "{\n\t\"a\": \"b\"\n}"),
            ("[\"\u{7f}\u{85}\u{202e}\u{feff}\u{e4}\"]\r", "[\"\\u007f\\u0085\\u202e\\ufeff\u{e4}\"]\\u000d"),
        ] {
            assert_eq!(visible_json(json.to_owned()), expected);
        }
    }

    /// At every position of every length, because blocks of several sizes are compared at once.
    #[test]
    fn one_byte_that_needs_escaping_is_found_anywhere() {
        for length in 0..70 {
            let mut text = vec![b'a'; length];
            assert!(is_plain(&text), "{length}");
            for at in 0..length {
                for byte in [b'"', b'\\', 0, b'\n', 0x1f, 0x7f, 0x80, 0xff] {
                    text[at] = byte;
                    assert!(!is_plain(&text), "{byte} at {at} of {length}");
                }
                text[at] = b'~';
                assert!(is_plain(&text));
            }
        }
    }
}
