//! `self_service`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policy::units::Rate;

/// What callers may see and do for themselves, below a path on every host: who they are and what is left of their limits, their own
/// keys and client secrets, what they may call, and claiming invitations. Needs a `store`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SelfService {
    /// The path that everything is below, such as `/.bartizan`. Required.
    pub(crate) path: Option<String>,
    /// Rate of requests at each endpoint, of each caller, or of each client address where nobody is authenticated; more are refused
    /// with 429. The limits of the caller's plan count them, too.
    #[schemars(extend("default" = "60/min"))]
    pub(crate) rate: Option<Rate>,
}
