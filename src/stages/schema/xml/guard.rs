//! Checks a document before libxml2 parses it: one pass, in linear time and without building a tree, that accepts only
//! the XML features that a body needs.
//!
//! Only UTF-8 and XML 1.0. No DOCTYPE, and so no custom entities, no external resources and no default attributes; no
//! processing instructions. Depth, counts, and the length of names and values are bounded. Tags match, prefixes are
//! bound to namespaces (Namespaces in XML 1.0), and references are limited to characters and the five predefined
//! entities.
//!
//! This is not a full parser: libxml2 reports everything else that is not well formed.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesDecl, BytesStart, Event};

use super::namespaces::Namespaces;
use super::problem::Position;
use super::settings::XmlSettings;

/// Most bytes of text without an element in between. The limit of libxml2 is slightly higher.
const MAX_TEXT: usize = 9_000_000;

/// Why the guard rejects a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GuardError {
    /// Offset of the problem, in bytes.
    pub(super) offset: usize,
    /// The problem, without values of the document.
    pub(super) message: Cow<'static, str>,
}

impl GuardError {
    pub(super) fn new(offset: usize, message: impl Into<Cow<'static, str>>) -> Self {
        Self { offset, message: message.into() }
    }
}

/// One event of the pass over the document.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// An element begins.
    Open(Element<'a>),
    /// An element ends.
    Close,
    /// Text that is not only white space.
    Text {
        /// Offset of its first byte.
        offset: usize,
    },
}

/// An element that begins.
#[derive(Debug)]
pub(super) struct Element<'a> {
    /// Offset of its `<`.
    pub(super) offset: usize,
    /// The qualified name.
    pub(super) name: &'a str,
    /// The tag, with the attributes.
    pub(super) tag: BytesStart<'a>,
}

impl<'a> Element<'a> {
    /// The name without a prefix.
    pub(super) fn local_name(&self) -> &'a str {
        self.name.split_once(':').map_or(self.name, |(_, local)| local)
    }
}

/// Returns the document as text, without a byte order mark.
pub(super) fn text(document: &[u8]) -> Result<&str, GuardError> {
    let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
    std::str::from_utf8(document)
        .map_err(|error| GuardError::new(0, format!("it is not UTF-8: byte {} is not", error.valid_up_to() + 1)))
}

/// Returns line and column of an offset, both from 1; columns count characters.
pub(super) fn position_of(text: &str, offset: usize) -> Position {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let column = before.get(start..).unwrap_or_default().iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1;
    Position { line, column }
}

/// A pass over one document.
pub(super) struct Guard<'a> {
    text: &'a str,
    reader: Reader<&'a [u8]>,
    settings: &'a XmlSettings,
    /// Skips processing instructions instead of rejecting them: a schema file may have them.
    instructions: bool,
    namespaces: Namespaces,
    depth: usize,
    elements: usize,
    references: usize,
    /// Bytes of text since the last tag.
    run: usize,
    /// The last element was `<empty/>`, and its end has not been returned yet.
    empty: bool,
}

