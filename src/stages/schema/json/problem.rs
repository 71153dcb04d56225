//! Problems of schemas.

use std::sync::Arc;

/// A problem in a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SchemaProblem {
    /// The file that has it; empty for a schema that is in none.
    pub(crate) file: Arc<str>,
    /// JSON pointer to the location in the file.
    pub(crate) pointer: String,
    pub(crate) message: String,
    /// What to do, if that is known.
    pub(crate) help: Option<String>,
}

impl SchemaProblem {
    pub(super) fn at(pointer: &str, message: String) -> Self {
        Self { file: "".into(), pointer: pointer.to_owned(), message, help: None }
    }

    pub(super) fn helped(self, help: String) -> Self {
        Self { help: Some(help), ..self }
    }

    /// The same for a schema that is at a pointer.
    pub(super) fn below(self, pointer: &str) -> Self {
        Self { pointer: format!("{pointer}{}", self.pointer), ..self }
    }

    pub(super) fn in_file(self, file: Arc<str>) -> Self {
        Self { file, ..self }
    }
}
