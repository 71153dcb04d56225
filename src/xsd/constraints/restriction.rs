//! Whether the content of a restriction is one of its base: `derivation-ok-restriction`, 5, and `cos-particle-restrict` with
//! its `rcase` rules (XSD 1.0 Part 1, §3.4.6 and §3.9.6).

use std::rc::Rc;

use super::particles::{Item, ItemKind, Items};
use crate::budget::Exhausted;
use crate::xsd::components::context::{Builder, Range};
use crate::xsd::components::model::{
    ComplexId, ComplexType, Content, Derivations, ElementDecl, ElementId, GroupId, GroupKind, Particle, ParticleId,
    Term, TypeId, Wildcard,
};
use crate::xsd::components::work::Old;
use crate::xsd::derive::related::Types;
use crate::xsd::names::{FastMap, QName};
use crate::xsd::problem::Place;

/// Most groups within each other that are compared.
const MAX_DEPTH: u32 = 200;

/// Why a particle is no restriction of another one. It is put into words only if it is reported: most are found on the way to
/// what a particle restricts, and names may be long.
struct Fault {
    constraint: &'static str,
    place: Place,
    /// With `{}` for the name.
    message: &'static str,
    name: Option<QName>,
}

impl Builder {
    /// Checks the contents of all restrictions.
    pub(crate) fn check_restrictions(&mut self) -> Result<(), (Place, Exhausted)> {
        let mut pairs: Vec<(ParticleId, ParticleId, Place)> = Vec::new();
        for index in 0..self.components.complex.len() {
            let Some(ty) = self.components.complex.get(index).cloned() else { break };
            if !ty.extends && index > 0 {
                pairs.extend(self.contents_to_compare(&ty));
            }
        }
        pairs.extend(self.groups_to_compare());
        let (mut steps, mut room) = (self.steps, self.room);
        let mut faults: Vec<Fault> = Vec::new();
        let items = Items::new(&self.components, &self.members, (&mut steps, &mut room));
        let mut rules = Rules { items, types: self.types(), builder: self, known: FastMap::default(), fault: None };
        let mut compared = Ok(());
        for (own, base, place) in pairs {
            match rules.compare(own, base) {
                Ok(fault) => faults.extend(fault),
                Err(exhausted) => {
                    compared = Err((place, exhausted));
                    break;
                }
            }
        }
        (self.steps, self.room) = (steps, room);
        for Fault { constraint, place, message, name } in faults {
            let shown = name.map_or_else(String::new, |name| self.show(name));
            self.problems.add(place, constraint, message.replace("{}", &shown));
        }
        compared
    }

    fn contents_to_compare(&mut self, ty: &ComplexType) -> Option<(ParticleId, ParticleId, Place)> {
        let TypeId::Complex(base_id) = ty.base else { return None };
        if base_id == ComplexId::ANY {
            return None;
        }
        let base = self.components.complex.get(base_id.index())?.content.clone();
        let message = match (&ty.content, base) {
            (Content::Simple(_), _) | (Content::Empty, Content::Empty) => return None,
            (Content::Empty, Content::Elements { particle, .. }) if self.is_emptiable(particle) => return None,
            (Content::Empty, _) => "the content is empty, and that of the base cannot be",
            (Content::Elements { mixed: true, .. }, Content::Elements { mixed: false, .. }) => {
                "the content is mixed, and that of the base is not"
            }
            (Content::Elements { particle, .. }, Content::Elements { particle: base, .. }) => {
                return Some((*particle, base, ty.place));
            }
            (Content::Elements { particle, .. }, Content::Empty) if self.range(*particle).1 == Some(0) => return None,
            (Content::Elements { .. }, Content::Empty) => "the content of the base is empty",
            (Content::Elements { .. }, Content::Simple(_)) => "the content of the base is a value",
        };
        self.problems.add(ty.place, "derivation-ok-restriction.5", message);
        None
    }

    /// Groups that are redefined without containing themselves (`src-redefine.6.2`), as particles.
    fn groups_to_compare(&mut self) -> Vec<(ParticleId, ParticleId, Place)> {
        let mut pairs = Vec::new();
        for redefinition in self.redefinitions.clone() {
            let (Old::Group(old), Old::Group(new)) = (redefinition.old, redefinition.new) else { continue };
            if self.contains_itself(&redefinition) {
                continue;
            }
            let place = self.place(redefinition.at);
            let mut particle =
                |id: GroupId| self.add_particle(Particle { min: 1, max: Some(1), term: Term::Group(id), place });
            pairs.push((particle(new), particle(old), place));
        }
        pairs
    }
}

