//! Tables of keys (XSD 1.0 Part 1, §3.11.4 and §3.11.5).

use super::values::Number;
use crate::xsd::components::model::ConstraintId;
use crate::xsd::names::FastMap;

/// Bytes that a key or a reference takes, beside its values, while its table doubles.
pub(super) const SIZE: usize = 32;
/// Bytes that a table takes, beside its keys.
const TABLE: usize = 256;
/// Steps to hand a table over to the element around, beside its keys.
pub(super) const MOVE: u64 = 2;

/// A reference to a key.
#[derive(Debug)]
pub(super) struct KeyReference {
    pub(super) key: Number,
    pub(super) offset: usize,
}

/// The keys of a constraint that are known at an element.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Whether a key comes from the element itself, or only from one within.
    pub(super) known: FastMap<Number, Origin>,
}

/// Where a key is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Own,
    Within,
    /// From several elements within, so that it is none of theirs.
    Conflict,
}

/// Keys by their constraint.
pub(super) type Tables = FastMap<ConstraintId, Keys>;

/// The keys of elements that have ended, kept for one around them.
#[derive(Debug)]
pub(super) struct Kept {
    /// Of the element that they are known at now.
    pub(super) depth: usize,
    pub(super) tables: Tables,
}

impl Kept {
    /// How many bytes it takes, about, beside the keys.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>().saturating_add(self.tables.capacity().saturating_mul(TABLE))
    }
}

impl Keys {
    /// Steps to add all of them to others.
    pub(super) fn cost(&self) -> u64 {
        self.known.len() as u64
    }

    /// Adds the keys of an element within.
    pub(super) fn absorb(&mut self, within: Self) {
        for (key, origin) in within.known {
            // A conflict of elements further within is none here: that table has no such key (§3.11.5).
            if origin == Origin::Conflict {
                continue;
            }
            self.known
                .entry(key)
                .and_modify(|known| {
                    if *known == Origin::Within {
                        *known = Origin::Conflict;
                    }
                })
                .or_insert(Origin::Within);
        }
    }

    /// Whether a reference finds its key.
    pub(super) fn contains(&self, key: Number) -> bool {
        self.known.get(&key).is_some_and(|origin| *origin != Origin::Conflict)
    }
}
