//! Problems of schemas.

use jsonschema::ValidationError;

/// A problem in a schema.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SchemaProblem {
    /// JSON pointer to the location in the schema.
    pub(crate) pointer: String,
    pub(crate) message: String,
}

impl SchemaProblem {
    pub(super) fn of(error: &ValidationError<'_>) -> Self {
        Self { pointer: error.instance_path().to_string(), message: error.to_string() }
    }

    pub(super) fn at(pointer: &str, message: String) -> Self {
        Self { pointer: pointer.to_owned(), message }
    }

    /// A schema that applies itself to the value that it judges.
    pub(super) fn circle(pointer: &str) -> Self {
        let message =
            "this schema leads back to itself for the same value, so it can never be judged; remove the reference";
        Self::at(pointer, message.to_owned())
    }

    /// The same problem, of a schema that is found at `place`.
    pub(super) fn below(self, place: &str) -> Self {
        Self { pointer: format!("{place}{}", self.pointer), ..self }
    }
}
