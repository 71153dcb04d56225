//! `opentelemetry.proto.trace.v1`, and what is sent of it.

use super::common::{KeyValue, Scope};
use super::resource::Resource;

/// What is sent to `/v1/traces`: `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TracesRequest {
    /// Spans by resource.
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_spans: Vec<ResourceSpans>,
}

/// Spans of one resource.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ResourceSpans {
    /// The resource.
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    /// Its spans by scope.
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_spans: Vec<ScopeSpans>,
    /// URL of the schema that the attributes follow.
    #[prost(string, tag = "3")]
    pub(crate) schema_url: String,
}

/// Spans of one scope.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ScopeSpans {
    /// The scope.
    #[prost(message, optional, tag = "1")]
    pub(crate) scope: Option<Scope>,
    /// Its spans.
    #[prost(message, repeated, tag = "2")]
    pub(crate) spans: Vec<Span>,
}

/// One span.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Span {
    /// W3C trace id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    /// W3C span id, 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    /// The span that it is a part of, 8 bytes or none.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) parent_span_id: Vec<u8>,
    /// Flags of W3C Trace Context in the low byte; 0x100: whether the parent is remote is known; 0x200: it is.
    #[prost(fixed32, tag = "16")]
    pub(crate) flags: u32,
    /// Its name.
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    /// Its part in a call.
    #[prost(enumeration = "SpanKind", tag = "6")]
    pub(crate) kind: i32,
    /// Its beginning, in nanoseconds since the epoch.
    #[prost(fixed64, tag = "7")]
    pub(crate) start_time_unix_nano: u64,
    /// Its end.
    #[prost(fixed64, tag = "8")]
    pub(crate) end_time_unix_nano: u64,
    /// What it was about.
    #[prost(message, repeated, tag = "9")]
    pub(crate) attributes: Vec<KeyValue>,
    /// Absent: it is not said whether it failed.
    #[prost(message, optional, tag = "15")]
    pub(crate) status: Option<Status>,
}

/// The part of a span in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum SpanKind {
    /// Unknown.
    Unspecified = 0,
    /// It answers a request.
    Server = 2,
    /// It sends a request.
    Client = 3,
}

/// Whether a span failed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Status {
    /// What failed; not said here, because `error.type` says it.
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    /// Whether it failed.
    #[prost(enumeration = "StatusCode", tag = "3")]
    pub(crate) code: i32,
}

/// Whether a span failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum StatusCode {
    /// Not said.
    Unset = 0,
    /// It failed.
    Error = 2,
}
