//! Parts of markup: names, the XML declaration, where a DOCTYPE ends.

use crate::xsd::chars::{is_name, is_space};

/// Which bytes may be in a name: those of ASCII, and all of longer characters.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let c = byte as u8;
        table[byte] = c.is_ascii_alphanumeric() || matches!(c, b'_' | b':' | b'-' | b'.') || c >= 0x80;
        byte += 1;
    }
    table
};

/// How long the name is that a text begins with; 0 if it begins with none.
pub(crate) fn name_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut together = 0;
    let ends = |byte: &u8| {
        let within = NAME_BYTES.get(usize::from(*byte)).is_some_and(|allowed| *allowed);
        together |= if within { *byte } else { 0 };
        !within
    };
    let end = bytes.iter().position(ends).unwrap_or(bytes.len());
    let sound = match bytes.first() {
        Some(first) if together < 0x80 => first.is_ascii_alphabetic() || matches!(first, b'_' | b':'),
        _ => is_name(text.get(..end).unwrap_or("")),
    };
    if sound { end } else { 0 }
}

/// Checks what is between `<?xml` and `?>` (XML 1.0 §2.8).
pub(crate) fn declaration(data: &str) -> Result<(), &'static str> {
    const WRONG: &str = "the XML declaration is not written `<?xml version=\"1.0\"?>`";
    let mut rest = data;
    let mut next = 0;
    while !rest.trim_start_matches(is_space).is_empty() {
        let trimmed = rest.trim_start_matches(is_space);
        if trimmed.len() == rest.len() {
            return Err(WRONG);
        }
        let (name, after) = trimmed.split_once('=').ok_or(WRONG)?;
        let after = after.trim_start_matches(is_space);
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or(WRONG)?;
        let (value, after) = after.get(1..).and_then(|after| after.split_once(quote)).ok_or(WRONG)?;
        let place = match (name.trim_end_matches(is_space), value) {
            ("version", "1.0") => 0,
            ("version", _) => return Err("only XML 1.0 is accepted"),
            ("encoding", _) => 1,
            ("standalone", "yes" | "no") => 2,
            _ => return Err(WRONG),
        };
        if place < next || next == 0 && place > 0 {
            return Err(WRONG);
        }
        next = place + 1;
        rest = after;
    }
    if next == 0 { Err(WRONG) } else { Ok(()) }
}

/// Whether the XML declaration of a document says that nothing outside of it changes what it means (§2.9).
pub(crate) fn is_standalone(text: &str) -> bool {
    // `<?xml-stylesheet` is another instruction.
    let rest = text.strip_prefix("<?xml").filter(|rest| rest.starts_with(is_space));
    let declaration = rest.and_then(|rest| rest.split_once("?>"));
    let value = declaration.and_then(|(declaration, _)| declaration.rsplit_once("standalone"));
    value.is_some_and(|(_, value)| value.contains("yes"))
}

/// Returns where the `>` of a DOCTYPE is; `None` if it comes later.
pub(crate) fn doctype_end(text: &str) -> Result<Option<usize>, &'static str> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        let skip = |closing: &[u8], from: usize| {
            let rest = rest.get(from..).unwrap_or_default();
            memchr::memmem::find(rest, closing).map(|end| end.saturating_add(from).saturating_add(closing.len()))
        };
        let step = match byte {
            b'"' => skip(b"\"", 1),
            b'\'' => skip(b"'", 1),
            b'<' if rest.starts_with(b"<!--") => skip(b"-->", 4),
            b'<' if rest.starts_with(b"<?") => skip(b"?>", 2),
            b'<' if rest.len() < 4 => None,
            b'<' if depth == 0 => return Err("a DOCTYPE is not closed"),
            b'<' | b'[' => {
                depth = depth.saturating_add(1);
                Some(1)
            }
            b']' => {
                depth = depth.saturating_sub(1);
                Some(1)
            }
            b'>' if depth == 0 => return Ok(Some(at)),
            b'>' => {
                depth = depth.saturating_sub(1);
                Some(1)
            }
            _ => Some(1),
        };
        match step {
            Some(step) => at = at.saturating_add(step),
            None => return Ok(None),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_declarations() {
        for (text, end) in [("a b", 1), ("p:a>", 3), ("1a", 0), ("é=", 2), ("-", 0), ("", 0)] {
            assert_eq!(name_end(text), end, "{text}");
        }
        for (data, sound) in [
            (" version='1.0'", true),
            (" version=\"1.0\" encoding='utf-8' standalone='no' ", true),
            ("", false),
            (" encoding='utf-8'", false),
            (" version='1.0'encoding='utf-8'", false),
            (" version='1.1'", false),
            (" version='1.0' version='1.0'", false),
        ] {
            assert_eq!(declaration(data).is_ok(), sound, "{data}");
        }
        for (text, alone) in [
            ("<?xml version='1.0' standalone = \"yes\" ?>", true),
            ("<?xml version='1.0' standalone='no'?><?p standalone='yes'?>", false),
            ("<?xml-p standalone='yes'?>", false),
            ("<?xml version='1.0'?><?p standalone='yes'?>", false),
        ] {
            assert_eq!(is_standalone(text), alone, "{text}");
        }
        for (text, end) in [(" a>", Some(2)), (" a [<!ENTITY x '>'> <!-- ' > -->]>", Some(33)), (" a [", None)] {
            assert_eq!(doctype_end(text), Ok(end), "{text}");
        }
    }
}
