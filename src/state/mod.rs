//! What changes while running and outlives a reload: how much of their limits callers have used, and which policy is in
//! force.

pub(crate) mod ledger;
pub(crate) mod published;
