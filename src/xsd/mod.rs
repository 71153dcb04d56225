//! XML Schema 1.0.
pub(crate) mod chars;
pub(crate) mod datatypes;
pub(crate) mod document;
pub(crate) mod names;
pub(crate) mod pattern;
