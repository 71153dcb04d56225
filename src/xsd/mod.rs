//! XML Schema 1.0: schema documents to a compiled schema, and instances judged by it.
//!
//! - [`document`] reads XML: bytes to text, tokens, and the tree of a schema document.
//! - [`components`] builds the components of a schema from its documents; [`mod@derive`] gives them what they have from others;
//!   [`constraints`] checks them against each other. A [`problem`] has a place and the name of a constraint.
//! - [`wsdl`] reads the operations of a WSDL 1.1, whose schemas are a schema like any other.
//! - [`datatypes`] and [`pattern`] are the simple types; [`content`] walks content models.
//! - [`compile`] does all that, within so many steps and so much [`room`], and makes a [`schema`]; [`instance`] judges a text by
//!   it, with the push machine [`validate`].
//! - [`sample`] makes an instance of a schema.
//!
//! Nothing recurses on the depth of what it reads, nothing is fetched, and everything is within a budget.

pub(crate) mod chars;
pub(crate) mod compile;
pub(crate) mod components;
pub(crate) mod constraints;
pub(crate) mod content;
pub(crate) mod datatypes;
pub(crate) mod derive;
pub(crate) mod document;
pub(crate) mod instance;
pub(crate) mod names;
pub(crate) mod pattern;
pub(crate) mod pointer;
pub(crate) mod problem;
pub(crate) mod room;
pub(crate) mod sample;
pub(crate) mod schema;
pub(crate) mod validate;
pub(crate) mod violation;
pub(crate) mod wsdl;

#[cfg(test)]
mod tests;
