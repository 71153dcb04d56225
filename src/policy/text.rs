//! Texts that were read, and places in them.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A text that was read, and its name for messages.
pub(crate) struct SourceText {
    /// The name that messages show.
    pub(crate) name: String,
    /// The whole text.
    pub(crate) text: String,
    /// Position in the order of reading, in which problems are printed.
    order: usize,
    /// Start of each line, so that places are found quickly in a large text; found when they are first needed.
    lines: OnceLock<Vec<usize>>,
}

/// Without the text, in which secrets may be written.
impl fmt::Debug for SourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceText").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SourceText {
    /// Creates a text with its name for messages, and its position in the order of reading.
    pub(crate) fn new(name: String, text: String, order: usize) -> Self {
        Self { name, text, order, lines: OnceLock::new() }
    }

    /// Line and column of a byte. Both count from 1, the column in characters.
    fn line_and_column(&self, at: usize) -> (usize, usize) {
        let starts =
            || std::iter::once(0).chain(self.text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        let lines: &Vec<usize> = self.lines.get_or_init(starts);
        let line = lines.partition_point(|start| *start <= at);
        let start = line.checked_sub(1).and_then(|index| lines.get(index)).copied().unwrap_or(0);
        // A byte-order mark is invisible, so it does not count as a column.
        let before = self.text.get(start..at).unwrap_or("").chars().filter(|c| *c != '\u{feff}');
        (line, before.count() + 1)
    }
}

/// The texts of a policy; they may hold secrets.
#[derive(Clone)]
pub(crate) struct PolicyText {
    /// That of the policy file.
    pub(super) file: Arc<SourceText>,
    /// Those of the files that it includes, in the order of reading.
    pub(super) included: Vec<Arc<SourceText>>,
    /// What the patterns of `include` have found.
    pub(super) listings: Vec<Listing>,
}

/// What a pattern of `include` has found.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(super) pattern: Box<str>,
    /// The paths, each on a line.
    pub(super) names: Box<str>,
}

impl fmt::Debug for PolicyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyText")
    }
}

/// A range of one text. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    source: Arc<SourceText>,
    span: Range<usize>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (line, column) = self.start();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

impl Place {
    /// The bytes `span` of `source`. Offsets outside the text, or within a character, are moved to the nearest valid
    /// offset.
    pub(crate) fn new(source: &Arc<SourceText>, span: Range<usize>) -> Self {
        let start = source.text.floor_char_boundary(span.start);
        let end = source.text.ceil_char_boundary(span.end).max(start);
        Self { source: Arc::clone(source), span: start..end }
    }

    pub(crate) fn source(&self) -> &SourceText {
        &self.source
    }

    /// The range, in bytes, on character boundaries.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Line and column of the start, both from 1, the column in characters.
    pub(crate) fn start(&self) -> (usize, usize) {
        self.source.line_and_column(self.span.start)
    }

    /// Line and column just past the end.
    pub(crate) fn end(&self) -> (usize, usize) {
        self.source.line_and_column(self.span.end)
    }

    /// The key by which problems are sorted and compared.
    pub(crate) fn sort_key(&self) -> (usize, usize, usize) {
        (self.source.order, self.span.start, self.span.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_and_stay_inside_the_text() {
        let text = "a: é\nß: x\r\nend".to_owned();
        let source = Arc::new(SourceText::new("p".to_owned(), text, 0));
        assert_eq!(Place::new(&source, 3..5).start(), (1, 4));
        assert_eq!(Place::new(&source, 3..5).end(), (1, 5));
        assert_eq!(Place::new(&source, 10..11).start(), (2, 4));
        assert_eq!(Place::new(&source, 4..4).span(), 3..5, "inside a character");
        assert_eq!(Place::new(&source, 900..1000).start(), (3, 4));
    }
}
