//! Constraints on components that need more than one of them (XSD 1.0 Part 1, §3).

pub(crate) mod attributes;
pub(crate) mod consistent;
pub(crate) mod elements;
pub(crate) mod groups;
pub(crate) mod particles;
pub(crate) mod restriction;
pub(crate) mod sets;
pub(crate) mod substitution;
pub(crate) mod unique;
