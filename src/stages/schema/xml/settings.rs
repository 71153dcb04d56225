//! Settings of an XML body.

/// Limits of a body, and whether it is a SOAP message.
#[derive(Debug, Clone)]
pub(crate) struct XmlSettings {
    /// If present, the body is a SOAP message, and the schema validates the element in its Body.
    pub(crate) soap: Option<Soap>,
    /// Most levels of nested elements.
    pub(crate) max_depth: usize,
    /// Most attributes of one element, including namespace declarations.
    pub(crate) max_attributes: usize,
    /// Most elements of a body.
    pub(crate) max_elements: usize,
    /// Most bytes of a qualified name.
    pub(crate) max_name: usize,
    /// Most bytes of an attribute's value, as written.
    pub(crate) max_attribute: usize,
    /// Most namespaces in scope at once.
    pub(crate) max_namespaces: usize,
    /// Most references in a body.
    pub(crate) max_references: usize,
}

impl Default for XmlSettings {
    fn default() -> Self {
        Self {
            soap: None,
            max_depth: 64,
            max_attributes: 128,
            max_elements: 100_000,
            max_name: 1 << 10,
            max_attribute: 64 << 10,
            max_namespaces: 64,
            max_references: 100_000,
        }
    }
}

/// The body is a SOAP message, 1.1 or 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Soap {
    /// Whether it may be a Fault, which the schema does not validate: true for responses.
    pub(crate) fault: bool,
}
