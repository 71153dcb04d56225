//! OpenAPI descriptions, as a policy refers to them.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::policy::units::Size;

/// `openapi: FILE`, or `openapi: { document: FILE, … }`.
#[derive(Debug, Default)]
pub(crate) struct OpenApi {
    /// The description.
    pub(crate) document: Option<String>,
    /// What happens to responses that violate it: `block`, `report` or `off`.
    pub(crate) responses: Option<String>,
    /// What happens to successful responses whose status it does not describe: `block`, `report` or `allow`.
    pub(crate) undescribed: Option<String>,
    /// What happens to `readOnly` members in requests: `block`, `report` or `allow`.
    pub(crate) read_only: Option<String>,
    /// What happens to `writeOnly` members in responses: `block`, `report` or `allow`.
    pub(crate) write_only: Option<String>,
    /// Maximum size of a validated response.
    pub(crate) max_size: Option<Size>,
    /// Whether query parameters that are not described are refused.
    pub(crate) strict: Option<bool>,
    /// Operations that are left out, by `operationId` or `METHOD /path`.
    pub(crate) skip: Vec<String>,
    /// Scopes for operations whose description requires no credential.
    pub(crate) scopes: Option<Vec<String>>,
    /// Written in the short form: the place of the document is that of the value itself.
    pub(crate) short: bool,
}

/// An OpenAPI description, and how it is enforced.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "OpenApi")]
#[schemars(inline)]
pub(super) struct OpenApiMap {
    /// File of the OpenAPI description. Required.
    document: Option<String>,
    /// What happens to responses that violate the description.
    #[schemars(extend("enum" = ["block", "report", "off"], "default" = "block"))]
    responses: Option<String>,
    /// What happens to responses below 400 with a body, whose status the description does not have. Default: as `responses`.
    #[schemars(extend("enum" = ["block", "report", "allow"]))]
    undescribed: Option<String>,
    /// What happens to requests with members that the description calls `readOnly`.
    #[schemars(extend("enum" = ["block", "report", "allow"], "default" = "block"))]
    read_only: Option<String>,
    /// What happens to responses with members that the description calls `writeOnly`.
    #[schemars(extend("enum" = ["block", "report", "allow"], "default" = "block"))]
    write_only: Option<String>,
    /// Maximum size of a validated response. Default: 1MiB; `response.max_size` of a route takes precedence.
    max_size: Option<Size>,
    /// Whether query parameters that are not described are refused.
    #[schemars(extend("default" = false))]
    strict: Option<bool>,
    /// Operations that are left out, by `operationId` or `METHOD /path`; their requests are refused.
    skip: Vec<String>,
    /// Scopes for operations whose description requires no credential.
    scopes: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for OpenApi {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = OpenApi;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an OpenAPI file such as `orders.openapi.yaml`, or a map with `document`")
            }
            fn visit_str<E: serde::de::Error>(self, file: &str) -> Result<OpenApi, E> {
                Ok(OpenApi { document: Some(file.to_owned()), short: true, ..OpenApi::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OpenApi, A::Error> {
                let map = OpenApiMap::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let OpenApiMap {
                    document,
                    responses,
                    undescribed,
                    read_only,
                    write_only,
                    max_size,
                    strict,
                    skip,
                    scopes,
                } = map;
                Ok(OpenApi {
                    document,
                    responses,
                    undescribed,
                    read_only,
                    write_only,
                    max_size,
                    strict,
                    skip,
                    scopes,
                    short: false,
                })
            }
        }
        deserializer.deserialize_any(Either)
    }
}
