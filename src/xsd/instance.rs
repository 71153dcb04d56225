//! Judges a whole instance: its XML, then its schema.

use std::borrow::Cow;
use std::collections::HashSet;

use super::chars::is_space;
use super::document::malformed::Malformed;
use super::document::namespaces::{Scopes, declared_prefix, split};
use super::document::references::{attribute_value, line_ends};
use super::document::tokens::{RawAttribute, Token, Tokens};
use super::names::{QName, Sym};
use super::schema::Schema;
use super::validate::{Attribute, Limits, Start, Validator};
use super::violation::Violation;
use crate::budget::Exhausted;

/// Why an instance is not valid.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// It is not well-formed XML.
    Malformed(Malformed),
    /// It violates its schema.
    Invalid(Vec<Violation>),
    /// It takes too much to tell.
    TooComplex,
}

impl From<Malformed> for Rejection {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Exhausted> for Rejection {
    fn from(_: Exhausted) -> Self {
        Self::TooComplex
    }
}

/// What of a document is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Judged<'p> {
    /// The element that a way of positions leads to from the root: at each step, which child it is, from 0.
    At(&'p [usize]),
    /// Nothing but that it is XML.
    Nothing,
}

/// Judges a document whose own entities are expanded; `entities` are the unparsed ones that it declares.
pub(crate) fn judge(
    schema: &Schema,
    text: &str,
    judged: Judged<'_>,
    limits: Limits,
    entities: HashSet<Box<str>>,
) -> Result<(), Rejection> {
    check_characters(text)?;
    let mut instance = Instance {
        tokens: Tokens::new(text),
        scopes: Scopes::default(),
        validator: Validator::new(schema, limits, entities),
        open: Vec::new(),
        begun: false,
        judged,
        positions: Vec::new(),
        inside: 0,
    };
    instance.run()?;
    let violations = instance.validator.finish();
    if violations.is_empty() { Ok(()) } else { Err(Rejection::Invalid(violations)) }
}

/// Checks that all characters are allowed in XML (§2.2).
pub(crate) fn check_characters(text: &str) -> Result<(), Malformed> {
    let bytes = text.as_bytes();
    let control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    // Chunks without an early end are looked through many bytes at a time.
    let dirty = |chunk: &[u8]| chunk.iter().fold(false, |found, byte| found | control(byte));
    let wrong = if bytes.chunks(256).any(dirty) { bytes.iter().position(control) } else { None };
    let wrong = wrong.or_else(|| {
        let candidates = memchr::memchr_iter(0xef, bytes);
        candidates.into_iter().find(|at| {
            let rest = bytes.get(*at..).unwrap_or_default();
            rest.starts_with(b"\xef\xbf\xbe") || rest.starts_with(b"\xef\xbf\xbf")
        })
    });
    match wrong {
        Some(offset) => Err(Malformed::new(offset, "a character is not allowed in XML")),
        None => Ok(()),
    }
}

struct Instance<'a, 's, 'p> {
    tokens: Tokens<'a>,
    scopes: Scopes,
    validator: Validator<'s>,
    /// The names of the open elements, as written.
    open: Vec<&'a str>,
    begun: bool,
    judged: Judged<'p>,
    /// For each open element around what is judged: how many of its children have begun.
    positions: Vec<usize>,
    /// How many open elements are judged.
    inside: usize,
}

impl<'a> Instance<'a, '_, '_> {
    fn run(&mut self) -> Result<(), Rejection> {
        let mut attributes: Vec<Attribute<'a>> = Vec::new();
        loop {
            let offset = self.tokens.offset();
            let fail = |message: &'static str| Err(Malformed::new(offset, message).into());
            match self.tokens.next()? {
                Token::Start { name, empty } => {
                    if self.open.is_empty() && self.begun {
                        return fail("there is a second root element");
                    }
                    self.begun = true;
                    self.open.push(name);
                    self.start(name, offset, &mut attributes)?;
                    if empty {
                        self.end()?;
                    }
                }
                Token::End(name) => {
                    if self.open.last() != Some(&name) {
                        return fail("an end tag does not match its start tag");
                    }
                    self.end()?;
                }
                Token::Text(text) if self.open.is_empty() => {
                    if !text.trim_matches(is_space).is_empty() {
                        return fail("text outside the root element is not allowed");
                    }
                }
                Token::CData(_) | Token::Character(_) if self.open.is_empty() => {
                    return fail("text outside the root element is not allowed");
                }
                Token::Text(text) | Token::CData(text) => self.validator.text(&line_ends(text))?,
                Token::Character(c) => self.validator.text(c.encode_utf8(&mut [0; 4]))?,
                Token::Doctype(_) if self.begun => return fail("a DOCTYPE is only allowed before the root element"),
                Token::Doctype(_) | Token::Skipped => {}
                Token::Incomplete | Token::End_ if !self.begun => return fail("it has no element"),
                Token::Incomplete | Token::End_ if !self.open.is_empty() => {
                    return fail("it ends before all elements are closed");
                }
                Token::Incomplete | Token::End_ => return Ok(()),
            }
        }
    }

