//! Substitution groups (XSD 1.0 Part 1, §3.3.6): circles, types of heads, and which elements can stand for which.

use crate::budget::Exhausted;
use crate::xsd::components::context::{Builder, next};
use crate::xsd::components::model::{Derivations, ElementId, TypeId};
use crate::xsd::derive::related::Types;
use crate::xsd::names::FastMap;
use crate::xsd::problem::Place;

/// Most members of all substitution groups, counted in each group that they are in.
const MAX_MEMBERS: u64 = 2_000_000;

/// What is wrong with types that it takes too many steps to compare.
const TOO_MANY_TYPES: &str =
    "the types of the members of substitution groups are derived through too many others, all together";

/// Heads that are looked at in a step.
const HEADS: u64 = 4;

impl Builder {
    /// Finds circles of substitution groups, and gives elements without a type that of their head.
    pub(crate) fn resolve_heads(&mut self) {
        for index in 0..next(&self.components.elements) {
            let mut chain: Vec<ElementId> = Vec::new();
            let mut at = Some(ElementId(index));
            let mut circle = false;
            while let Some(element) = at.and_then(|id| self.components.elements.get(id.index())) {
                // A circle is too deep, too.
                if chain.len() > 1000 {
                    circle = true;
                    break;
                }
                chain.extend(at);
                at = element.head;
            }
            if self.steps.take(chain.len() as u64 / HEADS).is_err() {
                let message = "the elements have too many heads of substitution groups, all together";
                return self.problems.add(Place::default(), "e-props-correct.6", message);
            }
            let Some(element) = self.components.elements.get(index as usize) else { return };
            if circle {
                let place = element.place;
                self.problems.add(place, "e-props-correct.6", "the substitution group contains itself, or is too deep");
                if let Some(element) = self.components.elements.get_mut(index as usize) {
                    element.head = None;
                }
                continue;
            }
            if element.type_of_head {
                let source = chain.iter().filter_map(|id| self.components.elements.get(id.index()));
                let ty = source.clone().find(|element| !element.type_of_head).map_or(TypeId::ANY, |element| element.ty);
                if let Some(element) = self.components.elements.get_mut(index as usize) {
                    element.ty = ty;
                }
            }
        }
    }

    /// `e-props-correct.4`: the type of a member is derived from its head's, in a way that the head allows.
    pub(crate) fn check_heads(&mut self) {
        for index in 0..next(&self.components.elements) {
            let Some(element) = self.components.elements.get(index as usize) else { return };
            let Some(head) = element.head.and_then(|head| self.components.elements.get(head.index())) else { continue };
            let types = Types { simple: &self.simple, complex: &self.components.complex };
            let place = element.place;
            match types.derived(element.ty, head.ty, head.final_, &mut self.steps) {
                Ok(true) => {}
                Ok(false) => {
                    let shown = self.show(head.name);
                    let message = format!(
                        "the type is not derived from that of the head, `{shown}`, or in a way that it forbids"
                    );
                    self.problems.add(place, "e-props-correct.4", message);
                }
                Err(Exhausted) => return self.problems.add(place, "e-props-correct.4", TOO_MANY_TYPES),
            }
        }
    }

    /// Lists, for each head, who can stand for it (`cos-equiv-derived-ok-rec`): those of a member right after it, so that
    /// the lists of two heads have the same order.
    pub(crate) fn find_members(&mut self) {
        let mut direct: FastMap<ElementId, Vec<ElementId>> = FastMap::default();
        for (element, index) in self.components.elements.iter().zip(0..) {
            if let Some(head) = element.head {
                direct.entry(head).or_default().push(ElementId(index));
            }
        }
        let mut count = 0_u64;
        let heads: Vec<ElementId> = direct.keys().copied().collect();
        for head in heads {
            let mut left: Vec<ElementId> =
                direct.get(&head).map(|members| members.iter().rev().copied().collect()).unwrap_or_default();
            let mut members = Vec::new();
            while let Some(id) = left.pop() {
                count = count.saturating_add(1);
                if count > MAX_MEMBERS {
                    let place = self.components.elements.get(head.index()).map(|head| head.place).unwrap_or_default();
                    return self.problems.add(
                        place,
                        "e-props-correct",
                        "the substitution groups have too many members",
                    );
                }
                match self.can_stand_for(id, head) {
                    Ok(true) => members.push(id),
                    Ok(false) => {}
                    Err(Exhausted) => {
                        let place = self.components.elements.get(id.index()).map(|member| member.place);
                        return self.problems.add(place.unwrap_or_default(), "e-props-correct.4", TOO_MANY_TYPES);
                    }
                }
                left.extend(direct.get(&id).into_iter().flat_map(|members| members.iter().rev().copied()));
            }
            if !members.is_empty() {
                self.members.insert(head, members);
            }
        }
    }

    /// Whether an element whose heads lead to another one can stand for it.
    fn can_stand_for(&mut self, id: ElementId, head: ElementId) -> Result<bool, Exhausted> {
        let elements = &self.components.elements;
        let (Some(member), Some(head)) = (elements.get(id.index()), elements.get(head.index())) else {
            return Ok(false);
        };
        if head.block.intersects(Derivations::SUBSTITUTION) {
            return Ok(false);
        }
        let types = Types { simple: &self.simple, complex: &self.components.complex };
        let Some(how) = types.derivation(member.ty, head.ty, &mut self.steps)? else {
            // Through a member of a union.
            return types.derived(member.ty, head.ty, Derivations::default(), &mut self.steps);
        };
        let mut blocked = head.block;
        let (mut at, mut length) = (member.ty, 0_u64);
        // What the head's type and the types between them block.
        while at != head.ty {
            let TypeId::Complex(ty) = at else { break };
            length = length.saturating_add(1);
            let Some(ty) = self.components.complex.get(ty.index()) else { break };
            if at != member.ty {
                blocked = blocked.with(ty.block);
            }
            at = ty.base;
        }
        self.steps.take(length)?;
        if let TypeId::Complex(ty) = head.ty {
            blocked =
                blocked.with(self.components.complex.get(ty.index()).map_or_else(Derivations::default, |ty| ty.block));
        }
        Ok(!how.intersects(blocked))
    }
}
