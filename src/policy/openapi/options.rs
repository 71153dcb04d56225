//! What the policy says about reading a description.

/// How a description is read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Options {
    /// Whether query parameters that are not described are refused.
    pub(crate) strict: bool,
    /// Operations that are left out, by `operationId` or `METHOD /path`.
    pub(crate) skip: Vec<String>,
    /// What happens to `readOnly` members in requests.
    pub(crate) read_only: Handling,
    /// What happens to `writeOnly` members in responses.
    pub(crate) write_only: Handling,
}

/// What happens to a message that violates one rule of a description.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handling {
    /// It is refused.
    #[default]
    Block,
    /// It is recorded, and passes.
    Report,
    /// It passes.
    Allow,
}

impl Handling {
    /// With their names in the policy.
    pub(crate) const ALL: [(&str, Self); 3] =
        [("block", Self::Block), ("report", Self::Report), ("allow", Self::Allow)];
}
