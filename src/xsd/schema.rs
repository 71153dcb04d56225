//! A compiled schema: immutable, and shared by all who judge by it.

use std::sync::Arc;

use super::components::context::Builder;
use super::components::model::{
    AttributeUse, ComplexType, Components, Content, ElementId, ParticleId, TypeId, ValueConstraint, Wildcard,
};
use super::content::index::{GroupIndex, index};
use super::content::walk::Models;
use super::datatypes::simple_type::{SimpleId, SimpleType};
use super::datatypes::value::Value;
use super::derive::related::Types;
use super::names::{FastMap, Names, QName};
use super::problem::Place;
use super::wsdl::Description;

/// A default or fixed value, as text and as value.
#[derive(Debug, Clone)]
pub(crate) struct Preset {
    pub(crate) fixed: bool,
    pub(crate) text: Arc<str>,
    /// `None` for content that is not of a simple type.
    pub(crate) value: Option<Value>,
    /// The type that has the value in every document: its prefixes and identifiers would be those of the document.
    ty: Option<SimpleId>,
}

impl Preset {
    /// The value of an element of this type, if it need not be judged again.
    pub(crate) fn value_in(&self, ty: SimpleId) -> Option<&Value> {
        self.value.as_ref().filter(|_| self.ty == Some(ty))
    }
}

/// Presets by where their values are written, and by type.
type Known = FastMap<(usize, SimpleId), Arc<Preset>>;

/// An attribute that a type has.
#[derive(Debug)]
pub(crate) struct AttributeRule {
    pub(crate) name: QName,
    pub(crate) ty: SimpleId,
    pub(crate) required: bool,
    pub(crate) preset: Option<Arc<Preset>>,
}

/// The content of a type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ContentRule {
    Empty,
    Simple(SimpleId),
    Elements {
        particle: ParticleId,
        mixed: bool,
        /// Whether several ways to count elements have to be kept.
        ambiguous: bool,
    },
}

/// What elements of a complex type have to be.
#[derive(Debug)]
pub(crate) struct TypeRule {
    pub(crate) attributes: Box<[AttributeRule]>,
    /// The attributes by name, if there are many.
    by_name: FastMap<QName, usize>,
    pub(crate) required: usize,
    /// Whether a default value may refer to identifiers.
    pub(crate) has_role_defaults: bool,
    pub(crate) wildcard: Option<Wildcard>,
    pub(crate) content: ContentRule,
    pub(crate) is_abstract: bool,
}

impl TypeRule {
    /// The attribute with this name.
    pub(crate) fn attribute(&self, name: QName) -> Option<(usize, &AttributeRule)> {
        if self.by_name.is_empty() {
            return self.attributes.iter().enumerate().find(|(_, rule)| rule.name == name);
        }
        let index = *self.by_name.get(&name)?;
        self.attributes.get(index).map(|rule| (index, rule))
    }
}

/// A compiled schema.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) names: Names,
    pub(crate) components: Components,
    pub(crate) simple: Vec<SimpleType>,
    pub(crate) groups: Vec<GroupIndex>,
    /// By complex type.
    pub(crate) rules: Vec<TypeRule>,
    /// The heads that an element can stand for.
    heads: FastMap<ElementId, Box<[ElementId]>>,
    /// Values of elements.
    pub(crate) presets: FastMap<ElementId, Preset>,
    /// The values of global attributes, which wildcards let through.
    pub(crate) attribute_presets: Vec<Option<Arc<Preset>>>,
    /// If present, the schema is that of this WSDL.
    pub(crate) description: Option<Description>,
}

impl Schema {
    /// Compiles what instances need.
    pub(super) fn new(mut builder: Builder) -> Result<Self, Box<Builder>> {
        let left = (&mut builder.steps, &mut builder.room);
        let Ok(groups) = index(&builder.components, &builder.members, left) else {
            builder.check_room();
            let message = "the contents are too complex: their groups contain each other too often, or too deeply";
            builder.problems.add(Place::default(), "mg-props-correct", message);
            return Err(Box::new(builder));
        };
        let mut heads: FastMap<ElementId, Vec<ElementId>> = FastMap::default();
        for (head, members) in &builder.members {
            for member in members {
                heads.entry(*member).or_default().push(*head);
            }
        }
        let models = Models { components: &builder.components, groups: &groups };
        let mut known = Known::default();
        let rules = builder.components.complex.iter().map(|ty| builder.rule(ty, models, &mut known)).collect();
        let presets = builder.element_presets();
        let attributes = builder.components.attributes.iter();
        let attribute_presets = attributes
            .map(|attribute| attribute.value.as_ref().map(|value| builder.shared(attribute.ty, value, &mut known)))
            .collect();
        builder.check_work();
        builder.check_room();
        if !builder.problems.is_empty() {
            return Err(Box::new(builder));
        }
        let heads = heads.into_iter().map(|(id, heads)| (id, heads.into())).collect();
        let Builder { names, components, simple, description, .. } = builder;
        Ok(Self { names, components, simple, groups, rules, heads, presets, attribute_presets, description })
    }

