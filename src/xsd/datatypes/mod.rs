//! Simple types of XSD 1.0 (Part 2): lexical forms, exact values, facets.

pub(crate) mod binary;
pub(crate) mod builtin;
pub(crate) mod check;
pub(crate) mod date_time;
pub(crate) mod decimal;
pub(crate) mod duration;
pub(crate) mod facets;
pub(crate) mod float;
pub(crate) mod simple_type;
pub(crate) mod text;
pub(crate) mod value;
pub(crate) mod work;
