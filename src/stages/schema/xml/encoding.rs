//! The encoding of an XML body (XML 1.0 §4.3.3, RFC 7303 §3): UTF-8, US-ASCII, ISO-8859-1, or UTF-16 with a byte order mark.
//!
//! A body may say its encoding in three places: the byte order mark, `charset` of the media type, and the XML declaration. Which one
//! a parser believes differs, so all that are there must say the same, and an encoding that has to be believed must be said by the
//! body itself: otherwise the upstream might read another text than was judged.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};
use mediatype::names::CHARSET;
use mediatype::{MediaType, ReadParams};

use crate::body::no_memory;
use crate::budget::{MemoryBudget, Reservation};
use crate::refusal::{Refusal, Stage};
use crate::stages::schema::malformed::malformed;
use crate::xsd::document::decode::declared;

/// An encoding that bodies may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    Utf8,
    /// A part of UTF-8; with other bytes, decoders do different things.
    Ascii,
    Latin1,
    /// With a byte order mark.
    Utf16,
}

impl Charset {
    /// The encoding with this name (IANA character sets).
    fn named(name: &str) -> Option<Self> {
        // `utf8` is no registered name, but means nothing else (WHATWG Encoding §4.2).
        const NAMES: [(&str, Charset); 6] = [
            ("utf-8", Charset::Utf8),
            ("utf8", Charset::Utf8),
            ("us-ascii", Charset::Ascii),
            ("iso-8859-1", Charset::Latin1),
            ("latin1", Charset::Latin1),
            ("utf-16", Charset::Utf16),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, charset)| *charset)
    }

    /// What a media type says. `Err`: an encoding that bodies may not have.
    pub(in crate::stages::schema) fn of(media: &MediaType<'_>) -> Result<Option<Self>, ()> {
        let mut said = None;
        for (name, value) in media.params() {
            // `charset*` (RFC 2231) is the charset for some parsers.
            if !name.as_str().get(..7).is_some_and(|start| start.eq_ignore_ascii_case("charset")) {
                continue;
            }
            let charset = Self::named(&value.unquoted_str()).filter(|_| name == CHARSET).ok_or(())?;
            if said.is_some_and(|before| before != charset) {
                return Err(());
            }
            said = Some(charset);
        }
        Ok(said)
    }
}

/// A body as text, without its byte order mark, and what its memory was taken from.
pub(super) type Text<'b> = (Cow<'b, str>, Option<Reservation>);

/// Decodes a body whose media type says this encoding. A text that has to be made takes its bytes from `memory`.
pub(super) fn text<'b>(body: &'b [u8], said: Option<Charset>, memory: &MemoryBudget) -> Result<Text<'b>, Refusal> {
    let marks: [(&[u8], &Encoding); 2] = [(b"\xff\xfe", UTF_16LE), (b"\xfe\xff", UTF_16BE)];
    let marked = marks.into_iter().find_map(|(mark, encoding)| Some((body.strip_prefix(mark)?, encoding)));
    if let Some((rest, encoding)) = marked {
        if said.is_some_and(|said| said != Charset::Utf16) {
            return Err(refuse("its byte order mark is not that of the `charset`"));
        }
        let decode = || encoding.decode_without_bom_handling_and_without_replacement(rest).map(Cow::into_owned);
        // Two bytes become three at most.
        let (text, taken) = made(body.len() + body.len() / 2, memory, decode)?;
        return match declared(text.as_bytes()) {
            Some(label) if Charset::named(label) != Some(Charset::Utf16) => Err(refuse("it declares another encoding")),
            _ => Ok((text, taken)),
        };
    }
    let (rest, is_marked) = match body.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => (rest, true),
        None => (body, false),
    };
    let declared = match declared(rest) {
        None => Charset::Utf8,
        Some(label) => Charset::named(label).ok_or_else(|| refuse("it declares an encoding that is not accepted"))?,
    };
    let is_ascii = said == Some(Charset::Ascii) || declared == Charset::Ascii;
    if is_ascii && !rest.is_ascii() {
        return Err(refuse("it says that it is US-ASCII, and has other bytes"));
    }
    // Text of US-ASCII is the same in UTF-8.
    let plain = |charset| if charset == Charset::Ascii { Charset::Utf8 } else { charset };
    if said.is_some_and(|said| plain(said) != plain(declared)) {
        return Err(refuse("the `charset` of its `Content-Type` is not the encoding that it declares"));
    }
    match declared {
        Charset::Utf8 | Charset::Ascii => match std::str::from_utf8(rest) {
            Ok(text) => Ok((Cow::Borrowed(text), None)),
            Err(error) => {
                Err(refuse(&format!("it is not UTF-8: byte {} is not", error.valid_up_to().saturating_add(1))))
            }
        },
        Charset::Latin1 if is_marked => {
            Err(refuse("it has the byte order mark of UTF-8, and declares another encoding"))
        }
        Charset::Latin1 => latin1(rest, memory),
        Charset::Utf16 => Err(refuse("it declares UTF-16, and has no byte order mark")),
    }
}