    /// The groups, to be walked.
    pub(crate) fn models(&self) -> Models<'_> {
        Models { components: &self.components, groups: &self.groups }
    }

    /// The types, to be compared.
    pub(crate) fn types(&self) -> Types<'_> {
        Types { simple: &self.simple, complex: &self.components.complex }
    }

    /// The heads that an element with this name can stand for.
    pub(crate) fn heads(&self, name: QName) -> &[ElementId] {
        if self.heads.is_empty() {
            return &[];
        }
        self.global_element(name).and_then(|id| self.heads.get(&id)).map_or(&[], |heads| heads)
    }

    /// What elements of a type have to be; `None` for a simple type.
    pub(crate) fn rule(&self, id: TypeId) -> Option<&TypeRule> {
        match id {
            TypeId::Simple(_) => None,
            TypeId::Complex(id) => self.rules.get(id.index()),
        }
    }

    /// The global element with this name.
    pub(crate) fn global_element(&self, name: QName) -> Option<ElementId> {
        self.components.globals.elements.get(&name).copied()
    }

    /// How a type is named in messages.
    pub(crate) fn show_type(&self, id: TypeId) -> String {
        let name = match id {
            TypeId::Simple(id) => self.simple.get(id.index()).and_then(|ty| ty.name),
            TypeId::Complex(id) => self.components.complex.get(id.index()).and_then(|ty| ty.name),
        };
        name.map_or_else(|| "the type without a name".to_owned(), |name| format!("`{}`", self.names.show(name)))
    }
}

impl Builder {
    fn preset(&self, ty: Option<SimpleId>, value: &ValueConstraint) -> Preset {
        let parsed = ty.and_then(|ty| self.value_of(ty, value));
        let has_roles = |ty: SimpleId| self.simple.get(ty.index()).is_none_or(|ty| ty.has_roles);
        let varies = parsed.as_ref().is_none_or(Value::has_prefix) || ty.is_none_or(has_roles);
        Preset { fixed: value.fixed, text: Arc::clone(&value.text), value: parsed, ty: ty.filter(|_| !varies) }
    }

    fn element_presets(&self) -> FastMap<ElementId, Preset> {
        let mut presets = FastMap::default();
        for (element, index) in self.components.elements.iter().zip(0..) {
            if let Some(value) = &element.value {
                presets.insert(ElementId(index), self.preset(self.types().value_type(element.ty), value));
            }
        }
        presets
    }

    /// The same preset for all types that have an attribute from the same declaration or use.
    fn shared(&self, ty: SimpleId, value: &Arc<ValueConstraint>, known: &mut Known) -> Arc<Preset> {
        let preset =
            known.entry((Arc::as_ptr(value).addr(), ty)).or_insert_with(|| Arc::new(self.preset(Some(ty), value)));
        Arc::clone(preset)
    }

    fn attribute_rule(&self, usage: &AttributeUse, known: &mut Known) -> AttributeRule {
        let ty = self.attribute_type(usage);
        let preset = self.effective_value(usage).map(|value| self.shared(ty, value, known));
        AttributeRule { name: usage.name, ty, required: usage.required, preset }
    }

    fn rule(&self, ty: &ComplexType, models: Models<'_>, known: &mut Known) -> TypeRule {
        let attributes: Box<[AttributeRule]> = ty.uses.iter().map(|usage| self.attribute_rule(usage, known)).collect();
        let by_name = if attributes.len() > 8 {
            attributes.iter().enumerate().map(|(index, rule)| (rule.name, index)).collect()
        } else {
            FastMap::default()
        };
        let content = match ty.content {
            Content::Empty => ContentRule::Empty,
            Content::Simple(id) => ContentRule::Simple(id),
            Content::Elements { particle, mixed } => {
                ContentRule::Elements { particle, mixed, ambiguous: models.is_ambiguous(particle) }
            }
        };
        let required = attributes.iter().filter(|rule| rule.required).count();
        let refers = |rule: &AttributeRule| {
            rule.preset.is_some() && self.simple.get(rule.ty.index()).is_some_and(|ty| ty.has_roles)
        };
        let has_role_defaults = attributes.iter().any(refers);
        let (wildcard, is_abstract) = (ty.wildcard.clone(), ty.is_abstract);
        TypeRule { attributes, by_name, required, has_role_defaults, wildcard, content, is_abstract }
    }
}
