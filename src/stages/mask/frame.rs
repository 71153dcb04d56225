//! Where the reading of a text is, and what becomes of its bytes.

use std::ops::Range;

use super::replacement::Replacement;

/// An object or array that is open.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) is_object: bool,
    /// Of the places, those of the rules that may hide something in it.
    pub(super) places: Range<usize>,
    /// Whether a member or element of it stays.
    pub(super) keeps_any: bool,
    /// The position of the next element.
    pub(super) index: usize,
}

/// A value that is hidden.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hiding {
    /// How many objects and arrays it is in.
    pub(super) depth: usize,
    pub(super) replacement: Replacement,
}

/// What becomes of the bytes that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Copied,
    /// That of the value after them.
    Held,
    Dropped,
    /// They are dropped, but something of them is shown.
    Kept,
}
