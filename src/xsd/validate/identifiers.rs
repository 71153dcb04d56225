//! Identifiers and references to them (XSD 1.0 Part 1, §3.3.4, `cvc-id`).

use std::collections::HashSet;

/// Where a reference is.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) offset: usize,
    pub(super) attribute: Option<Box<str>>,
}

/// The identifiers of a document.
#[derive(Debug, Default)]
pub(super) struct Identifiers {
    known: HashSet<Box<str>>,
    /// References to what was not known then; one place for each is enough.
    missing: std::collections::HashMap<Box<str>, Reference>,
}

impl Identifiers {
    /// Adds an identifier; false if there is one already.
    pub(super) fn add(&mut self, id: Box<str>) -> bool {
        self.missing.remove(&id);
        self.known.insert(id)
    }

    /// Whether a reference is to what is not known yet.
    pub(super) fn is_new_reference(&self, id: &str) -> bool {
        !self.known.contains(id) && !self.missing.contains_key(id)
    }

    /// Adds a reference to what is not known yet.
    pub(super) fn refer(&mut self, id: Box<str>, place: Reference) {
        self.missing.insert(id, place);
    }

    /// The references that lead nowhere.
    pub(super) fn unresolved(&mut self) -> Vec<Reference> {
        let mut places: Vec<Reference> = std::mem::take(&mut self.missing).into_values().collect();
        places.sort_by_key(|place| place.offset);
        places
    }
}
