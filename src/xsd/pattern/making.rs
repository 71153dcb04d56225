//! What making patterns may take.

use crate::budget::Steps;
use crate::xsd::room::Room;

/// Steps that all patterns of a schema may take to be made into tables; those that come later have none.
const TABLES: u64 = 40_000_000;

/// What making the patterns of a schema may take.
#[derive(Debug)]
pub(crate) struct Making<'a> {
    pub(crate) steps: &'a mut Steps,
    /// Those that are only for tables, which a pattern can do without.
    pub(crate) tables: &'a mut Steps,
    pub(crate) room: &'a mut Room,
}

/// The steps that all patterns of a schema may take to be made into tables.
pub(crate) fn tables() -> Steps {
    Steps::new(TABLES)
}
