//! Messages of the OpenTelemetry protocol (opentelemetry-proto 1.x), as far as they are sent.
//!
//! They are written by hand, field numbers and all: the crate that generates them brings its SDK along.

mod common;
mod logs;
mod resource;
mod response;
mod trace;

#[cfg(test)]
pub(crate) use self::common::Value;
pub(crate) use self::common::{AnyValue, KeyValue, Scope};
pub(crate) use self::logs::{LogRecord, LogsRequest, ResourceLogs, ScopeLogs};
pub(crate) use self::resource::Resource;
#[cfg(test)]
pub(crate) use self::response::ExportPartialSuccess;
pub(crate) use self::response::{ExportResponse, PROTOBUF, PartialSuccess};
pub(crate) use self::trace::{ResourceSpans, ScopeSpans, Span, SpanKind, Status, StatusCode, TracesRequest};
