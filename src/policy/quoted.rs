//! Texts of others, for messages.

/// Quotes text for a message: between backticks, on one line, shortened if it is long.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut quoted = String::from("`");
    for (count, c) in text.chars().enumerate() {
        match c {
            _ if count == LONGEST => {
                quoted.push('…');
                break;
            }
            '"' | '\'' | '\\' => quoted.push(c),
            // Escapes control and invisible characters: a message is one line, and every character is visible.
            c => quoted.extend(c.escape_debug()),
        }
    }
    quoted.push('`');
    quoted
}
