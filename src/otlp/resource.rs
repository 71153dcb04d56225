//! `opentelemetry.proto.resource.v1`.

use super::common::{AnyValue, KeyValue};

/// Where telemetry comes from: `Resource`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Resource {
    /// `service.name` and others.
    #[prost(message, repeated, tag = "1")]
    pub(crate) attributes: Vec<KeyValue>,
}

impl Resource {
    /// This process, on the host `node`.
    pub(crate) fn here(node: &str) -> Self {
        let attributes = [
            ("service.name", "bartizan"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", node),
            ("host.name", node),
        ];
        Self { attributes: attributes.map(|(key, value)| KeyValue::new(key, AnyValue::text(value))).to_vec() }
    }
}
