//! Problems of schemas, and positions in XML text.

/// What is wrong with a schema.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct XmlProblem {
    /// Relative to the policy's folder.
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: Option<u32>,
    /// From 1, in characters.
    pub(crate) column: Option<u32>,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: Option<String>,
}

impl XmlProblem {
    pub(super) fn of(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, column: None, message: message.into(), help: None }
    }

    pub(super) fn at(self, place: Position) -> Self {
        let number = |number: usize| u32::try_from(number).ok().filter(|number| *number > 0);
        Self { line: number(place.line), column: number(place.column), ..self }
    }
}

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}
