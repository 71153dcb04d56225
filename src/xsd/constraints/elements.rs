//! Values of elements (XSD 1.0 Part 1, §3.3.6).

use crate::xsd::components::context::{Builder, next};
use crate::xsd::components::model::{Content, TypeId};

impl Builder {
    pub(crate) fn check_elements(&mut self) {
        for index in 0..next(&self.components.elements) {
            let Some(element) = self.components.elements.get(index as usize) else { return };
            let Some(value) = element.value.clone() else { continue };
            let (place, ty) = (element.place, element.ty);
            let Some(simple) = self.types().value_type(ty) else {
                let content = match ty {
                    TypeId::Complex(id) => self.components.complex.get(id.index()).map(|ty| ty.content.clone()),
                    TypeId::Simple(_) => None,
                };
                let allowed = match content {
                    Some(Content::Elements { particle, mixed: true }) => self.is_emptiable(particle),
                    _ => false,
                };
                if !allowed {
                    let message = "an element with children that it must have, or without text, cannot have a value";
                    self.problems.add(place, "e-props-correct.2", message);
                }
                continue;
            };
            if self.is_id(simple) {
                self.problems.add(place, "e-props-correct.5", "an element of the type `xs:ID` cannot have a value");
            } else if self.value_of(simple, &value).is_none() {
                let message = self.values.explain(&value.text, "the element's type");
                self.problems.add(place, "e-props-correct.2", message);
            }
        }
    }
}