    fn start(&mut self, name: &'a str, offset: usize, attributes: &mut Vec<Attribute<'a>>) -> Result<(), Rejection> {
        let depth = self.open.len();
        let malformed = |message: &'static str| Rejection::Malformed(Malformed::new(offset, message));
        let mut plain = true;
        for attribute in self.tokens.attributes() {
            plain &= attribute.plain;
            if let Some(prefix) = declared_prefix(attribute.name) {
                let uri = value_of(attribute)?;
                let sym = self.validator.symbol(&uri);
                self.scopes.declare(depth, prefix, &uri, sym).map_err(malformed)?;
            }
        }
        let (prefix, local) = split(name).map_err(malformed)?;
        let Some((_, ns)) = self.scopes.find(prefix) else {
            return Err(malformed("the prefix of the element is bound to no namespace"));
        };
        let name = QName::new(ns, self.validator.symbol(local));
        check_duplicates(self.tokens.attributes(), &self.scopes).map_err(malformed)?;
        attributes.clear();
        if plain {
            for attribute in self.tokens.attributes() {
                if declared_prefix(attribute.name).is_none() {
                    attributes.push(self.attribute(attribute, attribute.value).map_err(malformed)?);
                }
            }
            return self.begin(Start { name, local, offset, attributes });
        }
        let mut values: Vec<Cow<'_, str>> = Vec::with_capacity(self.tokens.attributes().len());
        for attribute in self.tokens.attributes() {
            values.push(value_of(attribute)?);
        }
        let mut decoded = Vec::with_capacity(values.len());
        for (attribute, value) in self.tokens.attributes().iter().zip(&values) {
            if declared_prefix(attribute.name).is_none() {
                decoded.push(self.attribute(attribute, value).map_err(malformed)?);
            }
        }
        self.begin(Start { name, local, offset, attributes: &decoded })
    }

    /// Hands an element to the validator, as one that is judged or as one around that.
    fn begin(&mut self, start: Start<'_>) -> Result<(), Rejection> {
        if self.inside > 0 || self.is_judged() {
            self.inside = self.inside.saturating_add(1);
            self.validator.start(start, &self.scopes)?;
        } else {
            self.validator.outside(start.local, start.offset);
            self.positions.push(0);
        }
        Ok(())
    }

    /// Whether the element that begins is the one that is judged.
    fn is_judged(&mut self) -> bool {
        if let Some(position) = self.positions.last_mut() {
            *position = position.saturating_add(1);
        }
        let Judged::At(way) = self.judged else { return false };
        let here = self.positions.iter().zip(way).all(|(position, wanted)| position.checked_sub(1) == Some(*wanted));
        here && self.positions.len() == way.len()
    }

    fn attribute<'v>(&self, raw: &RawAttribute<'v>, value: &'v str) -> Result<Attribute<'v>, &'static str> {
        let (prefix, local) = split(raw.name)?;
        let ns = match prefix {
            "" => Sym::NONE,
            prefix => self.scopes.find(prefix).ok_or("the prefix of an attribute is bound to no namespace")?.1,
        };
        Ok(Attribute { name: QName::new(ns, self.validator.symbol(local)), local, value })
    }

    fn end(&mut self) -> Result<(), Rejection> {
        self.validator.end(&self.scopes)?;
        if self.inside > 0 {
            self.inside = self.inside.saturating_sub(1);
        } else {
            self.positions.pop();
        }
        self.scopes.leave(self.open.len());
        self.open.pop();
        Ok(())
    }
}

fn value_of<'a>(attribute: &RawAttribute<'a>) -> Result<Cow<'a, str>, Malformed> {
    if attribute.plain {
        return Ok(Cow::Borrowed(attribute.value));
    }
    attribute_value(attribute.value, attribute.offset).map(Cow::Owned)
}

/// Checks that no two attributes have one name (XML 1.0 §3.1, Namespaces in XML §6.3).
fn check_duplicates(attributes: &[RawAttribute<'_>], scopes: &Scopes) -> Result<(), &'static str> {
    const TWICE: &str = "duplicate attribute";
    if attributes.len() <= 1 {
        return Ok(());
    }
    if attributes.len() <= 12 && !attributes.iter().any(|attribute| attribute.name.contains(':')) {
        let twice = |(index, attribute): (usize, &RawAttribute<'_>)| {
            attributes.iter().skip(index.saturating_add(1)).any(|other| other.name == attribute.name)
        };
        return if attributes.iter().enumerate().any(twice) { Err(TWICE) } else { Ok(()) };
    }
    let mut seen: HashSet<(&str, &str)> = HashSet::with_capacity(attributes.len());
    for attribute in attributes {
        let (prefix, local) = split(attribute.name)?;
        let namespace = match prefix {
            "" => "",
            "xmlns" => "xmlns",
            prefix => scopes.find(prefix).ok_or("the prefix of an attribute is bound to no namespace")?.0,
        };
        if !seen.insert((namespace, local)) {
            return Err(TWICE);
        }
    }
    Ok(())
}
