//! What a change of the policy means: who may do more or less ([`diff`]).

pub(crate) mod diff;
