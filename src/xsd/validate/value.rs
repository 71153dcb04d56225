//! Values of elements and attributes: checked, compared with what is fixed, and their identifiers noted.

use super::explain::explain;
use super::identifiers::Reference;
use super::{Here, Validator};
use crate::budget::Exhausted;
use crate::xsd::datatypes::check::Checker;
use crate::xsd::datatypes::simple_type::{Role, SimpleId};
use crate::xsd::datatypes::value::Value;
use crate::xsd::datatypes::work::Work;
use crate::xsd::document::namespaces::Scopes;
use crate::xsd::schema::Preset;

/// What a value is checked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'p> {
    /// Whether the value itself is needed.
    pub(super) value: bool,
    /// The default or fixed value.
    pub(super) preset: Option<&'p Preset>,
    /// The attribute that it is of; an element's otherwise.
    pub(super) attribute: Option<&'p str>,
}

impl Validator<'_> {
    /// Checks a text by a type. The value is returned if it is wanted and sound.
    pub(super) fn value(
        &mut self,
        ty: SimpleId,
        text: &str,
        wanted: Wanted<'_>,
        scopes: &Scopes,
    ) -> Result<Option<Value>, Exhausted> {
        let schema = self.schema;
        let here = Here { scopes, schema };
        let fixed = wanted.preset.filter(|preset| preset.fixed);
        let work = Work::new(self.steps, self.memory).taking_from(self.taken.take(), self.kept());
        let checker = Checker::new(&schema.simple, &here, &work);
        self.roles.clear();
        let checked = checker.check(ty, text, wanted.value || fixed.is_some(), &mut self.roles);
        (self.steps, self.taken, self.lacks_memory) = (work.steps(), work.give_back(), work.lacks_memory());
        if work.is_short() {
            return Err(Exhausted);
        }
        match checked {
            Ok(value) => {
                if let Some(fixed) = fixed {
                    let same = match (&value, &fixed.value) {
                        (Some(value), Some(fixed)) => value == fixed,
                        _ => checker.normalized(ty, text) == checker.normalized(ty, &fixed.text),
                    };
                    if !same {
                        let constraint =
                            if wanted.attribute.is_some() { "cvc-attribute.4" } else { "cvc-elt.5.2.2.2.2" };
                        let message = || format!("the value is not the fixed value, `{}`", fixed.text);
                        self.report(constraint, wanted.attribute, message);
                    }
                }
                if !self.roles.is_empty() {
                    self.note_roles(wanted.attribute)?;
                }
                Ok(value)
            }
            Err(fault) => {
                if !self.is_full() {
                    for fault in checker.all_faults(ty, fault, text) {
                        let (constraint, message) = explain(schema, fault, checker.length(ty, fault, text));
                        self.report(constraint, wanted.attribute, || message);
                    }
                    self.steps = work.steps();
                }
                Ok(None)
            }
        }
    }

    fn note_roles(&mut self, attribute: Option<&str>) -> Result<(), Exhausted> {
        for (role, text) in std::mem::take(&mut self.roles) {
            match role {
                Role::Id => {
                    self.take_memory(text.len().saturating_add(64))?;
                    if !self.identifiers.add(text) {
                        self.report("cvc-id.2", attribute, || "another element has the same identifier".to_owned());
                    }
                }
                Role::IdRef if self.identifiers.is_new_reference(&text) => {
                    self.take_memory(text.len().saturating_add(128))?;
                    let offset = self.open.last().map_or(0, |open| open.offset);
                    self.identifiers.refer(text, Reference { offset, attribute: attribute.map(Into::into) });
                }
                Role::Entity if !self.entities.contains(&text) => {
                    let message = || "the document declares no unparsed entity of this name".to_owned();
                    self.report("cvc-simple-type.2.2", attribute, message);
                }
                Role::IdRef | Role::Entity | Role::None => {}
            }
        }
        Ok(())
    }
}