/// Where the text begins of a body that is UTF-8, as far as its beginning tells; `None` if it does not tell, or says otherwise.
pub(super) fn start_of_utf8(beginning: &[u8], said: Option<Charset>) -> Option<usize> {
    let start = if beginning.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let rest = beginning.get(start..)?;
    let is_open = rest.starts_with(b"<?") && memchr::memmem::find(rest, b"?>").is_none();
    let is_utf8 = |charset: Option<Charset>| charset == Some(Charset::Utf8);
    let declared = declared(rest).is_none_or(|label| is_utf8(Charset::named(label)));
    (!is_open && declared && (said.is_none() || is_utf8(said))).then_some(start)
}

fn latin1<'b>(body: &'b [u8], memory: &MemoryBudget) -> Result<Text<'b>, Refusal> {
    if let Ok(text) = std::str::from_utf8(body)
        && body.is_ascii()
    {
        return Ok((Cow::Borrowed(text), None));
    }
    // What these are differs: control characters, or those of windows-1252 (WHATWG Encoding §4.2).
    if let Some(at) = body.iter().position(|byte| (0x80..0xa0).contains(byte)) {
        return Err(refuse(&format!("byte {} is no printable character of ISO-8859-1", at.saturating_add(1))));
    }
    made(body.len().saturating_mul(2), memory, || Some(body.iter().map(|byte| char::from(*byte)).collect()))
}

/// A text of at most so many bytes that has to be made; `None`: it cannot be.
fn made<'b>(most: usize, memory: &MemoryBudget, make: impl FnOnce() -> Option<String>) -> Result<Text<'b>, Refusal> {
    let mut taken = memory.reserve();
    taken.grow_to(most).map_err(|_| no_memory(Stage::Schema))?;
    let text = make().ok_or_else(|| refuse("it is not UTF-16"))?;
    Ok((Cow::Owned(text), Some(taken)))
}

