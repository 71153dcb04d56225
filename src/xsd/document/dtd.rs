//! What the internal subset of a DTD declares (XML 1.0 §2.8). Nothing outside the document is ever read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use super::attributes::{Attributes, attribute_type};
use super::cursor::Cursor;
use super::entities::{Entities, Entity, MAX_NESTING, Work, reference, replacement};
use super::malformed::Malformed;
use super::tokens::{Accepts, Tokens};

/// What a DTD declares.
#[derive(Debug, Default)]
pub(crate) struct Dtd {
    pub(super) entities: Entities,
    pub(super) attributes: Attributes,
    /// Replacement texts of parameter entities; `None` for those that are not in the document.
    parameters: HashMap<Box<str>, Option<Rc<str>>>,
    /// Whether the document says that it needs nothing else.
    standalone: bool,
    /// Whether a parameter entity was not read: it may declare otherwise what comes after it (§5.1).
    unread: bool,
}

type Message = Cow<'static, str>;

impl Dtd {
    /// Reads a DOCTYPE, which is between `<!DOCTYPE` and `>`, at this offset.
    pub(super) fn read(content: &str, offset: usize, standalone: bool, work: &mut Work) -> Result<Self, Malformed> {
        const WRONG: &str = "the DOCTYPE is not written `<!DOCTYPE name SYSTEM \"file\" [declarations]>`";
        let mut dtd = Self { standalone, ..Self::default() };
        let mut cursor = Cursor::new(content);
        let placed = |at: usize, message: Message| Malformed::new(offset.saturating_add(at), message);
        let wrong = |cursor: &Cursor<'_>| placed(cursor.at(), WRONG.into());
        if !cursor.space() || cursor.qname().is_none() {
            return Err(wrong(&cursor));
        }
        if cursor.space() && !cursor.rest().is_empty() && !cursor.rest().starts_with('[') {
            cursor.external_id(false).ok_or_else(|| wrong(&cursor))?;
            dtd.entities.set_incomplete();
            cursor.space();
        }
        if cursor.take("[") {
            dtd.declarations(&mut cursor, &mut Vec::new(), work).map_err(|(at, message)| placed(at, message))?;
            if !cursor.take("]") {
                return Err(wrong(&cursor));
            }
            cursor.space();
        }
        if cursor.rest().is_empty() { Ok(dtd) } else { Err(wrong(&cursor)) }
    }

    /// The names of unparsed entities.
    #[cfg(test)]
    pub(crate) fn unparsed(&self) -> impl Iterator<Item = &str> {
        self.entities.unparsed()
    }

    /// Reads declarations up to a `]` or the end; `open` are the parameter entities that they are in. The error has an
    /// offset in the text.
    fn declarations(
        &mut self,
        cursor: &mut Cursor<'_>,
        open: &mut Vec<Rc<str>>,
        work: &mut Work,
    ) -> Result<(), (usize, Message)> {
        loop {
            cursor.space();
            if matches!(cursor.rest().as_bytes(), [] | [b']', ..]) {
                return Ok(());
            }
            let at = cursor.at();
            self.declaration(cursor, open, work).map_err(|message| (at, message))?;
        }
    }

    fn declaration(
        &mut self,
        cursor: &mut Cursor<'_>,
        open: &mut Vec<Rc<str>>,
        work: &mut Work,
    ) -> Result<(), Message> {
        if cursor.take("%") {
            return self.parameter(cursor, open, work);
        }
        if cursor.rest().starts_with("<!--") || cursor.rest().starts_with("<?") {
            // Not at the beginning, where there could be an XML declaration.
            let mut tokens = Tokens::part(cursor.rest(), 1, true, Accepts::SCHEMA);
            tokens.next().map_err(|malformed| malformed.message)?;
            cursor.skip(tokens.offset().saturating_sub(1));
            return Ok(());
        }
        if cursor.take("<!ENTITY") {
            return Ok(self.entity(cursor, !open.is_empty())?);
        }
        if cursor.take("<!ATTLIST") {
            return Ok(self.attribute_list(cursor, work)?);
        }
        if cursor.take("<!ELEMENT") {
            return Ok(element(cursor).ok_or("the declaration of an element is not well-formed")?);
        }
        if cursor.take("<!NOTATION") {
            return Ok(notation(cursor).ok_or("the declaration of a notation is not well-formed")?);
        }
        Err("a DTD in a document has only declarations, comments and references to parameter entities".into())
    }

