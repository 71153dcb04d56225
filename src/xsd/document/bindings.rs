//! What prefixes mean in a tree, wherever it is asked.

use crate::xsd::names::{Sym, TextMap};

/// From an element on, in the order of the document, a prefix means this; `None`: nothing.
#[derive(Debug, Clone, Copy)]
struct Change {
    from: u32,
    uri: Option<Sym>,
}

/// What a prefix meant around an element that declares it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    prefix: usize,
    uri: Option<Sym>,
}

/// The declarations of a tree, by prefix: some documents have thousands in scope.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    prefixes: TextMap<Box<str>, usize>,
    /// Of each prefix, in the order of the document.
    changes: Vec<Vec<Change>>,
}

/// Bytes that a declaration takes beside its prefix: its change, and the one that ends it.
pub(super) const SIZE: usize = 160;

impl Bindings {
    /// Adds the declaration of a prefix by an element, after all that come before it in the document.
    pub(super) fn declare(&mut self, prefix: &str, element: u32, uri: Sym) -> Outer {
        let number = self.prefixes.get(prefix).copied().unwrap_or_else(|| {
            self.prefixes.insert(prefix.into(), self.changes.len());
            self.changes.push(Vec::new());
            self.changes.len().saturating_sub(1)
        });
        let outer = self.changes.get(number).and_then(|changes| changes.last()).and_then(|change| change.uri);
        self.change(number, Change { from: element, uri: Some(uri) });
        Outer { prefix: number, uri: outer }
    }

    /// Ends a declaration before this element.
    pub(super) fn end(&mut self, Outer { prefix, uri }: Outer, element: u32) {
        self.change(prefix, Change { from: element, uri });
    }

    fn change(&mut self, prefix: usize, change: Change) {
        let Some(changes) = self.changes.get_mut(prefix) else { return };
        match changes.last_mut() {
            Some(last) if last.from == change.from => *last = change,
            _ => changes.push(change),
        }
    }

    /// What a prefix is bound to at an element. The empty one always is, if only to no namespace.
    pub(super) fn find(&self, prefix: &str, element: u32) -> Option<Sym> {
        let changes = self.prefixes.get(prefix).and_then(|number| self.changes.get(*number));
        let bound = changes.and_then(|changes| {
            let next = changes.partition_point(|change| change.from <= element);
            changes.get(next.checked_sub(1)?)?.uri
        });
        bound.or(match prefix {
            "" => Some(Sym::NONE),
            "xml" => Some(Sym::XML),
            _ => None,
        })
    }
}
