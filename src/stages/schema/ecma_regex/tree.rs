//! The parsed form of a pattern.

use super::set::Set;

/// A part of a pattern.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// One character of a set.
    One(Set),
    /// A position in the text.
    At(Position),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Repeat>),
    /// A capturing group, by its number from 1.
    Capture(usize, Box<Node>),
    Look(Box<Look>),
    /// The text that a group captured.
    Backreference {
        group: usize,
        ignore_case: bool,
    },
}

/// A repetition.
#[derive(Debug, Clone)]
pub(super) struct Repeat {
    pub(super) node: Node,
    pub(super) least: u32,
    /// `None`: any number of times.
    pub(super) most: Option<u32>,
    pub(super) greedy: bool,
}

/// A look-ahead or a look-behind.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) node: Node,
    pub(super) behind: bool,
    pub(super) negated: bool,
}

/// A condition on the position in a text (ECMA-262 §22.2.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Start,
    End,
    /// As with the flag `m`.
    LineStart,
    LineEnd,
    WordBoundary,
    NotWordBoundary,
}

impl Position {
    /// Whether it holds between these two characters; `None` is the start or the end of the text.
    pub(super) fn holds(self, before: Option<char>, after: Option<char>) -> bool {
        let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        let line_end = |c: Option<char>| c.is_none_or(|c| matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}'));
        match self {
            Self::Start => before.is_none(),
            Self::End => after.is_none(),
            Self::LineStart => line_end(before),
            Self::LineEnd => line_end(after),
            Self::WordBoundary => word(before) != word(after),
            Self::NotWordBoundary => word(before) == word(after),
        }
    }
}
