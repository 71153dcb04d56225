//! `opentelemetry.proto.logs.v1`, and what is sent of it.

use super::common::{AnyValue, KeyValue, Scope};
use super::resource::Resource;

/// What is sent to `/v1/logs`: `ExportLogsServiceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LogsRequest {
    /// Records by resource.
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_logs: Vec<ResourceLogs>,
}

/// Records of one resource.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ResourceLogs {
    /// The resource.
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    /// Its records by scope.
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_logs: Vec<ScopeLogs>,
}

/// Records of one scope.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ScopeLogs {
    /// The scope.
    #[prost(message, optional, tag = "1")]
    pub(crate) scope: Option<Scope>,
    /// Its records.
    #[prost(message, repeated, tag = "2")]
    pub(crate) log_records: Vec<LogRecord>,
}

/// One record.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LogRecord {
    /// When it happened, in nanoseconds since the epoch; 0: unknown.
    #[prost(fixed64, tag = "1")]
    pub(crate) time_unix_nano: u64,
    /// When it was collected.
    #[prost(fixed64, tag = "11")]
    pub(crate) observed_time_unix_nano: u64,
    /// 9: INFO, 13: WARN, 17: ERROR.
    #[prost(int32, tag = "2")]
    pub(crate) severity_number: i32,
    /// Its name.
    #[prost(string, tag = "3")]
    pub(crate) severity_text: String,
    /// The record itself.
    #[prost(message, optional, tag = "5")]
    pub(crate) body: Option<AnyValue>,
    /// What it is searched by.
    #[prost(message, repeated, tag = "6")]
    pub(crate) attributes: Vec<KeyValue>,
    /// W3C trace id, 16 bytes or none.
    #[prost(bytes = "vec", tag = "9")]
    pub(crate) trace_id: Vec<u8>,
    /// W3C span id, 8 bytes or none.
    #[prost(bytes = "vec", tag = "10")]
    pub(crate) span_id: Vec<u8>,
    /// Name of the event.
    #[prost(string, tag = "12")]
    pub(crate) event_name: String,
}
