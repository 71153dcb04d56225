//! The validator: elements, attributes and text go in, in the order of the document; violations come out.
//!
//! Nothing is kept of the document but what is open, identifiers, and the keys of identity constraints, which a budget bounds.

pub(crate) mod attributes;
pub(crate) mod element;
pub(crate) mod explain;
pub(crate) mod identifiers;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod selectors;
pub(crate) mod value;
pub(crate) mod values;

use std::collections::HashSet;

use self::identifiers::Identifiers;
use self::identity::Identity;
use super::components::model::{ElementId, ParticleId};
use super::content::walk::State;
use super::datatypes::check::{Roles, Surroundings};
use super::datatypes::simple_type::SimpleId;
use super::datatypes::work::UNCOUNTED;
use super::document::namespaces::Scopes;
use super::names::{QName, Sym};
use super::problem::shortened;
use super::schema::Schema;
use super::violation::Violation;
use crate::budget::{Exhausted, Reservation, Steps};

/// An attribute that declares no namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribute<'a> {
    pub(crate) name: QName,
    pub(crate) local: &'a str,
    /// With references resolved.
    pub(crate) value: &'a str,
}

/// An element that begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) name: QName,
    /// The declaration, for an element that is not within another one and not judged by the global one.
    pub(crate) by: Option<ElementId>,
    /// Of its `<`, in bytes.
    pub(crate) offset: usize,
    pub(crate) attributes: &'a [Attribute<'a>],
}

/// What a validator may take, and what it tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) steps: Steps,
    /// Bytes of identifiers, keys, and values in several pieces.
    pub(crate) memory: usize,
    /// Violations after which nothing more is looked for.
    pub(crate) violations: usize,
}

/// What the content of an open element has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It is around what is judged.
    Outside,
    /// It is not looked at.
    Skip,
    Empty,
    Simple(SimpleId),
    Elements {
        particle: ParticleId,
        mixed: bool,
        ambiguous: bool,
    },
}

/// An element that has begun and not ended.
#[derive(Debug, Clone, Copy)]
struct Open {
    decl: Option<ElementId>,
    mode: Mode,
    offset: usize,
    nil: bool,
    /// Whether there were elements in it.
    children: bool,
    /// Whether something was reported that makes more of the kind worthless.
    failed: bool,
    /// Whether a field of an identity constraint asks for its value.
    wanted: bool,
}

impl Open {
    fn new(mode: Mode, offset: usize) -> Self {
        Self { decl: None, mode, offset, nil: false, children: false, failed: false, wanted: false }
    }
}

/// What values need from around them in an instance.
pub(crate) struct Here<'a> {
    pub(crate) scopes: &'a Scopes,
    pub(crate) schema: &'a Schema,
}

impl Surroundings for Here<'_> {
    fn namespace(&self, prefix: &str) -> Option<&str> {
        self.scopes.find(prefix).map(|(uri, _)| uri)
    }

    fn has_notation(&self, namespace: &str, local: &str) -> bool {
        let name = QName::new(self.schema.names.find(namespace), self.schema.names.find(local));
        name.is_known() && self.schema.components.globals.notations.contains_key(&name)
    }
}

/// Judges one instance.
#[derive(Debug)]
pub(crate) struct Validator<'s> {
    schema: &'s Schema,
    steps: Steps,
    /// Bytes that may still be kept.
    memory: usize,
    /// Bytes that may be kept in all.
    whole_memory: usize,
    /// What is kept beyond [`UNCOUNTED`] is taken from it.
    taken: Option<Reservation>,
    /// How much was kept when there was not enough to take it from.
    lacks_memory: Option<usize>,
    most: usize,
    open: Vec<Open>,
    /// Where the contents of the open elements are, by depth; more than are in use.
    states: Vec<State>,
    /// The same for contents where elements can be counted in several ways.
    several: Vec<(usize, Vec<State>)>,
    /// The text of the innermost element.
    text: String,
    roles: Roles,
    identifiers: Identifiers,
    identity: Identity<'s>,
    violations: Vec<Violation>,
    /// Names of unparsed entities.
    entities: HashSet<Box<str>>,
}

impl<'s> Validator<'s> {
    /// Returns a validator for one instance, which declares these unparsed entities.
    pub(crate) fn new(schema: &'s Schema, limits: Limits, entities: HashSet<Box<str>>) -> Self {
        Self {
            schema,
            steps: limits.steps,
            memory: limits.memory,
            whole_memory: limits.memory,
            taken: None,
            lacks_memory: None,
            most: limits.violations.max(1),
            open: Vec::new(),
            states: Vec::new(),
            several: Vec::new(),
            text: String::new(),
            roles: Roles::new(),
            identifiers: Identifiers::default(),
            identity: Identity::default(),
            violations: Vec::new(),
            entities,
        }
    }

