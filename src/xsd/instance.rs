//! Judges a whole instance: its XML, then its schema.

use std::borrow::Cow;
use std::collections::HashSet;

use super::chars::is_space_byte;
use super::components::model::ElementId;
use super::document::malformed::Malformed;
use super::document::namespaces::{Scopes, declared_prefix, is_declaration, split};
use super::document::references::{attribute_value, line_ends};
use super::document::tokens::{Accepts, RawAttribute, Token, Tokens};
use super::names::{QName, Sym};
use super::schema::Schema;
use super::validate::{Attribute, Limits, Start, Validator};
use super::violation::Violation;
use crate::budget::{Exhausted, Reservation, Steps};

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

/// What a document may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) markup: Accepts,
    /// Processing instructions in the root element and after it; those before it are always accepted.
    pub(crate) instructions: bool,
    /// Elements within each other, at most.
    pub(crate) depth: usize,
    /// Namespace declarations in scope, at most.
    pub(crate) namespaces: usize,
}

/// What is around the part of a document that is judged.
pub(crate) trait Surroundings {
    /// An element begins that is not within what is judged. Returns whether it is judged itself, with all in it, and how.
    fn begins(&mut self, element: Outer<'_>) -> Verdict;
    /// There is text that is not only white space in such an element, at this depth; the root is at 1.
    fn text(&mut self, text: &str, depth: usize, offset: usize);
    /// There is white space in such an element.
    fn blank(&mut self, text: &str, depth: usize, offset: usize);
}

/// How an element is judged that is not within another one that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not at all: it is only around.
    Around,
    /// By the global declaration of its name.
    Global,
    /// By this declaration.
    By(ElementId),
}

/// An element around what is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outer<'a> {
    /// The root is at 1.
    pub(crate) depth: usize,
    /// Empty for none.
    pub(crate) namespace: &'a str,
    pub(crate) local: &'a str,
    /// Both, as the schema knows them.
    pub(crate) name: QName,
    /// Of its `<`, in bytes.
    pub(crate) offset: usize,
}

/// Nothing is around: the root is judged.
impl Surroundings for () {
    fn begins(&mut self, _: Outer<'_>) -> Verdict {
        Verdict::Global
    }

    fn text(&mut self, _: &str, _: usize, _: usize) {}
    fn blank(&mut self, _: &str, _: usize, _: usize) {}
}

impl<S: Surroundings + ?Sized> Surroundings for &mut S {
    fn begins(&mut self, element: Outer<'_>) -> Verdict {
        (**self).begins(element)
    }

    fn text(&mut self, text: &str, depth: usize, offset: usize) {
        (**self).text(text, depth, offset);
    }

    fn blank(&mut self, text: &str, depth: usize, offset: usize) {
        (**self).blank(text, depth, offset);
    }
}

/// Judges a document whose own entities are expanded; `entities` are the unparsed ones that it declares.
pub(crate) fn judge(
    schema: &Schema,
    text: &str,
    around: impl Surroundings,
    limits: (Bounds, Limits),
    entities: HashSet<Box<str>>,
) -> Result<(), Rejection> {
    let mut judge = Judge::new(schema, around, limits, entities);
    judge.feed(text, true)?;
    judge.finish()
}

/// Where the first character is that is not allowed in XML (§2.2).
fn wrong_character(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    // Chunks without an early end are looked through many bytes at a time.
    let dirty = |chunk: &[u8]| chunk.iter().fold(false, |found, byte| found | control(byte));
    let wrong = if bytes.chunks(256).any(dirty) { bytes.iter().position(control) } else { None };
    let mut candidates = memchr::memchr_iter(0xef, bytes).take_while(|at| wrong.is_none_or(|wrong| *at < wrong));
    let other = candidates.find(|at| {
        let rest = bytes.get(*at..).unwrap_or_default();
        rest.starts_with(b"\xef\xbf\xbe") || rest.starts_with(b"\xef\xbf\xbf")
    });
    other.or(wrong)
}

/// The names of the open elements, as written.
#[derive(Debug, Default)]
struct OpenNames {
    names: String,
    /// Where each begins.
    starts: Vec<usize>,
}

impl OpenNames {
    fn push(&mut self, name: &str) {
        self.starts.push(self.names.len());
        self.names.push_str(name);
    }

    fn pop(&mut self) {
        self.names.truncate(self.starts.pop().unwrap_or(0));
    }

    fn last(&self) -> Option<&str> {
        self.names.get(*self.starts.last()?..)
    }

    fn depth(&self) -> usize {
        self.starts.len()
    }
}

