//! What requests and responses of a route must look like, and which stages only report, as written.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::policy::units::{Period, Size};

/// What a request must look like.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Request {
    /// JSON Schema file for JSON bodies.
    pub(crate) json: Option<String>,
    /// XSD 1.0 file for XML bodies.
    pub(crate) xml: Option<String>,
    /// WSDL 1.1 file, whose operations SOAP messages must be for; or XSD 1.0 file for the content of their Body.
    pub(crate) soap: Option<SoapContract>,
    /// JSON Schema file for `application/x-www-form-urlencoded` bodies, as an object of their fields; objects in it are JSON.
    pub(crate) form: Option<String>,
    /// JSON Schema file for `multipart/form-data` bodies. A file may be where the schema asks for a length at most: `maxLength`
    /// limits its size, and everything else is judged as text.
    pub(crate) multipart: Option<String>,
    /// Maximum size of the body, before and after decoding. Default: 1MiB with a schema, else `limits.body_size`.
    pub(crate) max_size: Option<Size>,
    /// Deadline for receiving the whole body. Default: `timeouts.request_body`.
    pub(crate) timeout: Option<Period>,
    /// JSON Schema file for the path parameters.
    pub(crate) path: Option<String>,
    /// JSON Schema file for the query parameters.
    pub(crate) query: Option<String>,
    /// JSON Schema file for headers; only those that it names are validated.
    pub(crate) headers: Option<String>,
    /// JSON Schema file for cookies; only those that it names are validated.
    pub(crate) cookies: Option<String>,
    /// Whether query parameters that `query` does not name are refused.
    #[schemars(extend("default" = false))]
    pub(crate) strict: Option<bool>,
}

/// `soap: FILE`, or `soap: { wsdl: FILE, operations: [NAME] }`.
#[derive(Debug, Clone, Default)]
pub(crate) struct SoapContract {
    /// A WSDL; in the short form, also an XSD.
    pub(crate) wsdl: Option<String>,
    /// The operations that are allowed; `None` for all.
    pub(crate) operations: Option<Vec<String>>,
    /// Written in the short form: the place of the file is that of the value itself.
    pub(crate) short: bool,
}

/// A WSDL, and which of its operations are allowed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Soap")]
#[schemars(inline)]
pub(super) struct SoapMap {
    /// WSDL 1.1 file. Required.
    wsdl: Option<String>,
    /// Names of the operations that are allowed. Default: all of the WSDL.
    operations: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for SoapContract {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SoapContract;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file such as `service.wsdl`, or a map with `wsdl`")
            }
            fn visit_str<E: serde::de::Error>(self, file: &str) -> Result<SoapContract, E> {
                Ok(SoapContract { wsdl: Some(file.to_owned()), operations: None, short: true })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SoapContract, A::Error> {
                let SoapMap { wsdl, operations } =
                    SoapMap::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(SoapContract { wsdl, operations, short: false })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What responses must look like: all successful ones, or by status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    /// Responses with a status of 2xx.
    pub(crate) successful: Option<Content>,
    /// By `200`, `2XX` or `default`.
    pub(crate) statuses: BTreeMap<String, Content>,
    /// `block` or `report`.
    pub(crate) mode: Option<String>,
    /// Maximum size of a response that is validated or masked.
    pub(crate) max_size: Option<Size>,
    /// What only some callers see, by its path.
    pub(crate) mask: BTreeMap<String, MaskRule>,
}

/// Who sees what is at a path of a JSON response.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MaskRule {
    /// Callers with one of these scopes see it. Required.
    pub(crate) visible_to: Option<Vec<String>>,
    /// What the others get: `remove`, `null`, `***`, or `keep_last N` characters.
    #[serde(rename = "else", deserialize_with = "or_null")]
    #[schemars(extend("default" = "remove"))]
    pub(crate) otherwise: Option<String>,
}

/// Text; or `null`, which is a value here.
fn or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct TextOrNull;
    impl Visitor<'_> for TextOrNull {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`remove`, `null`, `***` or `keep_last N`")
        }
        fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
            Ok("null".to_owned())
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }
    deserializer.deserialize_unit(TextOrNull).map(Some)
}

impl Response {
    /// Whether it says what responses must look like, and not only how a description is applied.
    pub(crate) fn has_contract(&self) -> bool {
        self.successful.is_some() || !self.statuses.is_empty()
    }
}

/// What the body of a response must look like.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Content {
    /// JSON Schema file for JSON bodies.
    pub(crate) json: Option<String>,
    /// XSD 1.0 file for XML bodies.
    pub(crate) xml: Option<String>,
    /// WSDL 1.1 file, whose operations SOAP messages must be for; or XSD 1.0 file for the content of their Body. Without a status, it
    /// also holds for XML with the statuses of faults, 400 and 500.
    pub(crate) soap: Option<SoapContract>,
    /// Media types that pass unchecked, such as `text/event-stream` or `text/csv`; they are streamed.
    pub(crate) unchecked: Vec<String>,
}

/// `mode: report`, or by stage: `mode: { schema: report }`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Mode {
    /// Of all stages.
    pub(crate) all: Option<String>,
    /// By the stage's name.
    pub(crate) stages: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Mode;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`enforce` or `report`, or a map from stages to them")
            }
            fn visit_str<E: serde::de::Error>(self, all: &str) -> Result<Mode, E> {
                Ok(Mode { all: Some(all.to_owned()), stages: BTreeMap::new() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Mode, A::Error> {
                let stages = BTreeMap::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Mode { all: None, stages })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A key of [`Response`].
enum Key {
    Json,
    Xml,
    Soap,
    Unchecked,
    Mode,
    MaxSize,
    Mask,
    Status(String),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const KEYS: &[&str] =
            &["json", "xml", "soap", "unchecked", "mode", "max_size", "mask", "200", "2XX", "default"];
        let text = String::deserialize(deserializer)?;
        Ok(match text.as_str() {
            "json" => Self::Json,
            "xml" => Self::Xml,
            "soap" => Self::Soap,
            "unchecked" => Self::Unchecked,
            "mode" => Self::Mode,
            "max_size" => Self::MaxSize,
            "mask" => Self::Mask,
            "default" => Self::Status(text),
            // Whether it is a status is for the compiler to say, in better words.
            _ if text.starts_with(|c: char| c.is_ascii_digit()) => Self::Status(text),
            _ => return Err(serde::de::Error::unknown_field(&text, KEYS)),
        })
    }
}

impl<'de> Deserialize<'de> for Response {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Answers;
        impl<'de> Visitor<'de> for Answers {
            type Value = Response;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Response, A::Error> {
                let mut response = Response::default();
                while let Some(key) = map.next_key()? {
                    let all = &mut response.successful;
                    match key {
                        Key::Json => all.get_or_insert_default().json = Some(map.next_value()?),
                        Key::Xml => all.get_or_insert_default().xml = Some(map.next_value()?),
                        Key::Soap => all.get_or_insert_default().soap = Some(map.next_value()?),
                        Key::Unchecked => all.get_or_insert_default().unchecked = map.next_value()?,
                        Key::Mode => response.mode = Some(map.next_value()?),
                        Key::Mask => response.mask = map.next_value()?,
                        Key::MaxSize => response.max_size = Some(map.next_value()?),
                        Key::Status(status) => drop(response.statuses.insert(status, map.next_value()?)),
                    }
                }
                Ok(response)
            }
        }
        deserializer.deserialize_map(Answers)
    }
}
