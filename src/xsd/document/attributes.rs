//! The attributes that a DTD declares: their defaults, and how their values are normalised (XML 1.0 §3.3).

use std::collections::HashMap;

use super::cursor::Cursor;

/// Attributes of elements, by the names as they are written.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    elements: HashMap<Box<str>, Declared>,
}

/// The attributes of an element.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// By name: whether its type is another one than `CDATA`.
    tokenized: HashMap<Box<str>, bool>,
    /// Those that are there though they are not written.
    pub(super) defaults: Vec<(Box<str>, Box<str>)>,
}

impl Attributes {
    /// Adds an attribute to an element, unless it has one with its name: the first declaration counts.
    pub(super) fn declare(&mut self, element: &str, name: &str, tokenized: bool, default: Option<String>) {
        let declared = self.elements.entry(element.into()).or_default();
        if declared.tokenized.contains_key(name) {
            return;
        }
        declared.tokenized.insert(name.into(), tokenized);
        if let Some(default) = default {
            let default = declared.normalized(name, default);
            declared.defaults.push((name.into(), default.into()));
        }
    }

    /// The attributes of an element.
    pub(super) fn of(&self, element: &str) -> Option<&Declared> {
        self.elements.get(element)
    }
}

impl Declared {
    /// The value of an attribute: if its type is another one than `CDATA`, spaces that only separate are left out (§3.3.3).
    pub(super) fn normalized(&self, name: &str, value: String) -> String {
        if self.tokenized.get(name) != Some(&true) {
            return value;
        }
        value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// Takes the type of an attribute (§3.3.1), and returns whether it is another one than `CDATA`.
pub(super) fn attribute_type(cursor: &mut Cursor<'_>) -> Option<bool> {
    const NAMES: [&str; 8] = ["CDATA", "IDREFS", "IDREF", "ID", "ENTITIES", "ENTITY", "NMTOKENS", "NMTOKEN"];
    if let Some(name) = NAMES.into_iter().find(|name| cursor.take(name)) {
        return Some(name != "CDATA");
    }
    let notation = cursor.take("NOTATION");
    if notation && !cursor.space() || !cursor.take("(") {
        return None;
    }
    loop {
        cursor.space();
        if notation {
            cursor.nc_name()?
        } else {
            cursor.nmtoken()?
        };
        cursor.space();
        if cursor.take(")") {
            return Some(true);
        }
        cursor.take("|").then_some(())?;
    }
}