/// Judges one document, whose text comes in parts. Nothing is kept of a part but what is open in it.
#[derive(Debug)]
pub(crate) struct Judge<'s, S> {
    validator: Validator<'s>,
    scopes: Scopes,
    open: OpenNames,
    begun: bool,
    bounds: Bounds,
    around: S,
    /// How many open elements are judged.
    inside: usize,
    /// Where the next part begins in the document, in bytes.
    base: usize,
}

impl<'s, S: Surroundings> Judge<'s, S> {
    /// Begins with a document; see [`judge`].
    pub(crate) fn new(
        schema: &'s Schema,
        around: S,
        (bounds, limits): (Bounds, Limits),
        entities: HashSet<Box<str>>,
    ) -> Self {
        Self {
            validator: Validator::new(schema, limits, entities),
            scopes: Scopes::new(bounds.namespaces),
            open: OpenNames::default(),
            begun: false,
            bounds,
            around,
            inside: 0,
            base: 0,
        }
    }

    /// Takes a part of the document. Returns how many bytes are used; the next part begins with the others, which end in the
    /// middle of something. All are used of the last part.
    ///
    /// Whatever the parts are, what is wrong first is the error.
    pub(crate) fn feed(&mut self, part: &str, last: bool) -> Result<usize, Rejection> {
        let wrong = wrong_character(part);
        let sound = wrong.and_then(|wrong| part.get(..wrong)).unwrap_or(part);
        let mut tokens = Tokens::part(sound, self.base, last && wrong.is_none(), self.bounds.markup);
        self.read(&mut tokens)?;
        if let Some(wrong) = wrong {
            let offset = self.base.saturating_add(wrong);
            return Err(Malformed::new(offset, "a character is not allowed in XML").into());
        }
        let used = tokens.offset().saturating_sub(self.base);
        self.base = tokens.offset();
        Ok(used)
    }

    /// Takes what is kept from a budget of all instances, beside some tens of kibibytes.
    pub(crate) fn take_from(&mut self, taken: Reservation) {
        self.validator.take_from(taken);
    }

    /// How many bytes were kept when the budget of all instances had too little left, if that is what [`Rejection::TooComplex`] means.
    pub(crate) fn lacks_memory(&self) -> Option<usize> {
        self.validator.lacks_memory()
    }

    /// Replaces what is left of the steps.
    pub(crate) fn allow(&mut self, steps: Steps) {
        self.validator.allow(steps);
    }

    /// How many bytes are kept of what was fed, about.
    pub(crate) fn kept(&self) -> usize {
        self.open.names.len().saturating_add(self.scopes.size()).saturating_add(self.validator.kept())
    }

    /// Whether nothing that was fed violates the schema so far.
    pub(crate) fn is_sound(&self) -> bool {
        self.validator.is_sound()
    }

    /// What is around the part that is judged.
    pub(crate) fn around(&self) -> &S {
        &self.around
    }

    /// Ends the document, after its last part.
    pub(crate) fn finish(self) -> Result<(), Rejection> {
        let violations = self.validator.finish();
        if violations.is_empty() { Ok(()) } else { Err(Rejection::Invalid(violations)) }
    }

    fn read(&mut self, tokens: &mut Tokens<'_>) -> Result<(), Rejection> {
        let mut attributes: Vec<Attribute<'_>> = Vec::new();
        loop {
            let offset = tokens.offset();
            let fail = |message: &'static str| Err(Malformed::new(offset, message).into());
            match tokens.next()? {
                Token::Start { name, empty } => {
                    self.start(name, offset, tokens.attributes(), &mut attributes)?;
                    if empty {
                        self.end()?;
                    }
                }
                Token::End(name) => {
                    if self.open.last() != Some(name) {
                        return fail("an end tag does not match its start tag");
                    }
                    self.end()?;
                }
                Token::Text(text) if self.inside > 0 => {
                    let Some(ends) = tokens.take_end(self.open.last().unwrap_or_default()) else {
                        // Whether it is all that the element contains shows later.
                        tokens.back_to(offset);
                        return Ok(());
                    };
                    if ends {
                        self.validator.last_text(text, &self.scopes)?;
                        self.ended();
                    } else {
                        self.validator.text(&text.text(), text.is_blank())?;
                    }
                }
                Token::Text(text) if text.is_blank() => {
                    self.around.blank(&text.text(), self.open.depth(), offset);
                }
                Token::Text(text) => self.text(&text.text(), offset)?,
                Token::CData(text) => self.text(&line_ends(text), offset)?,
                Token::Character(c) => self.text(c.encode_utf8(&mut [0; 4]), offset)?,
                Token::Doctype(_) if self.begun => return fail("a DOCTYPE is only allowed before the root element"),
                Token::Instruction if self.begun && !self.bounds.instructions => {
                    return fail("a processing instruction is only accepted before the root element");
                }
                Token::Doctype(_) | Token::Skipped | Token::Instruction => {}
                Token::Incomplete => return Ok(()),
                Token::End_ if !self.begun => return fail("it has no element"),
                Token::End_ if self.open.depth() > 0 => return fail("it ends before all elements are closed"),
                Token::End_ => return Ok(()),
            }
        }
    }

