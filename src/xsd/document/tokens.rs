//! The tokens of an XML document, well-formed each for itself (XML 1.0 fifth edition).
//!
//! Everything is borrowed from the text. The text may be a part of a document: a token that may go on after it is
//! [`Token::Incomplete`], and read again when there is more.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem};

use super::malformed::Malformed;
use super::markup::{declaration, doctype_end, name_end};
use super::references::{line_ends, resolve};
use crate::xsd::chars::{is_space, is_space_byte};

/// What a document may have beside elements and text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepts {
    /// A document type declaration.
    pub(crate) doctype: bool,
    /// Attributes of one element, at most; namespace declarations are among them.
    pub(crate) attributes: usize,
    /// Bytes of a qualified name, at most.
    pub(crate) name: usize,
}

impl Accepts {
    /// What the documents of a schema may have.
    pub(crate) const SCHEMA: Self = Self { doctype: true, attributes: 4096, name: usize::MAX };
    /// Everything, for a document that was read before.
    pub(crate) const ANY: Self = Self { doctype: true, attributes: usize::MAX, name: usize::MAX };
}

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A start tag; its attributes are in [`Tokens::attributes`].
    Start {
        /// The qualified name.
        name: &'a str,
        /// `<name/>`
        empty: bool,
    },
    /// An end tag.
    End(&'a str),
    /// Characters.
    Text(RawText<'a>),
    /// The character that a reference stands for.
    Character(char),
    /// The content of a CDATA section.
    CData(&'a str),
    /// A comment, or the XML declaration.
    Skipped,
    /// A processing instruction.
    Instruction,
    /// A document type declaration, after `<!DOCTYPE` and before `>`.
    Doctype(&'a str),
    /// More of the document is needed.
    Incomplete,
    /// The end of the document.
    End_,
}

/// Characters as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawText<'a> {
    written: &'a str,
    /// Which of [`TEXT_BYTES`] it has.
    seen: u8,
}

impl<'a> RawText<'a> {
    /// Whether it is only white space.
    pub(crate) fn is_blank(self) -> bool {
        self.seen & VISIBLE == 0
    }

    /// The text as written.
    pub(crate) fn written(self) -> &'a str {
        self.written
    }

    /// The text, with line ends as `\n`.
    pub(crate) fn text(self) -> Cow<'a, str> {
        if self.seen & RETURN == 0 { Cow::Borrowed(self.written) } else { line_ends(self.written) }
    }
}

/// It ends the text.
const STOP: u8 = 1;
/// It is not white space.
const VISIBLE: u8 = 2;
/// It is `\r`.
const RETURN: u8 = 4;
/// It is `]`.
const BRACKET: u8 = 8;

/// What the bytes of a text are.
const TEXT_BYTES: [u8; 256] = {
    let mut table = [VISIBLE; 256];
    table[b'<' as usize] = STOP;
    table[b'&' as usize] = STOP;
    table[b' ' as usize] = 0;
    table[b'\t' as usize] = 0;
    table[b'\n' as usize] = 0;
    table[b'\r' as usize] = RETURN;
    table[b']' as usize] = VISIBLE | BRACKET;
    table
};

/// An attribute as written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawAttribute<'a> {
    /// The qualified name.
    pub(crate) name: &'a str,
    /// The value without its quotes.
    pub(crate) value: &'a str,
    /// Whether the value is as written: no references, no white space but spaces.
    pub(crate) plain: bool,
    /// Of the name.
    pub(crate) offset: usize,
}

/// Reads tokens from a text.
#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    /// Where the text begins in the document, in bytes.
    base: usize,
    accepts: Accepts,
    /// Whether nothing comes after the text.
    last: bool,
    attributes: Vec<RawAttribute<'a>>,
}

/// What an incomplete token is.
enum Stop {
    Incomplete,
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

type Step<T> = Result<T, Stop>;

impl<'a> Tokens<'a> {
    /// Reads a whole document.
    pub(crate) fn new(text: &'a str, accepts: Accepts) -> Self {
        Self::part(text, 0, true, accepts)
    }

    /// Reads a part of a document, which begins at `base`.
    pub(crate) fn part(text: &'a str, base: usize, last: bool, accepts: Accepts) -> Self {
        Self { text, at: 0, base, accepts, last, attributes: Vec::new() }
    }

    /// Where the next token begins, in the document.
    pub(crate) fn offset(&self) -> usize {
        self.base.saturating_add(self.at)
    }

