//! Attributes of an element (XSD 1.0 Part 1, §3.2.4 and §3.4.4).

use super::value::Wanted;
use super::values::Number;
use super::{Attribute, Validator};
use crate::budget::Exhausted;
use crate::xsd::components::model::{Process, Wildcard};
use crate::xsd::datatypes::simple_type::Role;
use crate::xsd::datatypes::value::Value;
use crate::xsd::document::namespaces::Scopes;
use crate::xsd::names::{QName, Sym};
use crate::xsd::schema::TypeRule;

/// The attributes that every element may have.
pub(super) fn is_instance_attribute(attribute: &Attribute<'_>) -> bool {
    attribute.name.ns == Sym::XSI
        && matches!(attribute.local, "type" | "nil" | "schemaLocation" | "noNamespaceSchemaLocation")
}

impl<'s> Validator<'s> {
    /// Checks the attributes of an element with a complex type.
    pub(super) fn attributes(
        &mut self,
        rule: &'s TypeRule,
        attributes: &[Attribute<'_>],
        scopes: &Scopes,
    ) -> Result<(), Exhausted> {
        let fields = 1_u64.saturating_add(self.identity.width());
        self.steps.take((attributes.len() as u64).saturating_mul(fields))?;
        let (mut required, mut wild_ids) = (0, 0_u32);
        for attribute in attributes {
            if is_instance_attribute(attribute) {
                if self.identity.wants_attribute(attribute.name) {
                    self.field_attribute(attribute, Some(Value::Text(attribute.value.into())))?;
                }
                continue;
            }
            if let Some((_, found)) = rule.attribute(attribute.name) {
                required += usize::from(found.required);
                let value = self.identity.wants_attribute(attribute.name);
                let wanted = Wanted { value, preset: found.preset.as_deref(), attribute: Some(attribute.local) };
                let found = self.value(found.ty, attribute.value, wanted, scopes)?;
                if value {
                    self.field_attribute(attribute, found)?;
                }
                continue;
            }
            match &rule.wildcard {
                Some(wildcard) if wildcard.namespaces.allows(attribute.name.ns) => {
                    let is_id = self.wild_attribute(wildcard, attribute, scopes)?;
                    if is_id {
                        self.take_for_all(rule, 1)?;
                    }
                    wild_ids = wild_ids.saturating_add(u32::from(is_id));
                    if is_id && (wild_ids > 1 || rule.attributes.iter().any(|rule| self.is_id(rule.ty))) {
                        let message = || "an element can have only one attribute of type `xs:ID`".to_owned();
                        self.report("cvc-complex-type.5", Some(attribute.local), message);
                    }
                }
                _ => {
                    let message = || "this attribute is not allowed here".to_owned();
                    self.report("cvc-complex-type.3.2.2", Some(attribute.local), message);
                }
            }
        }
        if required < rule.required && !self.is_full() {
            self.take_for_all(rule, attributes.len())?;
            let present = |name| attributes.iter().any(|attribute| attribute.name == name);
            let missing = rule.attributes.iter().filter(|rule| rule.required && !present(rule.name));
            for missing in missing {
                let local = self.schema.names.text(missing.name.local);
                let message = || format!("the attribute `{local}` is required but missing");
                self.report("cvc-complex-type.4", Some(local), message);
            }
        }
        if self.identity.is_active() || rule.has_role_defaults {
            self.defaults(rule, attributes, scopes)?;
        }
        Ok(())
    }

    /// Takes steps to look through all attributes that an element may have, and compare them with so many that it has.
    fn take_for_all(&mut self, rule: &TypeRule, present: usize) -> Result<(), Exhausted> {
        let each = (present as u64).saturating_add(4);
        self.steps.take((rule.attributes.len() as u64).saturating_mul(each) / 16)
    }

    /// Hands the value of an attribute to the fields that it is of.
    fn field_attribute(&mut self, attribute: &Attribute<'_>, value: Option<Value>) -> Result<(), Exhausted> {
        let number = |value| self.identity.number(value, (&mut self.steps, &mut self.memory));
        let number = value.map(number).transpose()?;
        self.field_value(attribute.name, attribute.local, number);
        Ok(())
    }

    fn field_value(&mut self, name: QName, local: &str, value: Option<Number>) {
        if self.identity.attribute(name, value) {
            let message = || "a field of a key is there more than once".to_owned();
            self.report("cvc-identity-constraint.3", Some(local), message);
        }
    }

    /// Defaults count as values in identity constraints, and may refer to identifiers.
    fn defaults(&mut self, rule: &'s TypeRule, attributes: &[Attribute<'_>], scopes: &Scopes) -> Result<(), Exhausted> {
        let each =
            4_u64.saturating_mul(self.identity.width()).saturating_add(attributes.len() as u64).saturating_add(4);
        self.steps.take((rule.attributes.len() as u64).saturating_mul(each) / 16)?;
        for found in &rule.attributes {
            let Some(preset) = &found.preset else { continue };
            if attributes.iter().any(|attribute| attribute.name == found.name) {
                continue;
            }
            if self.identity.wants_attribute(found.name) {
                let local = self.schema.names.text(found.name.local);
                let left = (&mut self.steps, &mut self.memory);
                let number = preset.value.as_ref().map(|value| self.identity.of_preset(value, left)).transpose()?;
                self.field_value(found.name, local, number);
            }
            if rule.has_role_defaults && self.schema.simple.get(found.ty.index()).is_some_and(|ty| ty.has_roles) {
                let local = self.schema.names.text(found.name.local);
                let wanted = Wanted { value: false, preset: None, attribute: Some(local) };
                self.value(found.ty, &preset.text, wanted, scopes)?;
            }
        }
        Ok(())
    }

    fn is_id(&self, ty: crate::xsd::datatypes::simple_type::SimpleId) -> bool {
        self.schema.simple.get(ty.index()).is_some_and(|ty| ty.role == Role::Id)
    }

    /// Checks an attribute that a wildcard lets through. Returns whether it is an `xs:ID`.
    fn wild_attribute(
        &mut self,
        wildcard: &Wildcard,
        attribute: &Attribute<'_>,
        scopes: &Scopes,
    ) -> Result<bool, Exhausted> {
        if wildcard.process == Process::Skip {
            return Ok(false);
        }
        let schema = self.schema;
        let Some(id) = schema.components.globals.attributes.get(&attribute.name) else {
            if wildcard.process == Process::Strict {
                let message =
                    || "the schema declares no such attribute, and only declared ones are allowed here".to_owned();
                self.report("cvc-complex-type.3.2.2", Some(attribute.local), message);
            }
            return Ok(false);
        };
        let Some(declared) = schema.components.attributes.get(id.index()) else { return Ok(false) };
        let preset = schema.attribute_presets.get(id.index()).and_then(|preset| preset.as_deref());
        let value = self.identity.wants_attribute(attribute.name);
        let wanted = Wanted { value, preset, attribute: Some(attribute.local) };
        let found = self.value(declared.ty, attribute.value, wanted, scopes)?;
        if value {
            self.field_attribute(attribute, found)?;
        }
        Ok(self.is_id(declared.ty))
    }
}
