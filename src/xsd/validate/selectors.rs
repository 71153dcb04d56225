//! The selectors of identity constraints (XSD 1.0 Part 1, §3.11.6).
//!
//! One is found by the last name of its path, and the path compared with the open elements: some schemas have a thousand at the root.

use crate::budget::{Exhausted, Steps};
use crate::xsd::components::model::{ConstraintId, IdentityConstraint, NameTest, Path};
use crate::xsd::names::{FastMap, QName};

/// A path of a constraint's selector.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selector<'s> {
    pub(super) scope: u64,
    pub(super) constraint: ConstraintId,
    /// Of the element that has the constraint.
    pub(super) depth: usize,
    pub(super) path: &'s Path,
}

impl Selector<'_> {
    /// Whether it selects the last of the open elements, which is at this depth.
    fn selects(&self, open: &[QName], depth: usize) -> bool {
        let (steps, below) = (&self.path.steps, depth.saturating_sub(self.depth));
        let reaches = if self.path.anywhere { below >= steps.len() } else { below == steps.len() };
        reaches && steps.iter().rev().zip(open.iter().rev()).all(|(step, name)| step.matches(*name))
    }

    /// What it costs to ask that.
    fn cost(&self) -> u64 {
        (self.path.steps.len() as u64).max(1)
    }
}

/// The selectors at work.
#[derive(Debug, Default)]
pub(super) struct Selectors<'s> {
    /// By the last name of their path. The numbers of their scopes grow.
    by_name: FastMap<QName, Vec<Selector<'s>>>,
    /// Those whose path does not end with a name.
    others: Vec<Selector<'s>>,
}

impl<'s> Selectors<'s> {
    pub(super) fn add(&mut self, selector: Selector<'s>) {
        match selector.path.steps.last() {
            Some(NameTest::Name(name)) => self.by_name.entry(*name).or_default().push(selector),
            _ => self.others.push(selector),
        }
    }

    /// Takes out those of a scope that ends, which are the last ones.
    pub(super) fn remove(&mut self, constraint: &IdentityConstraint, scope: u64) {
        for path in &constraint.selector {
            let selectors = match path.steps.last() {
                Some(NameTest::Name(name)) => self.by_name.get_mut(name),
                _ => Some(&mut self.others),
            };
            if let Some(selectors) = selectors {
                while selectors.pop_if(|selector| selector.scope >= scope).is_some() {}
            }
        }
    }

    /// What selects the last of the open elements, each scope once and in their order.
    pub(super) fn selected(
        &self,
        open: &[QName],
        depth: usize,
        steps: &mut Steps,
    ) -> Result<Vec<(u64, ConstraintId)>, Exhausted> {
        let named = open.last().and_then(|name| self.by_name.get(name)).map_or(&[][..], Vec::as_slice);
        let mut selected = Vec::new();
        for selector in named.iter().chain(&self.others) {
            steps.take(selector.cost())?;
            if selector.selects(open, depth) {
                selected.push((selector.scope, selector.constraint));
            }
        }
        selected.sort_unstable_by_key(|(scope, _)| *scope);
        selected.dedup_by_key(|(scope, _)| *scope);
        Ok(selected)
    }
}
