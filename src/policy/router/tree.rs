//! The tree of path templates, one level for each segment.
//!
//! A lookup visits each node at most once, so its cost is bounded by the policy, never by the request.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pattern::Segment;
use crate::stages::schema::segment::SegmentPattern;

/// One level of the tree. The more specific kinds of segments are tried first.
#[derive(Default)]
pub(super) struct Node {
    /// Few, so that comparing them is faster than hashing the segment.
    texts: BTreeMap<Box<str>, Node>,
    /// The more specific first.
    mixed: BTreeMap<Arc<SegmentPattern>, Node>,
    name: Option<Box<Node>>,
    rest: Option<usize>,
    end: Option<usize>,
}

impl Node {
    /// The endpoint of a template. Where there is none yet, it becomes `position`.
    pub(super) fn insert(&mut self, segments: &[Segment], position: usize) -> usize {
        let Some((segment, after)) = segments.split_first() else { return *self.end.get_or_insert(position) };
        match segment {
            Segment::Rest => *self.rest.get_or_insert(position),
            Segment::Text(text) => self.texts.entry(text.clone()).or_default().insert(after, position),
            Segment::Name => self.name.get_or_insert_default().insert(after, position),
            Segment::Mixed(pattern) => self.mixed.entry(Arc::clone(pattern)).or_default().insert(after, position),
        }
    }

    /// The endpoint of the most specific template that matches, among those that `answers` accepts. `path` is without its
    /// first slash.
    pub(super) fn find(&self, path: &str, answers: &impl Fn(usize) -> bool) -> Option<usize> {
        let (segment, after) = split(path);
        let below = |node: &Self| match after {
            Some(after) => node.find(after, answers),
            None => node.end.filter(|end| answers(*end)),
        };
        if let Some(found) = self.texts.get(segment).and_then(below) {
            return Some(found);
        }
        if path.is_empty() {
            return None;
        }
        let mixed = self.mixed.iter().filter(|(pattern, _)| pattern.matches(segment));
        let found = mixed.map(|(_, node)| node).find_map(below);
        let name = || self.name.as_deref().filter(|_| !segment.is_empty()).and_then(below);
        found.or_else(name).or_else(|| self.rest.filter(|rest| answers(*rest)))
    }
}

/// The first segment of a path, and what follows its slash.
fn split(path: &str) -> (&str, Option<&str>) {
    // Segments are short, so that looking at each byte is faster than setting up a search.
    let slash = path.bytes().position(|byte| byte == b'/');
    match slash.and_then(|slash| path.split_at_checked(slash)) {
        Some((segment, after)) => (segment, after.get(1..)),
        None => (path, None),
    }
}
