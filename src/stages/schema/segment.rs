//! Names in a path, and the text beside them in one segment: `{name}.csv`, `{id}:cancel`, `{a}-{b}`.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

/// A segment with text beside its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SegmentPattern {
    /// The text before the first name, between the names, and after the last; the outer ones may be empty.
    texts: Box<[Box<str>]>,
}

/// Which of several ways to split a segment. `1-2-3` has two for `{a}-{b}`, and upstreams differ in the one they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// The first names are as short as possible.
    Shortest,
    /// The first names are as long as possible.
    Longest,
}

/// The place of a name in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathPlace {
    /// Position of the segment, from 0.
    pub(crate) segment: usize,
    pub(crate) extent: Extent,
}

/// The part of the path that a name matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The whole segment.
    Whole,
    /// The segment and all after it.
    Rest,
    /// A part of the segment: the name at this position of the pattern.
    Part(Arc<SegmentPattern>, usize),
}

impl SegmentPattern {
    /// A pattern with these texts around its names; there is one text more than names.
    pub(crate) fn new(texts: Vec<Box<str>>) -> Self {
        Self { texts: texts.into() }
    }

    fn order(&self) -> impl Ord + use<'_> {
        let text: usize = self.texts.iter().map(|text| text.len()).sum();
        let first = self.texts.first().map_or(0, |text| text.len());
        (Reverse(text), self.texts.len(), Reverse(first), &self.texts)
    }

    pub(crate) fn matches(&self, segment: &str) -> bool {
        let Some((middle, mut rest)) = self.inner(segment) else { return false };
        for text in middle {
            let Some(at) = rest.find(&**text) else { return false };
            rest = rest.get(at + text.len()..).unwrap_or_default();
        }
        true
    }

    /// The texts between names, and the segment without the texts at both ends.
    fn inner<'s>(&self, segment: &'s str) -> Option<(&[Box<str>], &'s str)> {
        let [first, middle @ .., last] = &*self.texts else { return None };
        Some((middle, segment.strip_prefix(&**first)?.strip_suffix(&**last)?))
    }

    /// The value of the name at a position, if the segment matches.
    fn value<'s>(&self, segment: &'s str, position: usize, split: Split) -> Option<&'s str> {
        let (middle, mut rest) = self.inner(segment)?;
        match split {
            Split::Shortest => {
                for (before, text) in middle.iter().enumerate() {
                    let (value, after) = rest.split_once(&**text)?;
                    if before == position {
                        return Some(value);
                    }
                    rest = after;
                }
                Some(rest)
            }
            Split::Longest => {
                for (before, text) in middle.iter().enumerate().rev() {
                    let (before_text, value) = rest.rsplit_once(&**text)?;
                    if before + 1 == position {
                        return Some(value);
                    }
                    rest = before_text;
                }
                Some(rest)
            }
        }
    }
}

/// The more specific comes first: the one with more text, then with fewer names, then with more text before the first.
impl Ord for SegmentPattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for SegmentPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PathPlace {
    /// Whether its value depends on how the segment is split.
    pub(crate) fn is_part(&self) -> bool {
        matches!(self.extent, Extent::Part(..))
    }

    /// The value at this place of a path.
    pub(crate) fn value<'p>(&self, path: &'p str, split: Split) -> &'p str {
        let from = path.split('/').take(self.segment + 1).map(|segment| segment.len() + 1).sum::<usize>();
        let rest = path.get(from..).unwrap_or_default();
        let segment = rest.split('/').next().unwrap_or_default();
        match &self.extent {
            Extent::Rest => rest,
            Extent::Whole => segment,
            Extent::Part(pattern, position) => pattern.value(segment, *position, split).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(texts: &[&str]) -> SegmentPattern {
        SegmentPattern::new(texts.iter().map(|text| Box::from(*text)).collect())
    }

    #[test]
    fn text_beside_names_is_matched_and_values_are_what_is_left() {
        for (texts, segment, shortest, longest) in [
            (&["", ".csv"] as &[&str], "a.csv", Some(vec!["a"]), vec!["a"]),
            (&["", ".csv"], "a.csv.csv", Some(vec!["a.csv"]), vec!["a.csv"]),
            (&["", ".csv"], ".csv", Some(vec![""]), vec![""]),
            (&["", ".csv"], "a.CSV", None, vec![]),
            (&["v", ""], "v1", Some(vec!["1"]), vec!["1"]),
            (&["ab", "bc"], "abc", None, vec![]),
            (&["", "-", ""], "a-b", Some(vec!["a", "b"]), vec!["a", "b"]),
            (&["", "-", ""], "a-b-c", Some(vec!["a", "b-c"]), vec!["a-b", "c"]),
            (&["", "...", ""], "a....b", Some(vec!["a", ".b"]), vec!["a.", "b"]),
            (&["<", ",", ":", ">"], "<a,b:c>", Some(vec!["a", "b", "c"]), vec!["a", "b", "c"]),
            (&["", ",", ":", ""], "a:b,c", None, vec![]),
        ] {
            let pattern = pattern(texts);
            assert_eq!(pattern.matches(segment), shortest.is_some(), "{texts:?} {segment}");
            let Some(expected) = shortest else { continue };
            for (split, expected) in [(Split::Shortest, expected), (Split::Longest, longest)] {
                let values: Vec<_> = (0..expected.len()).map(|at| pattern.value(segment, at, split).unwrap()).collect();
                assert_eq!(values, expected, "{texts:?} {segment} {split:?}");
            }
        }
    }

    #[test]
    fn more_text_is_more_specific() {
        let ordered = [
            pattern(&["", ".v2.json"]),
            pattern(&["abc", ""]),
            pattern(&["", "abc"]),
            pattern(&["a", ""]),
            pattern(&["", "a"]),
            pattern(&["", "-", ""]),
        ];
        assert!(ordered.is_sorted());
    }
}
