//! The way to the open element, for messages: names, and positions among siblings of the same name.

use crate::xsd::violation::{Segment, Violation};

/// An open element.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// Where its name ends in [`Trail::names`].
    end: usize,
    position: u32,
    /// Of the document's elements, from 1.
    number: u64,
    /// Where the counts of its children begin.
    counts: usize,
}

/// How often a name was among the children of an element.
#[derive(Debug, Clone)]
struct Count {
    name: Box<str>,
    count: u32,
}

/// Most names of children that are counted for each element; others have no position.
const MAX_COUNTS: usize = 64;

/// The way to the open element.
#[derive(Debug, Default)]
pub(super) struct Trail {
    names: String,
    levels: Vec<Level>,
    counts: Vec<Count>,
    /// How many of the counts are in use; the others keep their memory.
    used: usize,
    elements: u64,
    /// Which of the counts of the element around was the last to grow.
    last: Option<usize>,
}

impl Trail {
    /// Goes into an element. Returns whether it is the second of its name.
    pub(super) fn enter(&mut self, local: &str) -> bool {
        let start = self.levels.last().map_or(0, |level| level.counts);
        let position = self.count(start, local);
        self.elements = self.elements.saturating_add(1);
        self.names.push_str(local);
        let (end, number, counts) = (self.names.len(), self.elements, self.used);
        self.levels.push(Level { end, position, number, counts });
        position == 2
    }

    fn count(&mut self, start: usize, local: &str) -> u32 {
        let counts = self.counts.get_mut(start..self.used).unwrap_or_default();
        if let Some((index, found)) = counts.iter_mut().enumerate().rev().find(|(_, count)| &*count.name == local) {
            found.count = found.count.saturating_add(1);
            self.last = Some(index);
            return found.count;
        }
        self.last = None;
        if counts.len() >= MAX_COUNTS {
            return 1;
        }
        self.last = Some(counts.len());
        match self.counts.get_mut(self.used) {
            Some(free) => {
                if &*free.name != local {
                    free.name = local.into();
                }
                free.count = 1;
            }
            None => self.counts.push(Count { name: local.into(), count: 1 }),
        }
        self.used = self.used.saturating_add(1);
        1
    }

    /// Leaves the open element.
    pub(super) fn leave(&mut self) {
        if let Some(level) = self.levels.pop() {
            self.used = level.counts;
            let end = self.levels.last().map_or(0, |level| level.end);
            self.names.truncate(end);
        }
    }

    /// Leaves an element that is entered again: it is not counted twice.
    pub(super) fn leave_uncounted(&mut self) {
        self.leave();
        let start = self.levels.last().map_or(0, |level| level.counts);
        // The element that was left is the last one that was counted.
        if let Some((name, counts)) = self.last.take().zip(self.counts.get_mut(start..self.used))
            && let Some(found) = counts.get_mut(name)
        {
            found.count = found.count.saturating_sub(1);
        }
    }

    /// The way to the open element.
    pub(super) fn path(&self) -> Vec<Segment> {
        let mut start = 0;
        let mut parent = 0;
        let segment = |level: &Level| {
            let local = self.names.get(start..level.end).unwrap_or_default().into();
            let segment = Segment { local, position: level.position, several: level.position > 1, parent };
            (start, parent) = (level.end, level.number);
            segment
        };
        self.levels.iter().map(segment).collect()
    }

    /// Marks the way to former violations, now that the open element is the second of its name.
    pub(super) fn mark_second(&self, violations: &mut [Violation]) {
        let Some((last, before)) = self.levels.split_last() else { return };
        let parent = before.last().map_or(0, |level| level.number);
        let start = before.last().map_or(0, |level| level.end);
        let local = self.names.get(start..last.end).unwrap_or_default();
        for segment in violations.iter_mut().flat_map(|violation| &mut violation.path) {
            if segment.parent == parent && &*segment.local == local {
                segment.several = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_among_siblings_of_one_name() {
        let mut trail = Trail::default();
        trail.enter("a");
        assert!(!trail.enter("b"));
        trail.enter("c");
        trail.leave();
        trail.leave();
        assert!(!trail.enter("d"));
        trail.leave();
        assert!(trail.enter("b"));
        let path: Vec<_> = trail.path().iter().map(|segment| (segment.local.to_string(), segment.position)).collect();
        assert_eq!(path, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    }
}
