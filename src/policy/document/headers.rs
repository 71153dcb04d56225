//! `headers`, as written.

use std::collections::BTreeMap;

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
    /// Fields of responses.
    pub(crate) response: ApiResponseHeaders,
}

/// Fields of requests to an API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ApiRequestHeaders {
    /// Fields that are forwarded although only a proxy may say them, or `headers.drop` has them.
    pub(crate) keep: Vec<String>,
    /// Fields that the upstream gets, in place of the caller's: a name and its value.
    pub(crate) set: BTreeMap<String, String>,
    /// Fields of the caller that the upstream does not get.
    pub(crate) remove: Vec<String>,
}

/// Fields of responses of an API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ApiResponseHeaders {
    /// Fields of all responses, in place of the upstream's: a name and its value. Refusals have them as well.
    pub(crate) set: BTreeMap<String, String>,
    /// Fields of the upstream that the client does not get.
    pub(crate) remove: Vec<String>,
}
