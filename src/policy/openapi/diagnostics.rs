//! What is wrong with a description, or cannot be enforced: collected by place, and turned into problems at the end.
//!
//! It is an error where the whole description would be misread, and a warning where an operation is closed, or less is
//! checked. Finding a place means searching the text, so places are looked up only for the problems that are shown.

use std::collections::HashSet;

use super::files::{Files, Node, Spot};
use crate::policy::diagnostic::{Problems, Severity};

/// Most diagnostics kept of each severity, as in [`Problems`].
const KEPT: usize = 100;

/// The diagnostics so far.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    errors: Items,
    warnings: Items,
    /// What closes the operations that use it.
    closing: Vec<String>,
}

#[derive(Debug, Default)]
struct Items {
    kept: Vec<Item>,
    seen: HashSet<(usize, String, String)>,
    /// How many more there were than are kept.
    dropped: usize,
    spare: Option<Box<Item>>,
}

/// One diagnostic.
#[derive(Debug)]
pub(super) struct Item {
    file: usize,
    pointer: String,
    key: bool,
    message: String,
    help: Option<String>,
}

impl Item {
    /// Says what to do.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Points at the node's key instead of its value.
    pub(super) fn at_key(&mut self) -> &mut Self {
        self.key = true;
        self
    }
}

impl Items {
    fn add(&mut self, node: &Node<'_>, message: String) -> &mut Item {
        self.add_at(&Spot::of(node), message)
    }

    fn add_at(&mut self, spot: &Spot, message: String) -> &mut Item {
        let item = Item { file: spot.file, pointer: spot.pointer.clone(), key: false, message, help: None };
        let known = self.seen.contains(&(item.file, item.pointer.clone(), item.message.clone()));
        if known || self.kept.len() >= KEPT {
            self.dropped += usize::from(!known);
            return self.spare.insert(Box::new(item));
        }
        self.seen.insert((item.file, item.pointer.clone(), item.message.clone()));
        self.kept.push_mut(item)
    }
}

impl Diagnostics {
    /// Reports an error: the description cannot be used.
    pub(super) fn error(&mut self, node: &Node<'_>, message: impl Into<String>) -> &mut Item {
        self.errors.add(node, message.into())
    }

    /// The same, at a position.
    pub(super) fn error_at(&mut self, spot: &Spot, message: impl Into<String>) -> &mut Item {
        self.errors.add_at(spot, message.into())
    }

    /// Reports what cannot be enforced as written. It closes the operations that use it, and nothing else, so that one odd
    /// place does not make a description unusable.
    pub(super) fn closing(&mut self, node: &Node<'_>, message: impl Into<String>) -> &mut Item {
        let message = message.into();
        self.closing.push(message.clone());
        self.warnings.add(node, message).help("correct it, or write the route in the policy: until then it is closed")
    }

    /// How many times something was reported that closes operations, to compare with [`Self::closed_since`].
    pub(super) fn closings(&self) -> usize {
        self.closing.len()
    }

    /// The first reported since then that closes operations.
    pub(super) fn closed_since(&self, earlier: usize) -> Option<&str> {
        self.closing.get(earlier).map(String::as_str)
    }

    /// Reports a warning: less is checked than the description says.
    pub(super) fn warning(&mut self, node: &Node<'_>, message: impl Into<String>) -> &mut Item {
        self.warnings.add(node, message.into())
    }

    /// Reports that an operation is closed.
    pub(super) fn closed(&mut self, operation: &Spot, why: &str) {
        let item = self.warnings.add_at(operation, format!("this operation is closed: {why}"));
        item.at_key().help("write the route in the policy to open it, or leave it out with `openapi: { skip: […] }`");
    }

    /// Whether there are errors, so that the description cannot be used.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.kept.is_empty()
    }

    /// Adds everything to the problems of the policy.
    pub(super) fn report(self, files: &Files, problems: &mut Problems) {
        for (severity, items) in [(Severity::Error, self.errors), (Severity::Warning, self.warnings)] {
            for item in items.kept {
                let place = files.place(item.file, &item.pointer, item.key);
                let problem = match severity {
                    Severity::Error => problems.error(place, item.message),
                    _ => problems.warning(place, item.message),
                };
                problem.help = item.help;
            }
            problems.count(severity, items.dropped);
        }
    }
}
