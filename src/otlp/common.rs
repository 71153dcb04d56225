//! `opentelemetry.proto.common.v1`.

/// A value of an attribute or a body: `AnyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AnyValue {
    /// Absent: empty.
    #[prost(oneof = "Value", tags = "1, 2, 3, 4")]
    pub(crate) value: Option<Value>,
}

/// The kinds of values that are sent.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Value {
    /// Text.
    #[prost(string, tag = "1")]
    Text(String),
    /// `true` or `false`.
    #[prost(bool, tag = "2")]
    Flag(bool),
    /// A whole number.
    #[prost(int64, tag = "3")]
    Int(i64),
    /// A number.
    #[prost(double, tag = "4")]
    Double(f64),
}

/// An attribute: `KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<AnyValue>,
}

/// What made the records: `InstrumentationScope`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Scope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

impl AnyValue {
    /// A text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { value: Some(Value::Text(text.into())) }
    }

    /// A whole number.
    pub(crate) fn int(number: i64) -> Self {
        Self { value: Some(Value::Int(number)) }
    }
}

impl KeyValue {
    /// An attribute.
    pub(crate) fn new(key: &str, value: AnyValue) -> Self {
        Self { key: key.to_owned(), value: Some(value) }
    }
}
