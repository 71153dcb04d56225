//! The stages of a route that only report.

use crate::refusal::Stage;

/// The stages that only report: their refusals are recorded, and the request continues.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reporting(u8);

impl Reporting {
    /// Adds a stage.
    pub(crate) fn with(self, stage: Stage) -> Self {
        Self(self.0 | 1 << stage as u8)
    }

    /// Removes a stage.
    pub(crate) fn without(self, stage: Stage) -> Self {
        Self(self.0 & !(1 << stage as u8))
    }

    /// Whether this stage only reports.
    pub(crate) fn contains(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }

    /// Whether any stage only reports.
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }
}