    /// Goes back to a token before.
    pub(crate) fn back_to(&mut self, offset: usize) {
        self.at = offset.saturating_sub(self.base);
    }

    /// The attributes of the last start tag.
    pub(crate) fn attributes(&self) -> &[RawAttribute<'a>] {
        &self.attributes
    }

    /// Returns the next token.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Token<'a>, Malformed> {
        let start = self.at;
        match self.token() {
            Ok(token) => Ok(token),
            Err(Stop::Malformed(malformed)) => Err(malformed),
            Err(Stop::Incomplete) if self.last => {
                Err(Malformed::new(self.base.saturating_add(start), "it ends within markup"))
            }
            Err(Stop::Incomplete) => {
                self.at = start;
                Ok(Token::Incomplete)
            }
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn fail<T>(&self, message: impl Into<Cow<'static, str>>) -> Step<T> {
        Err(Stop::Malformed(Malformed::new(self.offset(), message)))
    }

    /// Takes what is before a delimiter, and the delimiter.
    fn until(&mut self, delimiter: &str) -> Step<&'a str> {
        let rest = self.rest();
        let found = memmem::find(rest.as_bytes(), delimiter.as_bytes()).ok_or(Stop::Incomplete)?;
        self.at = self.at.saturating_add(found).saturating_add(delimiter.len());
        Ok(rest.get(..found).unwrap_or(""))
    }

    #[inline]
    fn token(&mut self) -> Step<Token<'a>> {
        let rest = self.rest();
        match rest.as_bytes() {
            [] if self.last => Ok(Token::End_),
            [] => Err(Stop::Incomplete),
            [b'<', b'/', ..] => self.end_tag(),
            [b'<', b'?', ..] => self.instruction(),
            [b'<', b'!', ..] => self.declaration(),
            [b'<', _, ..] => self.start_tag(rest),
            [b'<'] => Err(Stop::Incomplete),
            [b'&', ..] => self.reference(),
            _ => self.characters(rest),
        }
    }

    fn characters(&mut self, rest: &'a str) -> Step<Token<'a>> {
        let mut seen = 0;
        let ends = |byte: u8| {
            let class = TEXT_BYTES.get(usize::from(byte)).copied().unwrap_or(STOP);
            seen |= class;
            class == STOP
        };
        // Most texts are short, so that to look for several bytes at once takes longer.
        let end = match rest.bytes().position(ends) {
            Some(end) => end,
            None if self.last => rest.len(),
            None => return Err(Stop::Incomplete),
        };
        let written = rest.get(..end).unwrap_or("");
        if seen & BRACKET != 0 && written.contains("]]>") {
            return self.fail("text contains `]]>`; write `]]&gt;`");
        }
        self.at = self.at.saturating_add(end);
        Ok(Token::Text(RawText { written, seen }))
    }

    /// Takes the end tag of an element with this name, as it is mostly written, if it comes next. `None` if more of the
    /// document is needed to tell.
    pub(crate) fn take_end(&mut self, name: &str) -> Option<bool> {
        let rest = self.rest().as_bytes();
        let length = name.len().saturating_add(3);
        let Some(tag) = rest.get(..length) else { return self.last.then_some(false) };
        let comes = tag.starts_with(b"</")
            && tag.ends_with(b">")
            && tag.get(2..length.saturating_sub(1)) == Some(name.as_bytes());
        if comes {
            self.at = self.at.saturating_add(length);
        }
        Some(comes)
    }

    fn reference(&mut self) -> Step<Token<'a>> {
        let offset = self.offset();
        let rest = self.rest().get(1..).unwrap_or("");
        let near = rest.as_bytes().get(..64.min(rest.len())).unwrap_or_default();
        let end = match memchr2(b';', b'<', near) {
            Some(end) if near.get(end) == Some(&b';') => end,
            None if rest.len() < 64 && !self.last => return Err(Stop::Incomplete),
            None if rest.len() >= 64 => {
                return self.fail("an `&` begins no reference, or one of more than 64 bytes; write `&amp;`");
            }
            _ => return self.fail("an `&` begins no reference; write `&amp;`"),
        };
        let c = resolve(rest.get(..end).unwrap_or(""), offset)?;
        self.at = self.at.saturating_add(end).saturating_add(2);
        Ok(Token::Character(c))
    }

