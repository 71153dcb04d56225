//! `apis.*.cors`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policy::units::{Period, Rate};

/// Which pages of other origins may call an API from a browser (Fetch standard, CORS protocol).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cors {
    /// Origins such as `https://app.example.com`; or `*` alone: any. Required.
    pub(crate) origins: Vec<String>,
    /// Request headers that pages may send, beside those that they always may; such as `authorization`.
    pub(crate) headers: Vec<String>,
    /// Response headers that pages may read, beside those that they always may.
    pub(crate) expose: Vec<String>,
    /// Whether browsers send cookies and client certificates, which no `*` goes with.
    #[schemars(extend("default" = false))]
    pub(crate) credentials: Option<bool>,
    /// How long browsers may remember the answer to a preflight, in whole seconds.
    #[schemars(extend("default" = "10m"))]
    pub(crate) max_age: Option<Period>,
    /// How many preflights each client address may send.
    #[schemars(extend("default" = "100/s"))]
    pub(crate) preflights: Option<Rate>,
}
