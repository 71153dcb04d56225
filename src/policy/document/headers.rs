//! `headers`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

/// Header fields of callers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Headers {
    /// Fields that are dropped, beside those that always are: names, or beginnings of names such as `x-internal-*`.
    pub(crate) drop: Vec<String>,
}

/// Header fields of one API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ApiHeaders {
    /// Fields of requests.
    pub(crate) request: ApiRequestHeaders,
}

/// Fields of requests to an API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ApiRequestHeaders {
    /// Fields that are forwarded although only a proxy may say them, or `headers.drop` has them.
    pub(crate) keep: Vec<String>,
}
