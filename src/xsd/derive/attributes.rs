//! Attributes of groups and types, with those that they have from groups and bases (XSD 1.0 Part 1, §3.4.2 and §3.6.2).

use crate::xsd::components::context::Builder;
use crate::xsd::components::model::{
    AttributeGroupId, AttributeSet, AttributeUse, ComplexId, ComplexType, Process, TypeId, ValueConstraint, Wildcard,
};
use crate::xsd::components::work::{Old, Redefinition};
use crate::xsd::datatypes::simple_type::{Role, SimpleId};
use crate::xsd::names::{FastMap, QName};
use crate::xsd::problem::Place;

/// What an attribute of a type costs, in steps: it takes memory.
const ATTRIBUTE: u64 = 600;

/// Attributes with those of all groups.
#[derive(Debug, Clone, Default)]
struct Flat {
    uses: Vec<AttributeUse>,
    prohibited: Vec<QName>,
    wildcard: Option<Wildcard>,
}

impl Builder {
    /// Puts the attributes of groups into the groups that refer to them; circles are problems.
    pub(crate) fn derive_attribute_groups(&mut self) {
        let count = self.components.attribute_groups.len();
        let mut done: Vec<Option<bool>> = vec![None; count];
        for first in 0..count {
            if !matches!(done.get(first), Some(None)) {
                continue;
            }
            let mut open = vec![first];
            while let Some(index) = open.last().copied() {
                let Some(group) = self.components.attribute_groups.get(index) else { break };
                if let Some(state @ None) = done.get_mut(index) {
                    *state = Some(false);
                }
                let is_done = |id: AttributeGroupId| matches!(done.get(id.index()), Some(Some(true)));
                match group.own.groups.iter().find(|(id, _)| !is_done(*id)).copied() {
                    Some((id, place)) if matches!(done.get(id.index()), Some(Some(false))) => {
                        self.problems.add(place, "src-attribute_group.3", "the attribute group contains itself");
                        if let Some(group) = self.components.attribute_groups.get_mut(index) {
                            group.own.groups.retain(|(other, _)| *other != id);
                        }
                    }
                    Some((id, _)) => open.push(id.index()),
                    None => {
                        self.flatten_group(AttributeGroupId(u32::try_from(index).unwrap_or(u32::MAX)));
                        if let Some(state) = done.get_mut(index) {
                            *state = Some(true);
                        }
                        open.pop();
                    }
                }
            }
        }
    }

    fn flatten_group(&mut self, id: AttributeGroupId) {
        let Some(group) = self.components.attribute_groups.get(id.index()) else { return };
        let (own, place) = (group.own.clone(), group.place);
        let flat = self.flatten(&own, place, "src-attribute_group.2");
        self.check_unique(&flat.uses, place, "ag-props-correct.2", "ag-props-correct.3");
        if let Some(group) = self.components.attribute_groups.get_mut(id.index()) {
            group.uses = flat.uses;
            group.wildcard = flat.wildcard;
        }
    }

    fn flatten(&mut self, own: &AttributeSet, place: Place, constraint: &'static str) -> Flat {
        let mut flat =
            Flat { uses: own.uses.clone(), prohibited: own.prohibited.clone(), wildcard: own.wildcard.clone() };
        for (id, _) in &own.groups {
            let Some(group) = self.components.attribute_groups.get(id.index()) else { continue };
            // Attributes that are there twice are a problem; they are not kept twice, so that nothing grows without end.
            let known: FastMap<QName, usize> =
                flat.uses.iter().enumerate().map(|(index, usage)| (usage.name, index)).collect();
            let twice = group.uses.iter().find(|usage| known.contains_key(&usage.name)).map(|usage| usage.name);
            flat.uses.extend(group.uses.iter().filter(|usage| !known.contains_key(&usage.name)).cloned());
            match (&mut flat.wildcard, &group.wildcard) {
                (_, None) => {}
                (wildcard @ None, Some(theirs)) => *wildcard = Some(theirs.clone()),
                (Some(wildcard), Some(theirs)) => match wildcard.namespaces.intersection(&theirs.namespaces) {
                    Some(namespaces) => wildcard.namespaces = namespaces,
                    None => {
                        let message = "no wildcard allows exactly what those of the attribute groups allow together";
                        self.problems.add(place, constraint, message);
                    }
                },
            }
            if let Some(name) = twice {
                let message = format!("the attribute `{}` is there twice", self.names.show(name));
                self.problems.add(place, "ct-props-correct.4", message);
            }
        }
        flat
    }

