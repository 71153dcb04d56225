//! The components of a schema (XSD 1.0 Part 1, §2.2), built from its documents.

pub(crate) mod attributes;
pub(crate) mod complex;
pub(crate) mod context;
pub(crate) mod documents;
pub(crate) mod elements;
pub(crate) mod grammar;
pub(crate) mod groups;
pub(crate) mod identity;
pub(crate) mod model;
pub(crate) mod redefine;
pub(crate) mod register;
pub(crate) mod simple;
pub(crate) mod syntax;
pub(crate) mod work;
pub(crate) mod xpath;
