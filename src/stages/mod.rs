//! The decisions. Each stage is a compiled type, built once from the policy, and one function that decides.

pub(crate) mod auth;
pub(crate) mod decimal;
pub(crate) mod mask;
pub(crate) mod rate_limit;
pub(crate) mod replaced_secrets;
pub(crate) mod schema;
pub(crate) mod scope;
pub(crate) mod scope_probes;
pub(crate) mod strict_json;