    /// Checks that no attribute is there twice, and that at most one is an `xs:ID`.
    fn check_unique(&mut self, uses: &[AttributeUse], place: Place, twice: &'static str, ids: &'static str) {
        let mut seen: FastMap<QName, ()> = FastMap::default();
        let mut identified = 0;
        for usage in uses {
            if seen.insert(usage.name, ()).is_some() {
                let message = format!("the attribute `{}` is there twice", self.names.show(usage.name));
                self.problems.add(usage.place, twice, message);
            }
            identified += u32::from(self.is_id(self.attribute_type(usage)));
        }
        if identified > 1 {
            self.problems.add(place, ids, "more than one attribute is of the type `xs:ID`");
        }
    }

    pub(crate) fn attribute_type(&self, usage: &AttributeUse) -> SimpleId {
        self.components.attributes.get(usage.decl.index()).map_or(SimpleId::ANY, |attribute| attribute.ty)
    }

    /// Whether a type is `xs:ID` or derived from it.
    pub(crate) fn is_id(&self, id: SimpleId) -> bool {
        self.simple.get(id.index()).is_some_and(|ty| ty.role == Role::Id)
    }

    /// The attributes of a complex type.
    pub(crate) fn derive_attributes(&mut self, id: ComplexId) {
        let Some(ty) = self.components.complex.get(id.index()) else { return };
        let (own, place, base, extends) = (ty.own.clone(), ty.place, ty.base, ty.extends);
        let mut flat = self.flatten(&own, place, "src-ct.4");
        let base = match base {
            TypeId::Complex(base) if base != id => self.components.complex.get(base.index()),
            _ => None,
        };
        let count = base.map_or(0, |base| base.uses.len()).saturating_add(own.uses.len());
        if self.steps.take((count as u64).saturating_mul(ATTRIBUTE)).is_err() {
            let message = "the types have too many attributes, all together";
            return self.problems.add(place, "ct-props-correct", message);
        }
        let (inherited, theirs) = base.map_or((Vec::new(), None), |base| (base.uses.clone(), base.wildcard.clone()));
        self.check_unique(&flat.uses, place, "ct-props-correct.4", "ct-props-correct.5");
        if extends {
            flat.uses.extend(inherited);
            self.extend_wildcard(&mut flat, theirs, place);
        } else {
            let own: FastMap<QName, ()> = flat.uses.iter().map(|usage| (usage.name, ())).collect();
            let kept = |usage: &&AttributeUse| !own.contains_key(&usage.name) && !flat.prohibited.contains(&usage.name);
            let inherited: Vec<AttributeUse> = inherited.iter().filter(kept).cloned().collect();
            flat.uses.extend(inherited);
        }
        self.check_unique(&flat.uses, place, "ct-props-correct.4", "ct-props-correct.5");
        if let Some(ty) = self.components.complex.get_mut(id.index()) {
            ty.uses = flat.uses;
            ty.wildcard = flat.wildcard;
        }
        if !extends {
            self.check_attribute_restriction(id);
        }
    }

    fn extend_wildcard(&mut self, flat: &mut Flat, theirs: Option<Wildcard>, place: Place) {
        match (&mut flat.wildcard, theirs) {
            (_, None) => {}
            (own @ None, theirs) => *own = theirs,
            (Some(own), Some(theirs)) => match own.namespaces.union(&theirs.namespaces) {
                Some(namespaces) => own.namespaces = namespaces,
                None => {
                    let message = "no wildcard allows exactly what this one and that of the base allow";
                    self.problems.add(place, "src-ct.5", message);
                }
            },
        }
    }

    /// `derivation-ok-restriction`, 2 to 4.
    fn check_attribute_restriction(&mut self, id: ComplexId) {
        let Some(ty) = self.components.complex.get(id.index()).cloned() else { return };
        let TypeId::Complex(base_id) = ty.base else { return };
        let Some(base) = self.components.complex.get(base_id.index()).cloned() else { return };
        self.compare_attributes(&ty, &base, base_id == ComplexId::ANY);
    }

