//! Bytes to text, by byte order mark or declaration (XML 1.0 §4.3.3 and appendix F).

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::malformed::Malformed;

/// Returns the text of a document without its byte order mark.
pub(crate) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        return utf8(rest);
    }
    match bytes {
        [0xff, 0xfe, rest @ ..] => return by(UTF_16LE, rest),
        [0xfe, 0xff, rest @ ..] => return by(UTF_16BE, rest),
        [b'<', 0, ..] => return by(UTF_16LE, bytes),
        [0, b'<', ..] => return by(UTF_16BE, bytes),
        _ => {}
    }
    let Some(label) = declared(bytes) else { return utf8(bytes) };
    match label.to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" => utf8(bytes),
        "us-ascii" | "ascii" if bytes.is_ascii() => utf8(bytes),
        "us-ascii" | "ascii" => Err(Malformed::new(0, "it declares US-ASCII, but has other bytes")),
        "iso-8859-1" | "latin1" | "iso_8859-1" => Ok(Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect())),
        label => match Encoding::for_label(label.as_bytes()) {
            Some(encoding) if encoding == UTF_8 => utf8(bytes),
            Some(encoding) if encoding != UTF_16LE && encoding != UTF_16BE => by(encoding, bytes),
            _ => Err(Malformed::new(0, "the encoding that it declares is unknown, or not the one it has")),
        },
    }
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    std::str::from_utf8(bytes)
        .map(Cow::Borrowed)
        .map_err(|error| Malformed::new(error.valid_up_to(), "it is not UTF-8"))
}

fn by(encoding: &'static Encoding, bytes: &[u8]) -> Result<Cow<'static, str>, Malformed> {
    encoding
        .decode_without_bom_handling_and_without_replacement(bytes)
        .map(|text| Cow::Owned(text.into_owned()))
        .ok_or_else(|| Malformed::new(0, format!("it is not {}", encoding.name())))
}

/// The encoding in the XML declaration; a declaration that is not well-formed may have another.
pub(crate) fn declared(bytes: &[u8]) -> Option<&str> {
    // `<?xml-stylesheet` is another instruction.
    let declaration = bytes.strip_prefix(b"<?xml").filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace))?;
    let end = memchr::memmem::find(declaration, b"?>")?;
    let declaration = std::str::from_utf8(declaration.get(..end)?).ok()?;
    let (_, rest) = declaration.split_once("encoding")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest.get(1..)?.split_once(quote).map(|(label, _)| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        let utf16: Vec<u8> = "<a>é</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked: Vec<u8> = [&[0xff, 0xfe], &utf16[..]].concat();
        let cyrillic = b"<?xml version='1.0' encoding='windows-1251'?><a>\xe6</a>";
        let latin = b"<?xml version='1.0' encoding=\"ISO-8859-1\"?><a>\xe9</a>";
        for (bytes, end) in [
            (&utf16[..], "<a>é</a>"),
            (&marked, "<a>é</a>"),
            (b"\xef\xbb\xbf<a/>", "<a/>"),
            (cyrillic, "<a>ж</a>"),
            (latin, "<a>é</a>"),
        ] {
            assert!(decode(bytes).unwrap().ends_with(end), "{end}");
        }
        for bytes in [&b"\xe9"[..], b"<?xml encoding='nonsense'?><a/>", b"<?xml encoding='us-ascii'?>\xe9"] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
