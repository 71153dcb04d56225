//! What is warned of.

use crate::policy::source::Place;

/// What is warned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lint {
    UngrantedScope,
    TwoNames,
    UnusedRole,
    UnusedPlan,
    UnusedClass,
    UnusedSchema,
    NoCredential,
}

impl Lint {
    /// All, with their names in `allow`.
    pub(super) const ALL: [(&str, Self); 7] = [
        ("ungranted_scope", Self::UngrantedScope),
        ("two_names", Self::TwoNames),
        ("unused_role", Self::UnusedRole),
        ("unused_plan", Self::UnusedPlan),
        ("unused_class", Self::UnusedClass),
        ("unused_schema", Self::UnusedSchema),
        ("no_credential", Self::NoCredential),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, lint)| *lint == self).map_or("", |(name, _)| name)
    }
}

/// A warning: what it is about, where, and what it says.
pub(super) struct Finding {
    pub(super) lint: Lint,
    /// The name that it is about, for `allow`.
    pub(super) about: String,
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) help: String,
}