impl<'a> Guard<'a> {
    /// Makes a guard for a body.
    pub(super) fn new(text: &'a str, settings: &'a XmlSettings) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_comments = true;
        Self {
            text,
            reader,
            settings,
            instructions: false,
            namespaces: Namespaces::new(settings.max_namespaces),
            depth: 0,
            elements: 0,
            references: 0,
            run: 0,
            empty: false,
        }
    }

    /// Makes a guard for a schema file.
    pub(super) fn over_schema(text: &'a str, settings: &'a XmlSettings) -> Self {
        Self { instructions: true, ..Self::new(text, settings) }
    }

    /// The depth of the last element that began; the root is at 1.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The namespace of the element that has just begun; empty for none.
    pub(super) fn namespace(&self, element: &Element<'_>) -> &str {
        let prefix = element.name.split_once(':').map_or("", |(prefix, _)| prefix);
        self.namespaces.resolve(prefix).unwrap_or("")
    }

    /// Checks the rest of the document.
    pub(super) fn finish(mut self) -> Result<(), GuardError> {
        while self.step()?.is_some() {}
        Ok(())
    }

    /// Returns the next event; `None` at the end of a complete document.
    pub(super) fn step(&mut self) -> Result<Option<Step<'a>>, GuardError> {
        if std::mem::take(&mut self.empty) {
            self.close();
            return Ok(Some(Step::Close));
        }
        loop {
            let offset = self.position();
            let reject = |words: &'static str| Err(GuardError::new(offset, words));
            let event = self.reader.read_event().map_err(|error| self.translate_error(&error))?;
            match event {
                Event::Start(tag) => return self.open(tag, offset).map(Some),
                Event::Empty(tag) => {
                    let step = self.open(tag, offset)?;
                    self.empty = true;
                    return Ok(Some(step));
                }
                Event::End(_) => {
                    self.close();
                    return Ok(Some(Step::Close));
                }
                Event::Text(text) => {
                    self.count_text(text.len(), offset)?;
                    if !text.trim_ascii().is_empty() {
                        return self.character_data(offset).map(Some);
                    }
                }
                Event::CData(text) => {
                    self.count_text(text.len(), offset)?;
                    return self.character_data(offset).map(Some);
                }
                Event::GeneralRef(reference) => {
                    self.count_text(1, offset)?;
                    self.check_reference(&reference, offset)?;
                    return self.character_data(offset).map(Some);
                }
                Event::Comment(_) => {}
                Event::Decl(declaration) if offset == 0 => declared(&declaration)?,
                Event::Decl(_) => return reject("an XML declaration is only allowed at the very start"),
                Event::PI(_) if self.instructions => {}
                Event::PI(_) => {
                    return reject("a processing instruction is not accepted; remove it");
                }
                Event::DocType(_) => return reject("a DOCTYPE is not accepted"),
                Event::Eof if self.depth > 0 => return reject("it ends before all elements are closed"),
                Event::Eof if self.elements == 0 => return reject("it has no element"),
                Event::Eof => return Ok(None),
            }
        }
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    fn open(&mut self, tag: BytesStart<'a>, offset: usize) -> Result<Step<'a>, GuardError> {
        let reject = |words: String| Err(GuardError::new(offset, words));
        if self.depth == 0 && self.elements > 0 {
            return reject("there is a second root element".to_owned());
        }
        self.run = 0;
        self.depth += 1;
        self.elements += 1;
        if self.depth > self.settings.max_depth {
            return reject(format!("elements are nested deeper than {}", self.settings.max_depth));
        }
        if self.elements > self.settings.max_elements {
            return reject(format!("there are more than {} elements", self.settings.max_elements));
        }
        let name = self.text.get(offset + 1..offset + 1 + tag.name().into_inner().len()).unwrap_or("");
        self.check_name(name, offset)?;
        self.attributes(&tag, offset)?;
        if !name.contains(':')
            || self.namespaces.resolve(name.split_once(':').map_or("", |(prefix, _)| prefix)).is_some()
        {
            return Ok(Step::Open(Element { offset, name, tag }));
        }
        reject("the prefix of the element is bound to no namespace".to_owned())
    }

    fn close(&mut self) {
        self.run = 0;
        self.namespaces.leave(self.depth);
        self.depth = self.depth.saturating_sub(1);
    }

    /// Namespace declarations may come after the attributes that use them, so there are two passes over the attributes.
    fn attributes(&mut self, tag: &BytesStart<'_>, offset: usize) -> Result<(), GuardError> {
        let settings = self.settings;
        let (mut count, mut prefixed) = (0_usize, 0_usize);
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|error| match error {
                quick_xml::events::attributes::AttrError::Duplicated(..) => {
                    GuardError::new(offset, "duplicate attribute")
                }
                _ => GuardError::new(offset, "an attribute is not written `name=\"value\"`"),
            })?;
            count += 1;
            if count > settings.max_attributes {
                return Err(GuardError::new(
                    offset,
                    format!("an element has more than {count} attributes", count = count - 1),
                ));
            }
            let (name, value) = (attribute.key.into_inner(), attribute.value.as_ref());
            self.check_name(name, offset)?;
            if value.len() > settings.max_attribute {
                let words = format!("the value of an attribute is longer than {} bytes", settings.max_attribute);
                return Err(GuardError::new(offset, words));
            }
            for reference in value.split('&').skip(1) {
                let Some((reference, _)) = reference.split_once(';') else {
                    return Err(GuardError::new(offset, "an `&` in an attribute begins no reference; write `&amp;`"));
                };
                self.check_reference(reference, offset)?;
            }
            let declared = match name.strip_prefix("xmlns") {
                Some("") => Some(""),
                Some(rest) => rest.strip_prefix(':'),
                None => None,
            };
            match declared {
                Some(prefix) => {
                    let value = quick_xml::escape::unescape(value)
                        .map_err(|_| GuardError::new(offset, "the namespace name cannot be decoded"))?;
                    self.namespaces
                        .declare(self.depth, prefix, &value)
                        .map_err(|words| GuardError::new(offset, words))?;
                }
                None => prefixed += usize::from(name.contains(':')),
            }
        }
        if prefixed == 0 {
            return Ok(());
        }
        self.check_expanded_names(tag, prefixed).map_err(|words| GuardError::new(offset, words))
    }

    /// Checks that prefixed attributes are bound, and that no two have the same namespace and local name.
    fn check_expanded_names(&self, tag: &BytesStart<'_>, prefixed: usize) -> Result<(), &'static str> {
        let mut seen: Vec<(&str, &str)> = Vec::with_capacity(prefixed);
        for attribute in tag.attributes().with_checks(false).flatten() {
            let Some((prefix, local)) = attribute.key.into_inner().split_once(':') else { continue };
            if prefix == "xmlns" {
                continue;
            }
            let namespace =
                self.namespaces.resolve(prefix).ok_or("the prefix of an attribute is bound to no namespace")?;
            if seen.contains(&(namespace, local)) {
                return Err("duplicate attribute, by namespace and local name");
            }
            seen.push((namespace, local));
        }
        Ok(())
    }

    fn check_name(&self, name: &str, offset: usize) -> Result<(), GuardError> {
        if name.len() > self.settings.max_name {
            return Err(GuardError::new(offset, format!("a name is longer than {} bytes", self.settings.max_name)));
        }
        let mut parts = name.split(':');
        let sound = parts.next().is_some_and(|part| !part.is_empty())
            && parts.next().is_none_or(|part| !part.is_empty())
            && parts.next().is_none();
        if sound { Ok(()) } else { Err(GuardError::new(offset, "a name is empty, or has more than one colon")) }
    }

    fn count_text(&mut self, length: usize, offset: usize) -> Result<(), GuardError> {
        self.run = self.run.saturating_add(length);
        if self.run > MAX_TEXT {
            return Err(GuardError::new(offset, format!("a text is longer than {MAX_TEXT} bytes")));
        }
        Ok(())
    }

    fn character_data(&self, offset: usize) -> Result<Step<'a>, GuardError> {
        if self.depth == 0 {
            return Err(GuardError::new(offset, "text outside the root element is not allowed"));
        }
        Ok(Step::Text { offset })
    }

    /// Checks a reference, given without `&` and `;`.
    fn check_reference(&mut self, reference: &str, offset: usize) -> Result<(), GuardError> {
        self.references += 1;
        if self.references > self.settings.max_references {
            let words = format!("there are more than {} references", self.settings.max_references);
            return Err(GuardError::new(offset, words));
        }
        let sound = match reference.strip_prefix('#') {
            Some(number) => {
                let digits = number.strip_prefix('x');
                let radix = if digits.is_some() { 16 } else { 10 };
                let digits = digits.unwrap_or(number);
                digits.bytes().all(|digit| digit.is_ascii_hexdigit())
                    && u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).is_some_and(is_xml_char)
            }
            None => quick_xml::escape::resolve_xml_entity(reference).is_some(),
        };
        if sound {
            return Ok(());
        }
        Err(GuardError::new(offset, "a reference must be to a character, or one of `lt`, `gt`, `amp`, `apos`, `quot`"))
    }

    /// Translates an error of quick-xml, whose messages contain names of the document and are meant for programmers.
    fn translate_error(&self, error: &quick_xml::Error) -> GuardError {
        use quick_xml::errors::IllFormedError as Ill;
        let words = match error {
            quick_xml::Error::IllFormed(Ill::MismatchedEndTag { .. }) => "an end tag does not match its start tag",
            quick_xml::Error::IllFormed(Ill::UnmatchedEndTag(_)) => "an end tag has no start tag",
            quick_xml::Error::IllFormed(Ill::UnclosedReference) => "an `&` begins no reference; write `&amp;`",
            quick_xml::Error::IllFormed(Ill::DoubleHyphenInComment) => "a comment holds `--`",
            quick_xml::Error::IllFormed(Ill::MissingDoctypeName) => "a DOCTYPE is not accepted",
            quick_xml::Error::Syntax(quick_xml::errors::SyntaxError::UnclosedDoctype) => "a DOCTYPE is not accepted",
            quick_xml::Error::Syntax(_) => "some markup is not closed",
            _ => "it cannot be parsed",
        };
        GuardError::new(usize::try_from(self.reader.error_position()).unwrap_or(0), words)
    }
}

/// `Char` of XML 1.0 §2.2.
fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// XML 1.0, in UTF-8 (§2.8).
fn declared(declaration: &BytesDecl<'_>) -> Result<(), GuardError> {
    if !declaration.version().is_ok_and(|version| version == "1.0") {
        return Err(GuardError::new(0, "only XML 1.0 is accepted"));
    }
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(encoding)) if encoding.eq_ignore_ascii_case("utf-8") => Ok(()),
        Some(_) => Err(GuardError::new(0, "only UTF-8 is accepted")),
    }
}