struct Rules<'a> {
    items: Items<'a>,
    types: Types<'a>,
    builder: &'a Builder,
    known: FastMap<(u64, u64), bool>,
    /// The first rule that was violated.
    fault: Option<Fault>,
}

const LEFT_OUT: &str = "something that the base requires is left out";

/// Items of a base that are looked through in a step.
const LOOKED: u64 = 4;
/// Identity constraints that are compared in a step, and bytes of fixed values.
const CONSTRAINTS: usize = 16;
const BYTES: usize = 64;

/// Steps to compare two declarations of one name, beside their types.
fn declarations_cost(own: &ElementDecl, theirs: &ElementDecl) -> u64 {
    let fixed = |element: &ElementDecl| element.value.as_ref().map_or(0, |value| value.text.len()) / BYTES;
    let constraints = own.constraints.len().saturating_mul(theirs.constraints.len()) / CONSTRAINTS;
    fixed(own).saturating_add(fixed(theirs)).saturating_add(constraints) as u64
}

/// Steps for what is kept of a pair that was compared: a byte each.
const KNOWN: u64 = 64;

/// Whether a range is within another one (`range-ok`).
fn within((min, max): Range, (least, most): Range) -> bool {
    min >= least && most.is_none_or(|most| max.is_some_and(|max| max <= most))
}

fn occurrence(item: &Item) -> Range {
    (u64::from(item.min), item.max.map(u64::from))
}

