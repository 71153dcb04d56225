//! Where violations are, as XPaths: `/order/line[2]/@id`.
//!
//! They are found by reading the document once more, so that one that is valid costs nothing for them.

use std::collections::HashMap;

use super::document::namespaces::split;
use super::document::tokens::{Accepts, Token, Tokens};
use super::violation::Violation;

/// Most names of children that are counted for each element; others have no position.
const MAX_COUNTS: usize = 64;

/// The pointers of violations, which are in the order of their offsets, in a document that is well-formed.
pub(crate) fn pointers(text: &str, violations: &[Violation]) -> Vec<String> {
    let mut tokens = Tokens::new(text, Accepts::ANY);
    let (mut trail, mut ways) = (Trail::default(), Vec::with_capacity(violations.len()));
    // Where the children of an element are on ways.
    let mut children: HashMap<u64, Vec<(usize, usize)>> = HashMap::new();
    loop {
        let offset = tokens.offset();
        match tokens.next() {
            Ok(Token::Start { name, empty }) => {
                let local = split(name).map_or(name, |(_, local)| local);
                if trail.enter(local)
                    && let Some(places) = children.get(&trail.parent())
                {
                    mark_second(local, places, &mut ways);
                }
                while violations.get(ways.len()).is_some_and(|violation| violation.offset <= offset) {
                    let way = trail.way();
                    for (position, segment) in way.iter().enumerate() {
                        children.entry(segment.parent).or_default().push((ways.len(), position));
                    }
                    ways.push(way);
                }
                if empty {
                    trail.leave();
                }
            }
            Ok(Token::End(_)) => trail.leave(),
            Ok(Token::End_ | Token::Incomplete) | Err(_) => break,
            Ok(_) => {}
        }
    }
    ways.resize(violations.len(), Vec::new());
    ways.iter().zip(violations).map(|(way, violation)| show(way, violation.attribute.as_deref())).collect()
}

/// A step of the way to an element.
#[derive(Debug, Clone)]
struct Segment {
    local: Box<str>,
    /// Among the siblings with the same local name, from 1.
    position: u32,
    /// Whether there are several of them.
    several: bool,
    /// The number of the element around it.
    parent: u64,
}

fn show(way: &[Segment], attribute: Option<&str>) -> String {
    let mut pointer = String::new();
    for segment in way {
        pointer.extend(["/", &segment.local]);
        if segment.several {
            pointer.push_str(&format!("[{}]", segment.position));
        }
    }
    if let Some(attribute) = attribute {
        pointer.extend(["/@", attribute]);
    }
    pointer
}

/// An open element.
#[derive(Debug)]
struct Level<'a> {
    local: &'a str,
    position: u32,
    /// Of the document's elements, from 1.
    number: u64,
    /// Where the counts of its children begin.
    counts: usize,
}

/// The way to the open element: names, and positions among siblings of the same name.
#[derive(Debug, Default)]
struct Trail<'a> {
    levels: Vec<Level<'a>>,
    /// How often a name was among the children of an open element.
    counts: Vec<(&'a str, u32)>,
    elements: u64,
}

impl<'a> Trail<'a> {
    /// Goes into an element. Returns whether it is the second of its name.
    fn enter(&mut self, local: &'a str) -> bool {
        let start = self.levels.last().map_or(0, |level| level.counts);
        let position = self.count(start, local);
        self.elements = self.elements.saturating_add(1);
        self.levels.push(Level { local, position, number: self.elements, counts: self.counts.len() });
        position == 2
    }

    fn count(&mut self, start: usize, local: &'a str) -> u32 {
        let counts = self.counts.get_mut(start..).unwrap_or_default();
        if let Some((_, count)) = counts.iter_mut().rev().find(|(name, _)| *name == local) {
            *count = count.saturating_add(1);
            return *count;
        }
        if counts.len() < MAX_COUNTS {
            self.counts.push((local, 1));
        }
        1
    }

    /// Leaves the open element.
    fn leave(&mut self) {
        if let Some(level) = self.levels.pop() {
            self.counts.truncate(level.counts);
        }
    }

    /// The way to the open element.
    fn way(&self) -> Vec<Segment> {
        let mut parent = 0;
        let segment = |level: &Level<'_>| {
            let (local, position) = (level.local.into(), level.position);
            let segment = Segment { local, position, several: position > 1, parent };
            parent = level.number;
            segment
        };
        self.levels.iter().map(segment).collect()
    }

    /// The number of the element around the open one; 0 for none.
    fn parent(&self) -> u64 {
        self.levels.iter().rev().nth(1).map_or(0, |level| level.number)
    }
}

/// Marks what is on former ways, at these places, now that there is a second element of its name.
fn mark_second(local: &str, places: &[(usize, usize)], ways: &mut [Vec<Segment>]) {
    for (way, position) in places {
        let segment = ways.get_mut(*way).and_then(|way| way.get_mut(*position));
        if let Some(segment) = segment.filter(|segment| &*segment.local == local) {
            segment.several = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_among_siblings_of_one_name() {
        let text = "<a><b><c/></b><d/><p:b xmlns:p='urn:p'><c/></p:b></a>";
        let at = |element: &str, attribute: Option<&str>| Violation {
            offset: text.find(element).unwrap(),
            attribute: attribute.map(Into::into),
            constraint: "",
            message: String::new(),
        };
        let violations =
            [at("<b>", None), at("<c/>", Some("x")), at("<d/>", None), at("<p:b", None), at("<p:b", Some("y"))];
        assert_eq!(pointers(text, &violations), ["/a/b[1]", "/a/b[1]/c/@x", "/a/d", "/a/b[2]", "/a/b[2]/@y"]);
    }
}
