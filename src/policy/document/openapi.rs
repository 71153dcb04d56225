//! OpenAPI descriptions, as a policy refers to them.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// `openapi: FILE`, or `openapi: { document: FILE, … }`.
#[derive(Debug, Default)]
pub(crate) struct OpenApi {
    /// The description.
    pub(crate) document: Option<String>,
    /// What happens to responses that violate it: `block`, `report` or `off`.
    pub(crate) responses: Option<String>,
    /// Whether query parameters that are not described are refused.
    pub(crate) strict: Option<bool>,
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
    /// Whether query parameters that are not described are refused.
    #[schemars(extend("default" = false))]
    strict: Option<bool>,
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
                let OpenApiMap { document, responses, strict, scopes } = map;
                Ok(OpenApi { document, responses, strict, scopes, short: false })
            }
        }
        deserializer.deserialize_any(Either)
    }
}
