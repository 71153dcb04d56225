//! The entities of a document: what they stand for, and what it takes to put them in (XML 1.0 §4).

use std::collections::HashMap;

use super::markup::name_end;
use super::references::resolve;

/// Bytes that entities and defaults may add beyond twice the documents.
const MORE: usize = 1 << 20;
/// Most entities within each other.
pub(super) const MAX_NESTING: usize = 64;
/// What a reference costs beside the text that it stands for, in bytes.
const REFERENCE: usize = 4;

/// What entities and defaults may still add to the documents of a schema, in bytes; also those that are read again on the way.
#[derive(Debug)]
pub(crate) struct Work {
    left: usize,
}

impl Default for Work {
    fn default() -> Self {
        Self { left: MORE }
    }
}

impl Work {
    /// Adds what is allowed for a document: what is checked is not much larger than what is written.
    pub(super) fn allow(&mut self, document: &str) {
        self.left = self.left.saturating_add(document.len().saturating_mul(2));
    }

    /// Takes bytes before they are added.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), &'static str> {
        const TOO_MUCH: &str =
            "the entities and defaults of the DTD are too much: more than 1 MiB beyond twice the files of the schema";
        self.left = self.left.checked_sub(bytes).ok_or(TOO_MUCH)?;
        Ok(())
    }

    /// Takes what it costs to read the text of an entity that is referred to.
    pub(super) fn take_entity(&mut self, text: &str) -> Result<(), &'static str> {
        self.take(text.len().saturating_add(REFERENCE))
    }
}

/// What an entity is.
#[derive(Debug)]
pub(super) enum Entity {
    /// Its replacement text.
    Internal(Box<str>),
    /// In another file.
    External,
    /// Not XML, and in another file.
    Unparsed,
    /// Declared in a parameter entity of a document that says that it stands alone (§4.1, Entity Declared).
    Hidden,
}

/// What an `&` begins.
pub(super) enum Reference<'t> {
    /// `&#38;`
    Character(char),
    /// `&name;`
    Entity(&'t str),
}

/// The reference that a text begins with, and how many bytes it has.
pub(super) fn reference(text: &str) -> Result<(Reference<'_>, usize), &'static str> {
    const WRONG: &str = "an `&` begins no reference; write `&amp;`";
    let inner = text.get(1..).unwrap_or("");
    let length = match inner.strip_prefix('#') {
        Some(digits) => digits.find(|c: char| !c.is_ascii_alphanumeric()).ok_or(WRONG)?.saturating_add(1),
        None => name_end(inner),
    };
    let name = inner.get(..length).unwrap_or("");
    if name.is_empty() || inner.as_bytes().get(length) != Some(&b';') {
        return Err(WRONG);
    }
    let reference = if name.starts_with('#') {
        Reference::Character(resolve(name, 0).map_err(|_| "there is no character with this number in XML")?)
    } else {
        Reference::Entity(name)
    };
    Ok((reference, length.saturating_add(2)))
}

/// The replacement text of an entity with this value: only characters are put in (§4.5).
pub(super) fn replacement(value: &str) -> Result<Box<str>, &'static str> {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find(['&', '%']) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        text.push_str(before);
        if after.starts_with('%') {
            return Err("a `%` in the value of an entity is not allowed in a document; write `&#37;`");
        }
        let (reference, length) = reference(after)?;
        let (written, after) = after.split_at_checked(length).unwrap_or((after, ""));
        match reference {
            Reference::Character(c) => text.push(c),
            Reference::Entity(_) => text.push_str(written),
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text.into())
}

/// The entities of a document by name.
#[derive(Debug, Default)]
pub(super) struct Entities {
    by_name: HashMap<Box<str>, Entity>,
    /// Whether there are declarations that are not read, or do not count.
    incomplete: bool,
}

impl Entities {
    /// Says that there are declarations that are not read, or do not count.
    pub(super) fn set_incomplete(&mut self) {
        self.incomplete = true;
    }

    /// Adds an entity, unless there is one with its name: the first declaration counts (§4.2).
    pub(super) fn declare(&mut self, name: &str, entity: Entity) {
        self.by_name.entry(name.into()).or_insert(entity);
    }

    /// The names of those that are unparsed.
    #[cfg(test)]
    pub(super) fn unparsed(&self) -> impl Iterator<Item = &str> {
        self.by_name.iter().filter(|(_, entity)| matches!(entity, Entity::Unparsed)).map(|(name, _)| &**name)
    }

    /// The text of an entity that is referred to in the innermost of these texts.
    pub(super) fn open<'a>(
        &'a self,
        name: &str,
        open: impl ExactSizeIterator<Item = &'a str>,
        work: &mut Work,
    ) -> Result<&'a str, &'static str> {
        let text: &str = match self.by_name.get(name) {
            Some(Entity::Internal(text)) => text,
            Some(Entity::External) => return Err("an external entity is not read"),
            Some(Entity::Unparsed) => return Err("an unparsed entity is only named, and never referred to"),
            Some(Entity::Hidden) => return Err("a standalone document refers to an entity of a parameter entity"),
            None if self.incomplete => {
                return Err("an entity is not declared, or only in or after a part of the DTD that is not read");
            }
            None => return Err("an entity is not declared in the document"),
        };
        if open.len() > MAX_NESTING {
            return Err("entities are nested deeper than 64");
        }
        // One that is empty has none in it.
        if !text.is_empty() && open.into_iter().any(|open| std::ptr::eq(open, text)) {
            return Err("an entity refers to itself");
        }
        work.take_entity(text)?;
        Ok(text)
    }

    /// The value of an attribute, as long as nothing is known of its type (§3.3.3).
    pub(super) fn value(&self, written: &str, work: &mut Work) -> Result<String, &'static str> {
        let mut value = String::with_capacity(written.len());
        // Each with what is left of it.
        let mut open = vec![(written, written)];
        while let Some((_, rest)) = open.last_mut() {
            let Some(at) = rest.find(['&', '<', '\t', '\n', '\r']) else {
                value.push_str(rest);
                open.pop();
                continue;
            };
            let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
            value.push_str(before);
            let (reference, length) = match after.as_bytes() {
                [b'&', ..] => reference(after)?,
                [b'<', ..] => return Err("the value of an attribute contains `<`, directly or by an entity"),
                _ => (Reference::Character(' '), 1),
            };
            *rest = after.get(length..).unwrap_or("");
            match reference {
                Reference::Character(c) => value.push(c),
                Reference::Entity(name) => match resolve(name, 0) {
                    Ok(c) => value.push(c),
                    Err(_) => {
                        let text = self.open(name, open.iter().map(|(text, _)| *text), work)?;
                        open.push((text, text));
                    }
                },
            }
        }
        Ok(value)
    }
}