    /// Takes text that counts as such even if it is white space, where none is judged.
    fn text(&mut self, text: &str, offset: usize) -> Result<(), Rejection> {
        if self.inside > 0 {
            return Ok(self.validator.text(text, text.bytes().all(is_space_byte))?);
        }
        if self.open.depth() == 0 {
            return Err(Malformed::new(offset, "text outside the root element is not allowed").into());
        }
        self.around.text(text, self.open.depth(), offset);
        Ok(())
    }

    fn start<'a>(
        &mut self,
        name: &'a str,
        offset: usize,
        raw: &[RawAttribute<'a>],
        attributes: &mut Vec<Attribute<'a>>,
    ) -> Result<(), Rejection> {
        let malformed = |message: &'static str| Rejection::Malformed(Malformed::new(offset, message));
        if self.open.depth() == 0 && self.begun {
            return Err(malformed("there is a second root element"));
        }
        if self.open.depth() >= self.bounds.depth {
            let message = format!("elements are nested deeper than {}", self.bounds.depth);
            return Err(Malformed::new(offset, message).into());
        }
        self.begun = true;
        self.open.push(name);
        let depth = self.open.depth();
        self.declare(raw, offset)?;
        let (prefix, local) = split(name).map_err(malformed)?;
        let Some((namespace, ns)) = self.scopes.find(prefix) else {
            return Err(malformed("the prefix of the element is bound to no namespace"));
        };
        let name = QName::new(ns, self.validator.symbol(local));
        let verdict = if self.inside > 0 {
            Verdict::Global
        } else {
            self.around.begins(Outer { depth, namespace, local, name, offset })
        };
        let (judged, by) = match verdict {
            Verdict::Around => (false, None),
            Verdict::Global => (true, None),
            Verdict::By(id) => (true, Some(id)),
        };
        check_duplicates(raw, &self.scopes).map_err(malformed)?;
        attributes.clear();
        if raw.iter().all(|attribute| attribute.plain) {
            for attribute in raw {
                if !is_declaration(attribute.name) {
                    attributes.push(self.attribute(attribute, attribute.value).map_err(malformed)?);
                }
            }
            return self.begin(judged, Start { name, by, offset, attributes });
        }
        let mut values: Vec<Cow<'_, str>> = Vec::with_capacity(raw.len());
        for attribute in raw {
            values.push(value_of(attribute)?);
        }
        let mut decoded = Vec::with_capacity(values.len());
        for (attribute, value) in raw.iter().zip(&values) {
            if !is_declaration(attribute.name) {
                decoded.push(self.attribute(attribute, value).map_err(malformed)?);
            }
        }
        self.begin(judged, Start { name, by, offset, attributes: &decoded })
    }

    /// Adds the namespaces that the open element declares.
    fn declare(&mut self, raw: &[RawAttribute<'_>], offset: usize) -> Result<(), Rejection> {
        for attribute in raw {
            let malformed = |message: &'static str| Malformed::new(offset, message);
            if let Some(prefix) = declared_prefix(attribute.name).map_err(malformed)? {
                let uri = value_of(attribute)?;
                let sym = self.validator.symbol(&uri);
                self.scopes.declare(self.open.depth(), prefix, &uri, sym).map_err(malformed)?;
            }
        }
        Ok(())
    }

    /// Hands an element to the validator, as one that is judged or as one around that.
    fn begin(&mut self, judged: bool, start: Start<'_>) -> Result<(), Rejection> {
        if judged {
            self.inside = self.inside.saturating_add(1);
            self.validator.start(start, &self.scopes)?;
        } else {
            self.validator.outside(start.offset)?;
        }
        Ok(())
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
        self.ended();
        Ok(())
    }

    /// The validator knows that the open element has ended.
    fn ended(&mut self) {
        self.inside = self.inside.saturating_sub(1);
        self.scopes.leave(self.open.depth());
        self.open.pop();
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
    // Their namespaces may be long, and are compared by number.
    let mut seen: HashSet<(Option<u64>, &str)> = HashSet::with_capacity(attributes.len());
    for attribute in attributes {
        let (prefix, local) = split(attribute.name)?;
        let namespace = match prefix {
            "" => None,
            "xmlns" => Some(u64::MAX - 1),
            prefix => Some(scopes.number(prefix).ok_or("the prefix of an attribute is bound to no namespace")?),
        };
        if !seen.insert((namespace, local)) {
            return Err(TWICE);
        }
    }
    Ok(())
}
