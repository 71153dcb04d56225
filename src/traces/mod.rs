//! Traces: one span for each request that is sampled, and one for its call to the upstream, sent to an OpenTelemetry
//! collector.
//!
//! - [`config`]: the settings; [`sampler`]: which requests are sampled;
//! - [`request`]: a finished request, and the spans that it becomes;
//! - [`tracer`]: the end of the workers: a bounded queue, which is never waited for;
//! - [`exporter`]: the thread at its other end, which sends batches; [`collector`]: one request to the collector.
//!
//! Nothing here sees a token, a key, a cookie or a query.

mod collector;
mod config;
mod exporter;
mod request;
mod sampler;
mod tracer;

pub(crate) use self::config::{CollectorConfig, SampledParents, TracesConfig};
pub(crate) use self::request::{FinishedRequest, UpstreamCall, bounded, known_method};
pub(crate) use self::tracer::Tracer;
