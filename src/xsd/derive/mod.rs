//! What components have from others: types from their bases, groups from those in them; and what is wrong with that.

pub(crate) mod attributes;
pub(crate) mod bounds;
pub(crate) mod complex;
pub(crate) mod facets;
pub(crate) mod order;
pub(crate) mod related;
pub(crate) mod simple;
pub(crate) mod wildcards;
