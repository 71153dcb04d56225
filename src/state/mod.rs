//! State that changes at run time and outlives a reload: how much of their limits callers have used (`ledger`, and `counters`
//! for what nodes count together), which policy is in force (`published`), and what operators have changed (`registry`).
//! `signing` has the keys of the token service. `redis` opens connections to a store, `database` its files. `documents` keeps what is made for
//! callers of one policy.

pub(crate) mod counters;
mod database;
pub(crate) mod documents;
pub(crate) mod endpoint;
pub(crate) mod epoch;
pub(crate) mod ledger;
pub(crate) mod published;
pub(crate) mod redis;
pub(crate) mod registry;
pub(crate) mod signing;
