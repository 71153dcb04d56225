//! A policy as written: the document, with the place of everything in it. For commands that judge what a policy says, and name
//! the line to change.

use super::document::Document;
use super::tree::{At, Kind, Tree};

/// A policy as written, without errors.
#[derive(Debug)]
pub(crate) struct WrittenPolicy {
    /// What it says.
    pub(crate) document: Document,
    pub(super) tree: Tree,
}

impl WrittenPolicy {
    /// Returns a cursor at the root.
    pub(crate) fn at(&self) -> At<'_> {
        self.tree.at()
    }
}

impl<'a> At<'a> {
    /// Calls `visit` with every scalar in this value and its path from here; the step to an element of a list is `*`.
    pub(crate) fn each_scalar(self, visit: &mut impl FnMut(&[&'a str], At<'a>)) {
        self.walk(&mut Vec::new(), visit);
    }

    fn walk(self, path: &mut Vec<&'a str>, visit: &mut impl FnMut(&[&'a str], At<'a>)) {
        let Some((tree, id)) = self.node() else { return };
        match tree.kind(id) {
            Kind::Scalar(_) => visit(path, self),
            Kind::Sequence(items) => {
                path.push("*");
                for item in items.iter().filter(|item| !tree.is_void(**item)) {
                    self.to(*item, None).walk(path, visit);
                }
                path.pop();
            }
            Kind::Mapping(entries) => {
                for (key, value) in entries.iter().filter(|(_, value)| !tree.is_void(*value)) {
                    path.push(tree.key_text(*key));
                    self.to(*value, Some(*key)).walk(path, visit);
                    path.pop();
                }
            }
        }
    }
}
