//! `telemetry`, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::secret::{Secret, secret};
use crate::policy::share::Share;
use crate::policy::units::{Period, Rate};

/// What is sent to a collector besides the record.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// Traces: one span for each sampled request, and one for its call to the upstream. Default: none.
    pub(crate) otlp: Option<OtlpTraces>,
}

/// A collector that speaks OTLP over HTTP, and which requests are sampled.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OtlpTraces {
    /// Base URL of the collector; `/v1/traces` is appended. Required.
    pub(crate) endpoint: Option<String>,
    /// How many of all requests are sampled, by trace id.
    #[schemars(extend("default" = "1%"))]
    pub(crate) traces: Option<Share>,
    /// How many requests are sampled because their caller samples its trace; those of trusted proxies are always sampled.
    #[schemars(extend("default" = "100/s"))]
    pub(crate) sampled_parents: Option<Rate>,
    /// Header fields of requests to the collector, such as `authorization`. Default: none.
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) headers: BTreeMap<String, Secret>,
    /// PEM file of the authorities that issue the collector's certificate. Default: the system's.
    pub(crate) ca: Option<String>,
    /// PEM file of the certificate to present. Default: none.
    pub(crate) certificate: Option<String>,
    /// PEM file of its private key, or a reference to the PEM itself.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) key: Option<SecretString>,
    /// How long one request may take. Default: `egress.timeout`.
    pub(crate) timeout: Option<Period>,
    /// Whether requests are compressed.
    #[schemars(extend("default" = true))]
    pub(crate) gzip: Option<bool>,
}
