//! What in an instance violates its schema.

/// A violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// In bytes, of the `<` of the element.
    pub(crate) offset: usize,
    /// The local name of the attribute that is meant.
    pub(crate) attribute: Option<Box<str>>,
    /// The name of the constraint in the specification.
    pub(crate) constraint: &'static str,
    /// What is wrong, in plain words; values of the document are not in it.
    pub(crate) message: String,
}
