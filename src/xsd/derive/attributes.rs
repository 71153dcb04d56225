//! Attributes of groups and types, with those that they have from groups and bases (XSD 1.0 Part 1, §3.4.2 and §3.6.2).

use std::sync::Arc;

use crate::xsd::components::context::Builder;
use crate::xsd::components::model::{
    AttributeGroup, AttributeGroupId, AttributeSet, AttributeUse, ComplexId, ComplexType, Namespaces, Process, TypeId,
    ValueConstraint, Wildcard,
};
use crate::xsd::components::work::{Old, Redefinition};
use crate::xsd::datatypes::simple_type::{Role, SimpleId};
use crate::xsd::names::{FastMap, QName};
use crate::xsd::problem::Place;
use crate::xsd::schema::AttributeRule;

/// What an attribute of a type costs, in steps: it takes memory.
const ATTRIBUTE: u64 = 600;
/// What a namespace of a wildcard costs, in steps: a new list of them takes memory.
const NAMESPACE: u64 = 4;

/// Attributes with those of all groups.
#[derive(Debug, Clone, Default)]
struct Flat {
    uses: Vec<AttributeUse>,
    prohibited: Vec<QName>,
    wildcard: Option<Wildcard>,
}

/// What two types are compared by.
struct Had {
    uses: Vec<AttributeUse>,
    wildcard: Option<Wildcard>,
    place: Place,
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
            // Each with the position of the group in it that is next.
            let mut open = vec![(first, 0_usize)];
            while let Some((index, position)) = open.last_mut() {
                let (index, at) = (*index, *position);
                let Some(group) = self.components.attribute_groups.get(index) else { break };
                if let Some(state @ None) = done.get_mut(index) {
                    *state = Some(false);
                }
                let is_done = |id: AttributeGroupId| matches!(done.get(id.index()), Some(Some(true)));
                let next = group.own.groups.get(at).copied();
                match next {
                    Some((id, _)) if is_done(id) => *position = at.saturating_add(1),
                    Some((id, place)) if matches!(done.get(id.index()), Some(Some(false))) => {
                        *position = at.saturating_add(1);
                        self.problems.add(place, "src-attribute_group.3", "the attribute group contains itself");
                    }
                    Some((id, _)) => open.push((id.index(), 0)),
                    None => {
                        if let Some(group) = self.components.attribute_groups.get_mut(index) {
                            group.own.groups.retain(|(other, _)| is_done(*other));
                        }
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
        let Some(flat) = self.flatten(&own, place, "src-attribute_group.2") else { return };
        self.check_unique(&flat.uses, place, "ag-props-correct.2", "ag-props-correct.3");
        if let Some(group) = self.components.attribute_groups.get_mut(id.index()) {
            group.uses = flat.uses;
            group.wildcard = flat.wildcard;
        }
    }

    /// Whether there are steps for so many more attributes; it is a problem if there are not.
    fn pay_attributes(&mut self, count: usize, place: Place) -> bool {
        self.keep_entries::<(AttributeUse, AttributeRule)>(count);
        let paid = self.steps.take((count as u64).saturating_mul(ATTRIBUTE)).is_ok();
        if !paid {
            let message = "the types have too many attributes, all together";
            self.problems.add(place, "ct-props-correct", message);
        }
        paid
    }

    /// The same for the namespaces of two wildcards that become one, or are compared.
    fn pay_namespaces(&mut self, one: &Namespaces, two: &Namespaces, place: Place) -> bool {
        let count = one.size().saturating_add(two.size());
        let paid = one.same(two) || self.steps.take(count.saturating_mul(NAMESPACE)).is_ok();
        if !paid {
            let message = "the wildcards of the types have too many namespaces, all together";
            self.problems.add(place, "ct-props-correct", message);
        }
        paid
    }

    /// Attributes with those of the groups; `None` if they are too many.
    fn flatten(&mut self, own: &AttributeSet, place: Place, constraint: &'static str) -> Option<Flat> {
        let mut flat =
            Flat { uses: own.uses.clone(), prohibited: own.prohibited.clone(), wildcard: own.wildcard.clone() };
        let mut known: FastMap<QName, ()> = flat.uses.iter().map(|usage| (usage.name, ())).collect();
        for (id, _) in &own.groups {
            let count = self.components.attribute_groups.get(id.index()).map_or(0, |group| group.uses.len());
            if !self.pay_attributes(count, place) {
                return None;
            }
            let Some(group) = self.components.attribute_groups.get(id.index()) else { continue };
            // Attributes that are there twice are a problem; they are not kept twice, so that nothing grows without end.
            let mut twice = None;
            for usage in &group.uses {
                match known.insert(usage.name, ()) {
                    None => flat.uses.push(usage.clone()),
                    Some(()) => twice = twice.or(Some(usage.name)),
                }
            }
            let theirs = group.wildcard.clone();
            self.intersect(&mut flat, theirs, place, constraint)?;
            if let Some(name) = twice {
                let message = format!("the attribute `{}` is there twice", self.show(name));
                self.problems.add(place, "ct-props-correct.4", message);
            }
        }
        Some(flat)
    }

    /// Leaves what the wildcard of a group allows, too; `None` if that is too much work.
    fn intersect(
        &mut self,
        flat: &mut Flat,
        theirs: Option<Wildcard>,
        place: Place,
        constraint: &'static str,
    ) -> Option<()> {
        match (&mut flat.wildcard, theirs) {
            (_, None) => {}
            (wildcard @ None, theirs) => *wildcard = theirs,
            (Some(wildcard), Some(theirs)) => {
                if !self.pay_namespaces(&wildcard.namespaces, &theirs.namespaces, place) {
                    return None;
                }
                match wildcard.namespaces.intersection(&theirs.namespaces) {
                    Some(namespaces) => wildcard.namespaces = namespaces,
                    None => {
                        let message = "no wildcard allows exactly what those of the attribute groups allow together";
                        self.problems.add(place, constraint, message);
                    }
                }
            }
        }
        Some(())
    }

    /// Checks that no attribute is there twice, and that at most one is an `xs:ID`.
    fn check_unique(&mut self, uses: &[AttributeUse], place: Place, twice: &'static str, ids: &'static str) {
        let mut seen: FastMap<QName, ()> = FastMap::default();
        let mut identified = 0;
        for usage in uses {
            if seen.insert(usage.name, ()).is_some() {
                let message = format!("the attribute `{}` is there twice", self.show(usage.name));
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
        let Some(mut flat) = self.flatten(&own, place, "src-ct.4") else { return };
        let base = match base {
            TypeId::Complex(base) if base != id => base.index(),
            _ => usize::MAX,
        };
        let count = self.components.complex.get(base).map_or(0, |base| base.uses.len());
        if !self.pay_attributes(count.saturating_add(own.uses.len()), place) {
            return;
        }
        let inherited = self.components.complex.get(base).map(|base| (base.uses.clone(), base.wildcard.clone()));
        let (inherited, theirs) = inherited.unwrap_or_default();
        self.check_unique(&flat.uses, place, "ct-props-correct.4", "ct-props-correct.5");
        if extends {
            flat.uses.extend(inherited);
            self.extend_wildcard(&mut flat, theirs, place);
        } else {
            let own: FastMap<QName, ()> = flat.uses.iter().map(|usage| (usage.name, ())).collect();
            let prohibited: FastMap<QName, ()> = flat.prohibited.iter().map(|name| (*name, ())).collect();
            let kept = |usage: &&AttributeUse| !own.contains_key(&usage.name) && !prohibited.contains_key(&usage.name);
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
            (Some(own), Some(theirs)) => {
                if !self.pay_namespaces(&own.namespaces, &theirs.namespaces, place) {
                    return;
                }
                match own.namespaces.union(&theirs.namespaces) {
                    Some(namespaces) => own.namespaces = namespaces,
                    None => {
                        let message = "no wildcard allows exactly what this one and that of the base allow";
                        self.problems.add(place, "src-ct.5", message);
                    }
                }
            }
        }
    }

    /// `derivation-ok-restriction`, 2 to 4.
    fn check_attribute_restriction(&mut self, id: ComplexId) {
        let Some(ty) = self.components.complex.get(id.index()) else { return };
        let TypeId::Complex(base_id) = ty.base else { return };
        let Some(base) = self.components.complex.get(base_id.index()) else { return };
        let had = |ty: &ComplexType| Had { uses: ty.uses.clone(), wildcard: ty.wildcard.clone(), place: ty.place };
        let (own, base) = (had(ty), had(base));
        self.compare_attributes(&own, &base, base_id == ComplexId::ANY);
    }

    fn compare_attributes(&mut self, ty: &Had, base: &Had, any: bool) {
        let theirs: FastMap<QName, &AttributeUse> = base.uses.iter().map(|usage| (usage.name, usage)).collect();
        let ours: FastMap<QName, ()> = ty.uses.iter().map(|usage| (usage.name, ())).collect();
        for usage in &ty.uses {
            let Some(other) = theirs.get(&usage.name) else {
                let allowed = base.wildcard.as_ref().is_some_and(|wildcard| wildcard.namespaces.allows(usage.name.ns));
                if !allowed {
                    let message = format!("the base has no attribute `{}`", self.show(usage.name));
                    self.problems.add(usage.place, "derivation-ok-restriction.2.2", message);
                }
                continue;
            };
            if other.required && !usage.required {
                let shown = self.show(usage.name);
                let message = format!("the attribute `{shown}` is required in the base, and cannot be optional");
                self.problems.add(usage.place, "derivation-ok-restriction.2.1.1", message);
            }
            let (own, base) = (self.attribute_type(usage), self.attribute_type(other));
            if other.decl != usage.decl && !self.is_simple_derived(own, base, usage.place) {
                let shown = self.show(usage.name);
                let message = format!("the type of the attribute `{shown}` is not derived from that in the base");
                self.problems.add(usage.place, "derivation-ok-restriction.2.1.2", message);
            }
            if !self.keeps_fixed(usage, other) {
                let shown = self.show(usage.name);
                let message = format!("the attribute `{shown}` is fixed in the base, and must have the same value");
                self.problems.add(usage.place, "derivation-ok-restriction.2.1.3", message);
            }
        }
        let missing = base.uses.iter().find(|usage| usage.required && !ours.contains_key(&usage.name));
        if let Some(usage) = missing {
            let message = format!("the attribute `{}` is required in the base", self.show(usage.name));
            self.problems.add(ty.place, "derivation-ok-restriction.3", message);
        }
        self.compare_wildcards(ty, base, any);
    }

    /// Whether an attribute has the value that it has in the base, if that is fixed.
    fn keeps_fixed(&self, usage: &AttributeUse, base: &AttributeUse) -> bool {
        let fixed = |usage| self.effective_value(usage).filter(|value| value.fixed);
        let Some(theirs) = fixed(base) else { return true };
        let ty = self.attribute_type(base);
        fixed(usage).is_some_and(|own| Arc::ptr_eq(own, theirs) || self.same_value(ty, own, theirs))
    }

    fn compare_wildcards(&mut self, ty: &Had, base: &Had, any: bool) {
        let Some(own) = &ty.wildcard else { return };
        match &base.wildcard {
            None => {
                self.problems.add(own.place, "derivation-ok-restriction.4.1", "the base allows no other attributes");
            }
            Some(theirs) => {
                if !self.pay_namespaces(&own.namespaces, &theirs.namespaces, own.place) {
                    return;
                }
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
    pub(crate) fn effective_value<'a>(&'a self, usage: &'a AttributeUse) -> Option<&'a Arc<ValueConstraint>> {
        let declared =
            || self.components.attributes.get(usage.decl.index()).and_then(|attribute| attribute.value.as_ref());
        usage.value.as_ref().or_else(declared)
    }

    /// Checks an attribute group that is redefined without containing itself (`src-redefine.7.2`).
    pub(crate) fn check_redefined_attributes(&mut self, redefinition: &Redefinition) {
        let (Old::AttributeGroup(old), Old::AttributeGroup(new)) = (redefinition.old, redefinition.new) else { return };
        let group = |id: AttributeGroupId| self.components.attribute_groups.get(id.index()).cloned();
        let (Some(old), Some(new)) = (group(old), group(new)) else { return };
        let had = |group: AttributeGroup| Had { uses: group.uses, wildcard: group.wildcard, place: group.place };
        self.compare_attributes(&had(new), &had(old), false);
    }
}

fn process_of(wildcard: &Wildcard) -> Process {
    wildcard.process
}