    /// Reads what a parameter entity declares, which is referred to.
    fn parameter(&mut self, cursor: &mut Cursor<'_>, open: &mut Vec<Rc<str>>, work: &mut Work) -> Result<(), Message> {
        let name = cursor.nc_name().filter(|_| cursor.take(";")).ok_or("a `%` begins no reference")?;
        let declared = self.parameters.get(name);
        if declared.is_none() && self.standalone {
            return Err("a standalone document refers to a parameter entity that is not declared".into());
        }
        let Some(Some(text)) = declared else {
            self.unread = true;
            self.entities.set_incomplete();
            return Ok(());
        };
        let text = Rc::clone(text);
        if open.iter().any(|open| Rc::ptr_eq(open, &text)) {
            return Err("a parameter entity refers to itself".into());
        }
        if open.len() >= MAX_NESTING {
            return Err("parameter entities are nested deeper than 64".into());
        }
        work.take_entity(&text)?;
        open.push(Rc::clone(&text));
        let mut inner = Cursor::new(&text);
        self.declarations(&mut inner, open, work).map_err(|(_, message)| message)?;
        open.pop();
        if inner.rest().is_empty() { Ok(()) } else { Err("a parameter entity is more than declarations".into()) }
    }

    /// Whether what is declared here counts.
    fn counts(&self) -> bool {
        self.standalone || !self.unread
    }

    /// `name "value">`, `% name "value">`, `name SYSTEM "…" NDATA n>`
    fn entity(&mut self, cursor: &mut Cursor<'_>, inner: bool) -> Result<(), &'static str> {
        const WRONG: &str = "the declaration of an entity is not well-formed";
        let spaced = |cursor: &mut Cursor<'_>| cursor.space().then_some(()).ok_or(WRONG);
        spaced(cursor)?;
        let parameter = cursor.take("%");
        if parameter {
            spaced(cursor)?;
        }
        let name = cursor.nc_name().ok_or(WRONG)?;
        spaced(cursor)?;
        let entity = if let Some(value) = cursor.literal() {
            Entity::Internal(replacement(value)?)
        } else {
            cursor.external_id(false).ok_or(WRONG)?;
            let after = cursor.space();
            if !parameter && after && cursor.take("NDATA") {
                spaced(cursor)?;
                cursor.nc_name().ok_or(WRONG)?;
                Entity::Unparsed
            } else {
                Entity::External
            }
        };
        cursor.end().ok_or(WRONG)?;
        match entity {
            _ if !self.counts() => {}
            Entity::Internal(text) if parameter => {
                self.parameters.entry(name.into()).or_insert_with(|| Some(text.into()));
            }
            _ if parameter => {
                self.parameters.entry(name.into()).or_insert(None);
            }
            _ if inner && self.standalone => self.entities.declare(name, Entity::Hidden),
            entity => self.entities.declare(name, entity),
        }
        Ok(())
    }

    /// `element name type default …>`
    fn attribute_list(&mut self, cursor: &mut Cursor<'_>, work: &mut Work) -> Result<(), &'static str> {
        const WRONG: &str = "the declaration of attributes is not well-formed";
        let spaced = |cursor: &mut Cursor<'_>| cursor.space().then_some(()).ok_or(WRONG);
        spaced(cursor)?;
        let element = cursor.qname().ok_or(WRONG)?;
        loop {
            let spaced_before = cursor.space();
            if cursor.take(">") {
                return Ok(());
            }
            let name = cursor.qname().filter(|_| spaced_before).ok_or(WRONG)?;
            spaced(cursor)?;
            let tokenized = attribute_type(cursor).ok_or(WRONG)?;
            spaced(cursor)?;
            let default = if cursor.take("#REQUIRED") || cursor.take("#IMPLIED") {
                None
            } else {
                if cursor.take("#FIXED") {
                    spaced(cursor)?;
                }
                self.default_value(cursor.literal().ok_or(WRONG)?, work)?
            };
            if self.counts() {
                self.attributes.declare(element, name, tokenized, default);
            }
        }
    }

    /// The value of a default that is written like this; `None` if it does not count.
    fn default_value(&self, written: &str, work: &mut Work) -> Result<Option<String>, &'static str> {
        if self.counts() {
            return self.entities.value(written, work).map(Some);
        }
        for (at, _) in written.match_indices('&') {
            reference(written.get(at..).unwrap_or(""))?;
        }
        if written.contains('<') { Err("the default of an attribute contains `<`; write `&lt;`") } else { Ok(None) }
    }
}

/// `name content>`
fn element(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.space().then_some(())?;
    cursor.qname()?;
    cursor.space().then_some(())?;
    cursor.content()?;
    cursor.end()
}

/// `name PUBLIC "…">`
fn notation(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.space().then_some(())?;
    cursor.nc_name()?;
    cursor.space().then_some(())?;
    cursor.external_id(true)?;
    cursor.end()
}
