//! Hides fields of JSON responses from callers without a scope (`response.mask`).
//!
//! The text is edited and not written anew: what is not hidden stays byte for byte as the upstream sent it. What cannot be read as
//! JSON is refused and never passes. A path in a mask is meant for every shape that an upstream may give the same data: lists on the
//! way are passed through, `*` is any element or member, and a single value may stand in place of a list of one.

mod frame;
mod kept;
mod next;
mod number;
mod places;
mod replacement;
mod rewrite;
mod rules;
mod utf8;

pub(crate) use self::replacement::Replacement;
pub(crate) use self::rewrite::{Failed, Rewriter, rewrite};
pub(crate) use self::rules::{Hidden, Mask, Rule};
