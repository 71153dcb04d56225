//! State that changes at run time and outlives a reload: how much of their limits callers have used, which policy is in
//! force, and what operators have changed.

pub(crate) mod counters;
pub(crate) mod epoch;
pub(crate) mod ledger;
pub(crate) mod published;
pub(crate) mod redis;
pub(crate) mod registry;
