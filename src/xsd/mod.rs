//! XML Schema 1.0.
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
pub(crate) mod problem;
pub(crate) mod schema;
pub(crate) mod validate;
pub(crate) mod violation;