    /// Whether enough violations were found.
    pub(crate) fn is_full(&self) -> bool {
        self.violations.len() >= self.most
    }

    /// Takes what is kept from a budget of all instances.
    pub(crate) fn take_from(&mut self, taken: Reservation) {
        self.taken = Some(taken);
    }

    /// How many bytes were kept when it ended because the budget of all instances had too little left, if it did.
    pub(crate) fn lacks_memory(&self) -> Option<usize> {
        self.lacks_memory
    }

    /// Takes what is kept by now from the budget of all instances.
    fn count_kept(&mut self) -> Result<(), Exhausted> {
        let kept = self.kept();
        match &mut self.taken {
            Some(taken) if kept > UNCOUNTED => {
                let counted = taken.grow_to(kept.next_multiple_of(UNCOUNTED));
                self.lacks_memory = counted.is_err().then_some(kept);
                counted
            }
            _ => Ok(()),
        }
    }

    /// How many bytes are kept.
    pub(crate) fn kept(&self) -> usize {
        self.whole_memory.saturating_sub(self.memory)
    }

    /// Whether nothing is violated so far.
    pub(crate) fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }

    /// Replaces what is left of the steps.
    pub(crate) fn allow(&mut self, steps: Steps) {
        self.steps = steps;
    }

    /// Takes the text between tags, in any parts; `blank` is whether it is only white space.
    pub(crate) fn text(&mut self, text: &str, blank: bool) -> Result<(), Exhausted> {
        let Some(open) = self.open.last() else { return Ok(()) };
        self.steps.take(text.len() as u64 / 256)?;
        if text.is_empty() || open.failed && !matches!(open.mode, Mode::Simple(_)) {
            return Ok(());
        }
        match open.mode {
            Mode::Skip | Mode::Outside => {}
            _ if open.nil => self.fail_content("cvc-elt.3.2.1", "the element is nil, so it must be empty"),
            Mode::Simple(_) => self.add_text(text)?,
            Mode::Empty => self.fail_content("cvc-complex-type.2.1", "this element must be empty"),
            Mode::Elements { mixed: true, .. } => {
                if open.decl.is_some_and(|decl| self.schema.presets.contains_key(&decl)) {
                    self.add_text(text)?;
                }
            }
            Mode::Elements { .. } if blank => {}
            Mode::Elements { .. } => {
                self.fail_content("cvc-complex-type.2.3", "text is not allowed between the elements here");
            }
        }
        Ok(())
    }

    /// Keeps a piece of a value until the element ends.
    fn add_text(&mut self, text: &str) -> Result<(), Exhausted> {
        self.take_memory(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    /// Forgets the text that was kept.
    fn clear_text(&mut self) {
        self.memory = self.memory.saturating_add(self.text.len());
        self.text.clear();
    }

    /// Reports a violation at the open element, once.
    fn fail_content(&mut self, constraint: &'static str, message: &str) {
        if let Some(open) = self.open.last_mut() {
            open.failed = true;
        }
        self.report(constraint, None, || message.to_owned());
    }

    /// Reports a violation at the open element, or at one of its attributes.
    fn report(&mut self, constraint: &'static str, attribute: Option<&str>, message: impl FnOnce() -> String) {
        let offset = self.open.last().map_or(0, |open| open.offset);
        self.report_at(offset, constraint, attribute, message);
    }

    /// Reports a violation at the element that begins at this offset.
    fn report_at(
        &mut self,
        offset: usize,
        constraint: &'static str,
        attribute: Option<&str>,
        message: impl FnOnce() -> String,
    ) {
        if self.is_full() {
            return;
        }
        let attribute = attribute.map(Into::into);
        self.violations.push(Violation { offset, attribute, constraint, message: shortened(message()) });
    }

    /// Takes bytes of the memory that identifiers, keys and values in several pieces may have.
    fn take_memory(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.memory = self.memory.checked_sub(bytes).ok_or(Exhausted)?;
        Ok(())
    }

    /// Ends the document, and returns all violations.
    pub(crate) fn finish(mut self) -> Vec<Violation> {
        let unknown = self.identifiers.unresolved();
        for place in unknown {
            if self.is_full() {
                break;
            }
            self.violations.push(Violation {
                offset: place.offset,
                attribute: place.attribute,
                constraint: "cvc-id.1",
                message: "no element has the identifier that this refers to".to_owned(),
            });
        }
        self.violations.sort_by_key(|violation| violation.offset);
        self.violations
    }

    /// Which name the schema knows a namespace by.
    pub(crate) fn symbol(&self, text: &str) -> Sym {
        self.schema.names.find(text)
    }
}
