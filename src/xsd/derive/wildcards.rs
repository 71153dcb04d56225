//! Wildcards as sets of namespaces (XSD 1.0 Part 1, §3.10.6).

use crate::xsd::components::model::Namespaces;
use crate::xsd::names::Sym;

impl Namespaces {
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
            (Self::These(these), of) => these.iter().all(|ns| of.allows(*ns)),
        }
    }

    /// Whether something is allowed by both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::These(these), of) | (of, Self::These(these)) => these.iter().any(|ns| of.allows(*ns)),
            _ => true,
        }
    }

    /// `cos-aw-intersect`: what both allow; `None` if no wildcard can say it.
    pub(crate) fn intersection(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Any, rest) | (rest, Self::Any) => rest.clone(),
            (Self::These(these), of) | (of, Self::These(these)) => {
                Self::These(these.iter().copied().filter(|ns| of.allows(*ns)).collect())
            }
            (Self::Not(one), Self::Not(two)) if one == two => self.clone(),
            (Self::Not(Sym::NONE), not) | (not, Self::Not(Sym::NONE)) => not.clone(),
            (Self::Not(_), Self::Not(_)) => return None,
        })
    }

    /// `cos-aw-union`: what one of them allows; `None` if no wildcard can say it.
    pub(crate) fn union(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Any, _) | (_, Self::Any) => Self::Any,
            (one, two) if one == two => one.clone(),
            (Self::These(one), Self::These(two)) => {
                let mut these: Vec<Sym> = one.iter().chain(two).copied().collect();
                these.sort_unstable();
                these.dedup();
                Self::These(these)
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