fn refuse(message: &str) -> Refusal {
    malformed(format!("the body is not acceptable XML: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Reason;

    fn utf16(text: &str, mark: [u8; 2]) -> Vec<u8> {
        let units = text.encode_utf16();
        let bytes = units.flat_map(|unit| if mark == [0xff, 0xfe] { unit.to_le_bytes() } else { unit.to_be_bytes() });
        mark.into_iter().chain(bytes).collect()
    }

    #[test]
    fn an_encoding_is_believed_only_if_nothing_says_otherwise() {
        use Charset::{Ascii, Latin1, Utf8, Utf16};
        let (little, big) = ([0xff, 0xfe], [0xfe, 0xff]);
        let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>".to_vec();
        for (body, said, expected) in [
            (b"<a>\xc3\xa9</a>".to_vec(), None, Some("<a>é</a>")),
            (b"\xef\xbb\xbf<a>\xc3\xa9</a>".to_vec(), Some(Utf8), Some("<a>é</a>")),
            (b"<a>\xe9</a>".to_vec(), None, None),
            (latin.clone(), None, Some("é</a>")),
            (latin.clone(), Some(Latin1), Some("é</a>")),
            (latin.clone(), Some(Utf8), None),
            (latin.clone(), Some(Utf16), None),
            ([b"\xef\xbb\xbf", &latin[..]].concat(), None, None),
            // Another parser would read it as UTF-8.
            (b"<a>\xc3\xa9</a>".to_vec(), Some(Latin1), None),
            (b"<?xml version='1.0' encoding='latin1'?><a>\x80</a>".to_vec(), None, None),
            (b"<?xml version='1.0' encoding='latin1'?><a/>".to_vec(), None, Some("<a/>")),
            (b"<?xml version='1.0' encoding='us-ascii'?><a/>".to_vec(), Some(Utf8), Some("<a/>")),
            (b"<?xml version='1.0' encoding='us-ascii'?><a>\xc2\xbc</a>".to_vec(), None, None),
            (b"<a>\xc2\xbc</a>".to_vec(), Some(Ascii), None),
            (b"<a>x</a>".to_vec(), Some(Ascii), Some("<a>x</a>")),
            // No declaration: what it says of an encoding means nothing.
            (b"<?xml-stylesheet encoding='ISO-8859-1'?><a>\xc3\xa9</a>".to_vec(), None, Some("<a>é</a>")),
            (b"<?xml version='1.0' encoding='utf-7'?><a/>".to_vec(), None, None),
            (b"<?xml version='1.0' encoding='utf-16'?><a/>".to_vec(), None, None),
            (utf16("<a>é€😀</a>", little), None, Some("<a>é€😀</a>")),
            (utf16("<a>é</a>", big), Some(Utf16), Some("<a>é</a>")),
            (utf16("<?xml version='1.0' encoding='UTF-16'?><a/>", big), None, Some("<a/>")),
            (utf16("<?xml version='1.0' encoding='UTF-8'?><a/>", big), None, None),
            (utf16("<a/>", little), Some(Utf8), None),
            (utf16("<a/>", little)[2..].to_vec(), None, Some("<\0a\0/\0>\0")),
            ([&little[..], b"\x00\xd8<\x00"].concat(), None, None),
            ([&little[..], b"<\x00a"].concat(), None, None),
        ] {
            let text = text(&body, said, &MemoryBudget::new(1 << 20));
            match (&text, expected) {
                (Ok((text, _)), Some(expected)) => assert!(text.ends_with(expected), "{text}"),
                (Err(refusal), None) => assert_eq!(refusal.reason(), Reason::MalformedBody),
                _ => panic!("{body:?} {said:?}: {}", text.is_ok()),
            }
        }
    }

    #[test]
    fn a_text_that_is_made_takes_memory_and_gives_it_back() {
        let memory = MemoryBudget::new(200);
        let body = |count: usize| [b"<?xml version='1.0' encoding='latin1'?>".to_vec(), vec![0xe9; count]].concat();
        let (_, taken) = text(&body(20), None, &memory).map_err(|_| "refused").unwrap();
        assert!(memory.in_use() > 0);
        drop(taken);
        assert_eq!(memory.in_use(), 0);
        let refused = text(&body(200), None, &memory).map(|_| ()).unwrap_err();
        assert_eq!(refused.reason(), Reason::Overloaded);
        assert!(text(&[b' '; 1000], None, &memory).is_ok_and(|(_, taken)| taken.is_none()));
    }

    #[test]
    fn charsets_of_media_types() {
        for (media, expected) in [
            ("application/xml", Ok(None)),
            ("text/xml; charset=utf-8", Ok(Some(Charset::Utf8))),
            ("text/xml; charset=\"ISO-8859-1\"", Ok(Some(Charset::Latin1))),
            ("text/xml; charset=utf-16", Ok(Some(Charset::Utf16))),
            ("text/xml; charset=utf-7", Err(())),
            ("text/xml; charset*=utf-8''utf-8", Err(())),
            ("text/xml; charset=utf-8; charset=utf-16", Err(())),
        ] {
            assert_eq!(Charset::of(&MediaType::parse(media).unwrap()), expected, "{media}");
        }
    }
}
