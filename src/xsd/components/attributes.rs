//! Builds attribute declarations, attribute groups and wildcards (XSD 1.0 Part 1, §3.2.2, §3.6.2 and §3.10.2).

use super::context::Builder;
use super::model::{AttributeGroupId, AttributeId, AttributeSet, AttributeUse, Namespaces, Process, Wildcard};
use super::work::{At, Task};
use crate::xsd::datatypes::simple_type::SimpleId;
use crate::xsd::datatypes::text::{collapse, words};
use crate::xsd::names::{QName, Sym};

impl Builder {
    pub(crate) fn build_attribute(&mut self, id: AttributeId, at: At) {
        let inner = self.child(at, &["simpleType"]);
        let named = self.attribute(at, "type");
        if inner.is_some() && named.is_some() {
            self.problem(at, "src-attribute.4", "there are both `type` and a `simpleType`");
        }
        let ty = match (named, inner) {
            (Some(name), _) => self.find_simple(at, &name).unwrap_or(SimpleId::ANY),
            (None, Some(inner)) => self.anonymous_simple(inner),
            (None, None) => SimpleId::ANY,
        };
        let value = self.value_constraint(at, "src-attribute.1");
        let Some(attribute) = self.components.attributes.get_mut(id.index()) else { return };
        attribute.ty = ty;
        attribute.value = value;
        let name = attribute.name;
        if self.names.text(name.local) == "xmlns" {
            self.problem(at, "no-xmlns", "an attribute cannot have the name `xmlns`");
        }
        if name.ns == Sym::XSI {
            self.problem(at, "no-xsi", "an attribute cannot be declared in the namespace of `xsi:type`");
        }
    }

    pub(crate) fn build_attribute_group(&mut self, id: AttributeGroupId, at: At) {
        let own = self.attribute_set(at);
        if let Some(group) = self.components.attribute_groups.get_mut(id.index()) {
            group.own = own;
        }
    }

    /// The attributes, attribute groups and the wildcard within an element.
    pub(crate) fn attribute_set(&mut self, at: At) -> AttributeSet {
        let mut set = AttributeSet::default();
        for (child, kind) in self.children(at) {
            match &*kind {
                "attribute" => self.attribute_use(child, &mut set),
                "attributeGroup" => {
                    let name = self.attribute(child, "ref").unwrap_or_default();
                    let place = self.place(child);
                    set.groups.extend(self.find_attribute_group(child, &name).map(|id| (id, place)));
                }
                "anyAttribute" => set.wildcard = Some(self.wildcard(child)),
                _ => {}
            }
        }
        set
    }

    fn attribute_use(&mut self, at: At, set: &mut AttributeSet) {
        let reference = self.attribute(at, "ref");
        self.check_attribute_syntax(at, reference.is_some());
        let (decl, name) = match reference {
            Some(name) => {
                let Some(id) = self.find_attribute(at, &name) else { return };
                let Some(attribute) = self.components.attributes.get(id.index()) else { return };
                (id, attribute.name)
            }
            None => {
                let form = self.raw(at, "form").map(|form| collapse(form).into());
                let form = form.or_else(|| self.of_schema(at, "attributeFormDefault"));
                let mut name = self.own_name(at);
                if form.as_deref() != Some("qualified") {
                    name = QName::new(Sym::NONE, name.local);
                }
                let id = self.new_attribute(name, at);
                self.tasks.push_back((Task::Attribute(id), at));
                (id, name)
            }
        };
        let usage = self.attribute(at, "use");
        let value = self.value_constraint(at, "src-attribute.1");
        let default = value.as_ref().is_some_and(|value| !value.fixed);
        if default && usage.as_deref().is_some_and(|usage| usage != "optional") {
            self.problem(at, "src-attribute.2", "an attribute with a `default` must be optional");
        }
        if usage.as_deref() == Some("prohibited") {
            return set.prohibited.push(name);
        }
        let required = usage.as_deref() == Some("required");
        // The declaration's own value is checked with the declaration.
        let value = if self.raw(at, "ref").is_some() { value } else { None };
        let place = self.place(at);
        set.uses.push(AttributeUse { decl, name, place, required, value });
    }

    fn check_attribute_syntax(&mut self, at: At, reference: bool) {
        if !reference {
            if self.raw(at, "name").is_none() {
                self.problem(at, "src-attribute.3.1", "an attribute has neither `name` nor `ref`");
            }
            return;
        }
        if self.raw(at, "name").is_some() {
            self.problem(at, "src-attribute.3.1", "an attribute has both `name` and `ref`");
        }
        for attribute in ["form", "type"] {
            if self.raw(at, attribute).is_some() {
                self.problem(at, "src-attribute.3.2", format!("an attribute with `ref` cannot have `{attribute}`"));
            }
        }
        if !self.children(at).is_empty() {
            self.problem(at, "src-attribute.3.2", "an attribute with `ref` cannot have a type of its own");
        }
    }

    pub(crate) fn wildcard(&mut self, at: At) -> Wildcard {
        let target = self.target(at);
        let namespace = self.attribute(at, "namespace");
        let namespaces = match namespace.as_deref() {
            None | Some("##any") => Namespaces::Any,
            Some("##other") => Namespaces::Not(target),
            Some(list) => {
                let mut these: Vec<Sym> = words(list)
                    .map_while(|word| match word {
                        "##targetNamespace" => Some(target),
                        "##local" => Some(Sym::NONE),
                        uri => self.names.intern_within(uri, &mut self.room).ok(),
                    })
                    .collect();
                these.sort_unstable();
                these.dedup();
                Namespaces::These(these.into())
            }
        };
        let process = match self.attribute(at, "processContents").as_deref() {
            Some("skip") => Process::Skip,
            Some("lax") => Process::Lax,
            _ => Process::Strict,
        };
        Wildcard { namespaces, process, place: self.place(at) }
    }
}