    fn compare_attributes(&mut self, ty: &ComplexType, base: &ComplexType, any: bool) {
        let theirs: FastMap<QName, &AttributeUse> = base.uses.iter().map(|usage| (usage.name, usage)).collect();
        let ours: FastMap<QName, ()> = ty.uses.iter().map(|usage| (usage.name, ())).collect();
        for usage in &ty.uses {
            let shown = self.names.show(usage.name);
            let Some(other) = theirs.get(&usage.name) else {
                let allowed = base.wildcard.as_ref().is_some_and(|wildcard| wildcard.namespaces.allows(usage.name.ns));
                if !allowed {
                    let message = format!("the base has no attribute `{shown}`");
                    self.problems.add(usage.place, "derivation-ok-restriction.2.2", message);
                }
                continue;
            };
            if other.required && !usage.required {
                let message = format!("the attribute `{shown}` is required in the base, and cannot be optional");
                self.problems.add(usage.place, "derivation-ok-restriction.2.1.1", message);
            }
            let (own, base) = (self.attribute_type(usage), self.attribute_type(other));
            if other.decl != usage.decl && !self.is_simple_derived(own, base) {
                let message = format!("the type of the attribute `{shown}` is not derived from that in the base");
                self.problems.add(usage.place, "derivation-ok-restriction.2.1.2", message);
            }
            let fixed = self.effective_value(other).filter(|value| value.fixed);
            if let Some(fixed) = fixed {
                let own = self.effective_value(usage).filter(|value| value.fixed);
                let same = own.is_some_and(|own| self.same_value(self.attribute_type(other), &own, &fixed));
                if !same {
                    let message = format!("the attribute `{shown}` is fixed in the base, and must have the same value");
                    self.problems.add(usage.place, "derivation-ok-restriction.2.1.3", message);
                }
            }
        }
        let missing = base.uses.iter().find(|usage| usage.required && !ours.contains_key(&usage.name));
        if let Some(usage) = missing {
            let message = format!("the attribute `{}` is required in the base", self.names.show(usage.name));
            self.problems.add(ty.place, "derivation-ok-restriction.3", message);
        }
        let Some(own) = &ty.wildcard else { return };
        match &base.wildcard {
            None => {
                self.problems.add(own.place, "derivation-ok-restriction.4.1", "the base allows no other attributes");
            }
            Some(theirs) => {
                if !own.namespaces.is_subset(&theirs.namespaces) {
                    let message = "the wildcard allows attributes that the base does not";
                    self.problems.add(own.place, "derivation-ok-restriction.4.2", message);
                } else if !any && process_of(own) < process_of(theirs) {
                    let message = "`processContents` is weaker than in the base";
                    self.problems.add(own.place, "derivation-ok-restriction.4.3", message);
                }
            }
        }
    }

    /// The value of a use, or else that of the declaration.
    pub(crate) fn effective_value(&self, usage: &AttributeUse) -> Option<ValueConstraint> {
        let declared =
            || self.components.attributes.get(usage.decl.index()).and_then(|attribute| attribute.value.clone());
        usage.value.clone().or_else(declared)
    }

    /// Checks an attribute group that is redefined without containing itself (`src-redefine.7.2`).
    pub(crate) fn check_redefined_attributes(&mut self, redefinition: &Redefinition) {
        let (Old::AttributeGroup(old), Old::AttributeGroup(new)) = (redefinition.old, redefinition.new) else { return };
        let group = |id: AttributeGroupId| self.components.attribute_groups.get(id.index()).cloned();
        let (Some(old), Some(new)) = (group(old), group(new)) else { return };
        let Some(any) = self.components.complex.first().cloned() else { return };
        let ty = ComplexType { uses: new.uses, wildcard: new.wildcard, place: new.place, ..any.clone() };
        let base = ComplexType { uses: old.uses, wildcard: old.wildcard, ..any };
        self.compare_attributes(&ty, &base, false);
    }
}

fn process_of(wildcard: &Wildcard) -> Process {
    wildcard.process
}
