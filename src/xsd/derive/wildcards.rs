//! Wildcards as sets of namespaces (XSD 1.0 Part 1, §3.10.6).

use std::sync::Arc;

use crate::xsd::components::model::Namespaces;
use crate::xsd::names::Sym;

impl Namespaces {
    /// How much there is to look through, in steps.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::These(these) => (these.len() as u64).saturating_add(1),
            Self::Any | Self::Not(_) => 1,
        }
    }

    /// Whether both allow the same. Lists that are shared are not looked through.
    pub(crate) fn same(&self, other: &Self) -> bool {
        matches!((self, other), (Self::These(one), Self::These(two)) if Arc::ptr_eq(one, two)) || self == other
    }

    /// Those of a list that are allowed; the list itself if they all are.
    fn allowed(&self, these: &Arc<[Sym]>) -> Arc<[Sym]> {
        let all = these.iter().all(|ns| self.allows(*ns));
        if all { Arc::clone(these) } else { these.iter().copied().filter(|ns| self.allows(*ns)).collect() }
    }

    /// Whether names of a namespace are allowed.
    pub(crate) fn allows(&self, ns: Sym) -> bool {
        match self {
            Self::Any => true,
            Self::Not(not) => ns != Sym::NONE && ns != *not,
            Self::These(these) => these.binary_search(&ns).is_ok(),
        }
    }

    /// `cos-ns-subset`: whether everything that is allowed here is allowed there.
    pub(crate) fn is_subset(&self, of: &Self) -> bool {
        match (self, of) {
            (_, Self::Any) => true,
            (Self::Any, _) => false,
            (Self::Not(own), Self::Not(other)) => own == other,
            (Self::Not(_), Self::These(_)) => false,
            (Self::These(these), Self::These(of)) if Arc::ptr_eq(these, of) => true,
            (Self::These(these), of) => these.iter().all(|ns| of.allows(*ns)),
        }
    }

    /// Whether something is allowed by both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (small, large) = if self.size() > other.size() { (other, self) } else { (self, other) };
        match (large, small) {
            (of, Self::These(these)) | (Self::These(these), of) => these.iter().any(|ns| of.allows(*ns)),
            _ => true,
        }
    }

    /// `cos-aw-intersect`: what both allow; `None` if no wildcard can say it.
    pub(crate) fn intersection(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Any, rest) | (rest, Self::Any) => rest.clone(),
            (Self::These(one), Self::These(two)) if Arc::ptr_eq(one, two) => self.clone(),
            (Self::These(these), of) | (of, Self::These(these)) => Self::These(of.allowed(these)),
            (Self::Not(one), Self::Not(two)) if one == two => self.clone(),
            (Self::Not(Sym::NONE), not) | (not, Self::Not(Sym::NONE)) => not.clone(),
            (Self::Not(_), Self::Not(_)) => return None,
        })
    }

    /// `cos-aw-union`: what one of them allows; `None` if no wildcard can say it.
    pub(crate) fn union(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Any, _) | (_, Self::Any) => Self::Any,
            (one, two) if one.same(two) => one.clone(),
            (Self::These(one), Self::These(two)) => {
                let mut these: Vec<Sym> = one.iter().chain(two.iter()).copied().collect();
                these.sort_unstable();
                these.dedup();
                Self::These(these.into())
            }
            (Self::Not(_), Self::Not(_)) => Self::Not(Sym::NONE),
            (Self::Not(Sym::NONE), Self::These(these)) | (Self::These(these), Self::Not(Sym::NONE)) => {
                if these.contains(&Sym::NONE) { Self::Any } else { Self::Not(Sym::NONE) }
            }
            (Self::Not(not), Self::These(these)) | (Self::These(these), Self::Not(not)) => {
                match (these.contains(not), these.contains(&Sym::NONE)) {
                    (true, true) => Self::Any,
                    (true, false) => Self::Not(Sym::NONE),
                    (false, true) => return None,
                    (false, false) => Self::Not(*not),
                }
            }
        })
    }
}