    fn instruction(&mut self) -> Step<Token<'a>> {
        let offset = self.offset();
        self.at = self.at.saturating_add(2);
        let content = self.until("?>")?;
        let end = name_end(content);
        let (target, data) = content.split_at_checked(end).unwrap_or((content, ""));
        if target.is_empty() || !data.is_empty() && !data.starts_with([' ', '\t', '\r', '\n']) {
            return Err(Malformed::new(offset, "a processing instruction has no name").into());
        }
        if target.contains(':') {
            return Err(Malformed::new(offset, "the name of a processing instruction has a colon").into());
        }
        if target.eq_ignore_ascii_case("xml") {
            if offset > 0 || target != "xml" {
                return Err(Malformed::new(offset, "an XML declaration is only allowed at the very start").into());
            }
            declaration(data).map_err(|message| Malformed::new(0, message))?;
            return Ok(Token::Skipped);
        }
        Ok(Token::Instruction)
    }

    fn declaration(&mut self) -> Step<Token<'a>> {
        let (offset, rest) = (self.offset(), self.rest());
        if rest.starts_with("<!--") {
            self.at = self.at.saturating_add(4);
            self.until("--")?;
            return match self.rest().as_bytes().first() {
                Some(b'>') => {
                    self.at = self.at.saturating_add(1);
                    Ok(Token::Skipped)
                }
                Some(_) => Err(Malformed::new(offset, "a comment holds `--`").into()),
                None => Err(Stop::Incomplete),
            };
        }
        if rest.starts_with("<![CDATA[") {
            self.at = self.at.saturating_add(9);
            return self.until("]]>").map(Token::CData);
        }
        if let Some(content) = rest.strip_prefix("<!DOCTYPE") {
            if !self.accepts.doctype {
                return self.fail("a DOCTYPE is not accepted");
            }
            let end = doctype_end(content).map_err(|message| Malformed::new(offset, message))?;
            let end = end.ok_or(Stop::Incomplete)?;
            self.at = self.at.saturating_add(end).saturating_add(10);
            return Ok(Token::Doctype(content.get(..end).unwrap_or("")));
        }
        let short = ["<!--", "<![CDATA[", "<!DOCTYPE"].iter().any(|whole| whole.starts_with(rest));
        if short { Err(Stop::Incomplete) } else { self.fail("a `<!` begins no comment, CDATA section or DOCTYPE") }
    }

    fn end_tag(&mut self) -> Step<Token<'a>> {
        let rest = self.rest().get(2..).unwrap_or("");
        let end = memchr(b'>', rest.as_bytes()).ok_or(Stop::Incomplete)?;
        let name = rest.get(..end).unwrap_or("");
        let spaced = name.as_bytes().last().is_some_and(|byte| is_space_byte(*byte));
        let name = if spaced { name.trim_end_matches(is_space) } else { name };
        self.at = self.at.saturating_add(end).saturating_add(3);
        Ok(Token::End(name))
    }

    fn start_tag(&mut self, rest: &'a str) -> Step<Token<'a>> {
        self.attributes.clear();
        let rest = rest.get(1..).unwrap_or("");
        let name = rest.get(..name_end(rest)).unwrap_or("");
        if name.is_empty() {
            return self.fail("a `<` begins no tag; write `&lt;`");
        }
        self.check_length(name)?;
        let after = self.at.saturating_add(1).saturating_add(name.len());
        if self.text.as_bytes().get(after) == Some(&b'>') {
            self.at = after.saturating_add(1);
            return Ok(Token::Start { name, empty: false });
        }
        self.rest_of_tag(name, after)
    }

    /// Reads a start tag from where its name ends.
    fn rest_of_tag(&mut self, name: &'a str, mut at: usize) -> Step<Token<'a>> {
        let bytes = self.text.as_bytes();
        loop {
            let before = at;
            while bytes.get(at).is_some_and(|byte| is_space_byte(*byte)) {
                at = at.saturating_add(1);
            }
            match bytes.get(at) {
                None => return Err(Stop::Incomplete),
                Some(b'>') => {
                    self.at = at.saturating_add(1);
                    return Ok(Token::Start { name, empty: false });
                }
                Some(b'/') => match bytes.get(at.saturating_add(1)) {
                    None => return Err(Stop::Incomplete),
                    Some(b'>') => {
                        self.at = at.saturating_add(2);
                        return Ok(Token::Start { name, empty: true });
                    }
                    Some(_) => return self.fail("a tag is not closed"),
                },
                Some(_) if before == at => return self.fail("a name is not one of XML, or a space is missing"),
                Some(_) => at = self.attribute(at)?,
            }
        }
    }

    fn check_length(&self, name: &str) -> Step<()> {
        if name.len() <= self.accepts.name {
            return Ok(());
        }
        self.fail(format!("a name is longer than {} bytes", self.accepts.name))
    }

    /// Reads an attribute, and returns where it ends.
    fn attribute(&mut self, offset: usize) -> Step<usize> {
        const WRONG: &str = "an attribute is not written `name=\"value\"`";
        let rest = self.text.get(offset..).unwrap_or("");
        let length = name_end(rest);
        let name = rest.get(..length).unwrap_or("");
        let mut at = offset.saturating_add(length);
        let bytes = self.text.as_bytes();
        let skip_space = |mut at: usize| {
            while bytes.get(at).is_some_and(|byte| is_space_byte(*byte)) {
                at = at.saturating_add(1);
            }
            at
        };
        at = skip_space(at);
        match bytes.get(at) {
            None => return Err(Stop::Incomplete),
            Some(b'=') if !name.is_empty() => at = skip_space(at.saturating_add(1)),
            Some(_) => return self.fail(WRONG),
        }
        self.check_length(name)?;
        let quote = match bytes.get(at) {
            None => return Err(Stop::Incomplete),
            Some(quote @ (b'"' | b'\'')) => *quote,
            Some(_) => return self.fail(WRONG),
        };
        let start = at.saturating_add(1);
        let value = self.text.get(start..).unwrap_or("");
        let end = memchr(quote, value.as_bytes()).ok_or(Stop::Incomplete)?;
        let value = value.get(..end).unwrap_or("");
        let mut plain = true;
        for byte in value.bytes() {
            match byte {
                b'<' => return self.fail("the value of an attribute contains `<`; write `&lt;`"),
                b'&' | b'\t' | b'\n' | b'\r' => plain = false,
                _ => {}
            }
        }
        if self.attributes.len() >= self.accepts.attributes {
            return self.fail(format!("an element has more than {} attributes", self.accepts.attributes));
        }
        let offset = self.base.saturating_add(offset);
        self.attributes.push(RawAttribute { name, value, plain, offset });
        Ok(start.saturating_add(end).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<String>, String> {
        let mut tokens = Tokens::new(text, Accepts::SCHEMA);
        let mut all = Vec::new();
        loop {
            match tokens.next().map_err(|error| error.message.into_owned())? {
                Token::End_ => return Ok(all),
                token => all.push(format!(
                    "{token:?}{:?}",
                    tokens.attributes().iter().map(|a| (a.name, a.value)).collect::<Vec<_>>()
                )),
            }
        }
    }

    #[test]
    fn tokens_of_a_document() {
        let text = "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b '>'>]><a b = '1' c=\"&lt;\">x&amp;<![CDATA[<y>]]><d/><!-- - --></a >";
        let found = all(text).unwrap();
        assert_eq!(found.len(), 9, "{found:?}");
        assert!(found[2].contains(r#"[("b", "1"), ("c", "&lt;")]"#), "{found:?}");
    }

    #[test]
    fn what_is_malformed() {
        for text in [
            "<",
            "<a",
            "<a b>",
            "<a b=1>",
            "<a b='1'c='2'>",
            "<a b='<'>",
            "<1>",
            "< a>",
            "&",
            "&nbsp;",
            "&amp<b/>",
            "&#0;",
            "]]>",
            "<!-- -- -->",
            "<!a>",
            "<?xml?>",
            "<?p:q?>",
            " <?xml version='1.0'?>",
            "<?XML version='1.0'?>",
            "<a/ >",
            "<![CDATA[",
            "<!DOCTYPE a [",
        ] {
            assert!(all(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reference_in_text_is_not_longer_than_64_bytes() {
        let of = |zeros: usize| all(&format!("<a>&#{}65;</a>", "0".repeat(zeros)));
        assert!(of(60).is_ok());
        assert!(of(61).unwrap_err().contains("more than 64 bytes"));
    }

    #[test]
    fn a_part_of_a_document_is_incomplete_and_never_malformed() {
        let text = "<?xml version='1.0'?><a b='1' c=\"&lt;\">x&amp;y]]<![CDATA[<y>]]><d /><!-- - --></a >\r\n";
        for cut in 0..text.len() {
            let mut tokens = Tokens::part(&text[..cut], 0, false, Accepts::SCHEMA);
            while !matches!(tokens.next().unwrap(), Token::Incomplete) {}
            let used = tokens.offset();
            assert!(Tokens::part(&text[used..], used, true, Accepts::SCHEMA).next().is_ok(), "{cut}");
        }
    }
}
