//! Exit codes of all commands.

/// Success.
pub(super) const DONE: u8 = 0;
/// A failure at run time.
pub(super) const FAILED: u8 = 1;
/// Wrong usage, or an invalid policy.
pub(super) const INVALID: u8 = 2;
