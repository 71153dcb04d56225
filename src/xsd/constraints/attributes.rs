//! Values of attributes (XSD 1.0 Part 1, §3.2.6 and §3.5.6).

use crate::xsd::components::context::{Builder, next};
use crate::xsd::components::model::AttributeUse;

impl Builder {
    pub(crate) fn check_attributes(&mut self) {
        for index in 0..next(&self.components.attributes) {
            let Some(attribute) = self.components.attributes.get(index as usize) else { return };
            let Some(value) = attribute.value.clone() else { continue };
            let (place, ty) = (attribute.place, attribute.ty);
            if self.is_id(ty) {
                self.problems.add(place, "a-props-correct.3", "an attribute of the type `xs:ID` cannot have a value");
            } else if self.value_of(ty, &value).is_none() {
                let message = self.values.explain(&value.text, "the attribute's type");
                self.problems.add(place, "a-props-correct.2", message);
            }
        }
        let in_types = self.components.complex.iter().flat_map(|ty| &ty.own.uses);
        let in_groups = self.components.attribute_groups.iter().flat_map(|group| &group.own.uses);
        let uses: Vec<AttributeUse> =
            in_types.chain(in_groups).filter(|usage| usage.value.is_some()).cloned().collect();
        for usage in uses {
            self.check_use(&usage);
        }
    }

    fn check_use(&mut self, usage: &AttributeUse) {
        let Some(value) = &usage.value else { return };
        let ty = self.attribute_type(usage);
        if self.is_id(ty) {
            let message = "an attribute of the type `xs:ID` cannot have a value";
            return self.problems.add(usage.place, "au-props-correct", message);
        }
        if self.value_of(ty, value).is_none() {
            let message = self.values.explain(&value.text, "the attribute's type");
            return self.problems.add(usage.place, "au-props-correct", message);
        }
        let declared = self.components.attributes.get(usage.decl.index()).and_then(|attribute| attribute.value.clone());
        let Some(declared) = declared.filter(|declared| declared.fixed) else { return };
        if !value.fixed || !self.same_value(ty, value, &declared) {
            let message = "the attribute is declared with another fixed value";
            self.problems.add(usage.place, "au-props-correct.2", message);
        }
    }
}
