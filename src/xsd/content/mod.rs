//! Content models, walked along the groups of the schema itself: nothing is expanded, and counters count.

pub(crate) mod expected;
pub(crate) mod index;
pub(crate) mod walk;
