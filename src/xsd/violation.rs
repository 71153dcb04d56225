//! What in an instance violates its schema.

/// A step of the way to an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) local: Box<str>,
    /// Among the siblings with the same local name, from 1.
    pub(crate) position: u32,
    /// Whether there are several of them.
    pub(crate) several: bool,
    /// The number of the element around it.
    pub(crate) parent: u64,
}

/// A violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// In bytes, of the `<` of the element.
    pub(crate) offset: usize,
    pub(crate) path: Vec<Segment>,
    /// The local name of the attribute that is meant.
    pub(crate) attribute: Option<Box<str>>,
    /// The name of the constraint in the specification.
    pub(crate) constraint: &'static str,
    /// What is wrong, in plain words; values of the document are not in it.
    pub(crate) message: String,
}

impl Violation {
    /// The place as an XPath: `/order/line[2]/@id`.
    pub(crate) fn pointer(&self) -> String {
        let mut pointer = String::new();
        for segment in &self.path {
            pointer.extend(["/", &segment.local]);
            if segment.several {
                pointer.push_str(&format!("[{}]", segment.position));
            }
        }
        if let Some(attribute) = &self.attribute {
            pointer.extend(["/@", attribute]);
        }
        pointer
    }
}
