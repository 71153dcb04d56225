//! Writes untrusted text into YAML, so that it remains one value or one comment.

use std::fmt::Write;

/// Longest comment, in characters.
const LONGEST: usize = 80;

/// Returns a value or key: plain if it has no special characters, else in double quotes.
pub(super) fn value(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c => {
                // Writing to a String does not fail.
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Returns whether a policy would expand the text: untrusted text must not read the environment.
pub(super) fn is_reference(text: &str) -> bool {
    text.contains("${")
}

/// Returns a list on one line.
pub(super) fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| value(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// Returns text for a comment after `# `: one line of limited length without invisible characters.
pub(super) fn comment(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    let seen = |c: &char| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let mut shown: String = line.chars().filter(seen).take(LONGEST).collect();
    if line.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

/// Reduces text to a name of lower-case letters, digits and `-`; returns `otherwise` if nothing is left.
pub(super) fn name(text: &str, otherwise: &str) -> String {
    let mut name = String::new();
    for c in text.chars().take(60) {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { otherwise.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_holds_it_is_one_value_and_means_itself() {
        for (text, written) in [
            ("orders:read", "orders:read"),
            ("https://a.example/b", "https://a.example/b"),
            ("true", "\"true\""),
            ("No", "\"No\""),
            ("12", "\"12\""),
            ("a:", "\"a:\""),
            ("a b", "\"a b\""),
            ("a,b", "\"a,b\""),
            ("x # y", "\"x # y\""),
            ("say \"hi\"\n", "\"say \\\"hi\\\"\\U0000000a\""),
            ("back\\slash", "\"back\\\\slash\""),
            ("$x", "\"$x\""),
            ("é\u{2028}", "\"\\U000000e9\\U00002028\""),
            ("", "\"\""),
        ] {
            assert_eq!(value(text), written);
        }
        assert_eq!(list(&["a", "b c"]), "[a, \"b c\"]");
    }

    #[test]
    fn comments_are_one_line() {
        assert_eq!(comment(" a\n# b:\tc\u{85}d \u{2028}e\u{202e}"), "a # b: c d e");
        assert_eq!(comment(&"x".repeat(100)).chars().count(), LONGEST + 1);
        for (text, expected) in [("Pet Store!", "pet-store"), ("  ", "api"), ("Ä", "api"), ("A--B", "a-b")] {
            assert_eq!(name(text, "api"), expected);
        }
    }
}