impl Rules<'_> {
    fn compare(&mut self, own: ParticleId, base: ParticleId) -> Result<Option<Fault>, Exhausted> {
        self.fault = None;
        let (Some(own), Some(base)) = (self.items.of(own)?, self.items.of(base)?) else { return Ok(None) };
        if self.valid(&own, &base, 0)? {
            return Ok(None);
        }
        let message = "the content is not a restriction of that of the base";
        let unknown = Fault { constraint: "cos-particle-restrict", place: own.place, message, name: None };
        Ok(Some(self.fault.take().unwrap_or(unknown)))
    }

    fn fail(&mut self, constraint: &'static str, item: &Item, message: &'static str) -> bool {
        self.fail_of(constraint, item, message, None)
    }

    fn fail_of(
        &mut self,
        constraint: &'static str,
        item: &Item,
        message: &'static str,
        name: impl Into<Option<QName>>,
    ) -> bool {
        let name = name.into();
        self.fault.get_or_insert(Fault { constraint, place: item.place, message, name });
        false
    }

    fn valid(&mut self, own: &Item, base: &Item, depth: u32) -> Result<bool, Exhausted> {
        self.items.steps.take(1)?;
        if depth > MAX_DEPTH {
            return Err(Exhausted);
        }
        if !matches!((&own.kind, &base.kind), (ItemKind::Group(..), _) | (_, ItemKind::Group(..))) {
            // Soon decided, and there may be millions of them.
            return self.decide(own, base, depth);
        }
        let key = (own.id, base.id);
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        self.items.steps.take(KNOWN)?;
        self.items.room.take(2 * size_of::<((u64, u64), bool)>())?;
        let valid = self.decide(own, base, depth.saturating_add(1))?;
        self.known.insert(key, valid);
        Ok(valid)
    }

    fn decide(&mut self, own: &Item, base: &Item, depth: u32) -> Result<bool, Exhausted> {
        use GroupKind::{All, Choice, Sequence};
        if let ItemKind::Group(All | Sequence, items) = &own.kind
            && items.is_empty()
            && base.range(&self.items.ranges).0 == 0
        {
            return Ok(true);
        }
        Ok(match (&own.kind, &base.kind) {
            (ItemKind::Element(element), ItemKind::Element(theirs)) => {
                self.name_and_type(own, *element, base, *theirs)?
            }
            (ItemKind::Element(element), ItemKind::Wildcard(wildcard)) => {
                self.in_wildcard(own, *element, base, wildcard)
            }
            (ItemKind::Element(_), ItemKind::Group(kind, items)) => {
                let only = [own.clone()];
                let once = (1, Some(1));
                let items = Rc::clone(items);
                self.in_range(own, once, base, "rcase-RecurseAsIfGroup")
                    && self.in_order(own, &only, &items, *kind != Choice, "rcase-RecurseAsIfGroup", depth)?
            }
            (ItemKind::Wildcard(wildcard), ItemKind::Wildcard(theirs)) => self.subset(own, wildcard, base, theirs)?,
            (ItemKind::Wildcard(_), _) => {
                self.fail("cos-particle-restrict.2", own, "a wildcard restricts only a wildcard")
            }
            (ItemKind::Group(_, items), ItemKind::Wildcard(wildcard)) => {
                let items = Rc::clone(items);
                self.all_in_wildcard(own, &items, base, wildcard, depth)?
            }
            (ItemKind::Group(..), ItemKind::Element(_)) => {
                self.fail("cos-particle-restrict.2", own, "a group does not restrict an element")
            }
            (ItemKind::Group(kind, items), ItemKind::Group(theirs, their_items)) => {
                let (items, theirs_in) = (Rc::clone(items), Rc::clone(their_items));
                let range = occurrence(own);
                match (kind, theirs) {
                    (All, All) | (Sequence, Sequence) => {
                        self.in_range(own, range, base, "rcase-Recurse")
                            && self.in_order(own, &items, &theirs_in, true, "rcase-Recurse", depth)?
                    }
                    (Choice, Choice) => {
                        self.in_range(own, range, base, "rcase-RecurseLax")
                            && self.in_order(own, &items, &theirs_in, false, "rcase-RecurseLax", depth)?
                    }
                    (Sequence, All) => {
                        self.in_range(own, range, base, "rcase-RecurseUnordered")
                            && self.unordered(own, &items, &theirs_in, depth)?
                    }
                    (Sequence, Choice) => self.map_and_sum(own, &items, base, &theirs_in, depth)?,
                    _ => {
                        let message = "a group restricts only one of its own kind, and a sequence any";
                        self.fail("cos-particle-restrict.2", own, message)
                    }
                }
            }
        })
    }

    fn in_range(&mut self, own: &Item, range: Range, base: &Item, constraint: &'static str) -> bool {
        within(range, occurrence(base))
            || self.fail(constraint, own, "it can occur less or more often than in the base")
    }

    fn name_and_type(
        &mut self,
        own: &Item,
        id: ElementId,
        base: &Item,
        their_id: ElementId,
    ) -> Result<bool, Exhausted> {
        let builder = self.builder;
        let elements = &builder.components.elements;
        let (Some(element), Some(theirs)) = (elements.get(id.index()), elements.get(their_id.index())) else {
            return Ok(true);
        };
        if element.name == theirs.name && id != their_id {
            self.items.steps.take(declarations_cost(element, theirs))?;
        }
        let not_by = Derivations::EXTENSION.with(Derivations::LIST).with(Derivations::UNION);
        let wrong = if element.name != theirs.name {
            Some(("rcase-NameAndTypeOK.1", "the base has no element `{}` in this place"))
        } else if !within(occurrence(own), occurrence(base)) {
            Some(("rcase-NameAndTypeOK.3", "`{}` can occur less or more often than in the base"))
        } else if id == their_id {
            None
        } else if element.nillable && !theirs.nillable {
            Some(("rcase-NameAndTypeOK.2", "`{}` is nillable, and that of the base is not"))
        } else if !self.same_fixed(id, their_id) {
            Some(("rcase-NameAndTypeOK.4", "`{}` has a fixed value in the base, and must have the same"))
        } else if element.constraints.iter().any(|constraint| !theirs.constraints.contains(constraint)) {
            Some(("rcase-NameAndTypeOK.5", "`{}` has identity constraints that the base does not have"))
        } else if theirs.block.and(element.block) != theirs.block {
            Some(("rcase-NameAndTypeOK.6", "`{}` blocks less than that of the base"))
        } else if !self.types.derived(element.ty, theirs.ty, not_by, self.items.steps)? {
            Some(("rcase-NameAndTypeOK.7", "the type of `{}` is no restriction of that in the base"))
        } else {
            None
        };
        Ok(match wrong {
            None => true,
            Some((constraint, message)) => self.fail_of(constraint, own, message, element.name),
        })
    }

    fn same_fixed(&self, id: ElementId, their_id: ElementId) -> bool {
        let elements = &self.builder.components.elements;
        let (Some(element), Some(theirs)) = (elements.get(id.index()), elements.get(their_id.index())) else {
            return true;
        };
        let Some(fixed) = theirs.value.as_ref().filter(|value| value.fixed) else { return true };
        let Some(own) = element.value.as_ref().filter(|value| value.fixed) else { return false };
        match self.types.value_type(theirs.ty) {
            Some(ty) => self.builder.same_value(ty, own, fixed),
            None => own.text == fixed.text,
        }
    }

    fn in_wildcard(&mut self, own: &Item, id: ElementId, base: &Item, wildcard: &Wildcard) -> bool {
        let Some(element) = self.builder.components.elements.get(id.index()) else { return true };
        let name = element.name;
        if !wildcard.namespaces.allows(name.ns) {
            return self.fail_of("rcase-NSCompat.1", own, "the wildcard of the base does not allow `{}`", name);
        }
        self.in_range(own, occurrence(own), base, "rcase-NSCompat.2")
    }

    fn subset(&mut self, own: &Item, wildcard: &Wildcard, base: &Item, theirs: &Wildcard) -> Result<bool, Exhausted> {
        self.items.steps.take(wildcard.namespaces.size())?;
        if !self.in_range(own, occurrence(own), base, "rcase-NSSubset.1") {
            return Ok(false);
        }
        if !wildcard.namespaces.is_subset(&theirs.namespaces) {
            return Ok(self.fail("rcase-NSSubset.2", own, "the wildcard allows more than that of the base"));
        }
        if wildcard.process < theirs.process {
            return Ok(self.fail("rcase-NSSubset.3", own, "`processContents` is weaker than in the base"));
        }
        Ok(true)
    }

    fn all_in_wildcard(
        &mut self,
        own: &Item,
        items: &[Item],
        base: &Item,
        wildcard: &Wildcard,
        depth: u32,
    ) -> Result<bool, Exhausted> {
        const EACH: u64 = 1 << 41;
        let each = Item {
            id: base.id | EACH,
            min: 0,
            max: None,
            kind: ItemKind::Wildcard(wildcard.clone()),
            place: base.place,
        };
        for item in items {
            if !self.valid(item, &each, depth)? {
                return Ok(false);
            }
        }
        let range = own.range(&self.items.ranges);
        Ok(self.in_range(own, range, base, "rcase-NSRecurseCheckCardinality.2"))
    }

    /// `Recurse` and `RecurseLax`: each item restricts one of the base, in its order; in a sequence those that are left out
    /// can be.
    fn in_order(
        &mut self,
        own: &Item,
        items: &[Item],
        base: &[Item],
        sequence: bool,
        constraint: &'static str,
        depth: u32,
    ) -> Result<bool, Exhausted> {
        // Those that are left out are looked through, too.
        self.items.steps.take(base.len() as u64 / LOOKED)?;
        let mut left = base.iter();
        let kept = self.fault.take();
        for item in items {
            loop {
                let Some(theirs) = left.next() else {
                    // What was violated on the way is the better reason.
                    return Ok(self.fail(constraint, item, "the base has nothing in this place that it restricts"));
                };
                if self.valid(item, theirs, depth)? {
                    break;
                }
                if sequence && theirs.range(&self.items.ranges).0 > 0 {
                    return Ok(self.fail(constraint, item, LEFT_OUT));
                }
            }
        }
        self.fault = kept;
        if sequence && left.any(|theirs| theirs.range(&self.items.ranges).0 > 0) {
            return Ok(self.fail(constraint, own, LEFT_OUT));
        }
        Ok(true)
    }

    fn unordered(&mut self, own: &Item, items: &[Item], base: &[Item], depth: u32) -> Result<bool, Exhausted> {
        self.items.steps.take(base.len() as u64 / LOOKED)?;
        let mut used = vec![false; base.len()];
        let kept = self.fault.take();
        for item in items {
            let mut found = false;
            for (theirs, used) in base.iter().zip(used.iter_mut()) {
                if !*used && self.valid(item, theirs, depth)? {
                    (found, *used) = (true, true);
                    break;
                }
            }
            if !found {
                let message = "the base has nothing that it restricts";
                return Ok(self.fail("rcase-RecurseUnordered.2", item, message));
            }
        }
        self.fault = kept;
        let missing = base.iter().zip(&used).any(|(theirs, used)| !used && theirs.range(&self.items.ranges).0 > 0);
        Ok(!missing || self.fail("rcase-RecurseUnordered.2", own, LEFT_OUT))
    }

    fn map_and_sum(
        &mut self,
        own: &Item,
        items: &[Item],
        base: &Item,
        base_items: &[Item],
        depth: u32,
    ) -> Result<bool, Exhausted> {
        let kept = self.fault.take();
        for item in items {
            let mut found = false;
            for theirs in base_items {
                if self.valid(item, theirs, depth)? {
                    found = true;
                    break;
                }
            }
            if !found {
                let message = "the base has nothing that it restricts";
                return Ok(self.fail("rcase-MapAndSum.1", item, message));
            }
        }
        self.fault = kept;
        let count = items.len() as u64;
        let (min, max) = occurrence(own);
        let range = (min.saturating_mul(count), max.map(|max| max.saturating_mul(count)));
        Ok(self.in_range(own, range, base, "rcase-MapAndSum.2"))
    }
}
