//! What is wrong with a schema.

use std::sync::Arc;

/// Most problems that are reported.
const MAX_PROBLEMS: usize = 100;

/// A place in a schema document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// The number of the document.
    pub(crate) document: u32,
    /// From 1.
    pub(crate) line: u32,
    /// In characters, from 1.
    pub(crate) column: u32,
}

/// A problem, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The document, as the resolver names it.
    pub(crate) file: Arc<str>,
    /// From 1; 0 if the whole document is meant.
    pub(crate) line: u32,
    /// In characters, from 1.
    pub(crate) column: u32,
    /// The name of the constraint in the specification.
    pub(crate) constraint: &'static str,
    /// What is wrong, in plain words.
    pub(crate) message: String,
}

/// Most bytes of a message: names and values in it are as long as the schema likes.
const MAX_MESSAGE: usize = 1000;

/// A message of at most [`MAX_MESSAGE`] bytes, and a sign that it was longer.
pub(crate) fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.shrink_to_fit();
        message.push('…');
    }
    message
}

/// The problems that were found, in the order of the work.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<(Place, &'static str, String)>,
}

impl Problems {
    /// Adds a problem.
    pub(crate) fn add(&mut self, place: Place, constraint: &'static str, message: impl Into<String>) {
        if !self.is_full() {
            self.list.push((place, constraint, shortened(message.into())));
        }
    }

    /// Whether no more are kept.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_PROBLEMS
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the problems with the names of their documents.
    pub(crate) fn finish(self, files: &[Arc<str>]) -> Vec<Problem> {
        let unknown: Arc<str> = "".into();
        let problem = |(place, constraint, message): (Place, _, _)| Problem {
            file: Arc::clone(files.get(place.document as usize).unwrap_or(&unknown)),
            line: place.line,
            column: place.column,
            constraint,
            message,
        };
        self.list.into_iter().map(problem).collect()
    }
}
