//! Audit records: one JSON line for every request that reached a listener, delivered to the sinks without loss.
//!
//! The path of a record, file by file:
//! - [`record`]: the [`Record`], its format as one line of Elastic Common Schema JSON, and as a readable line;
//! - [`recorder`]: one per worker; buffers lines, hands them over in batches, and makes requests wait rather than lose
//!   records;
//! - [`trail`]: the open sinks, shared by all workers; opens, reopens, carries over and closes them;
//! - [`sealer`]: the thread that gives lines their place in the [`chain`], signs a [`checkpoint`] now and then, and passes
//!   them on; [`sealed_line`] reads what it wrote;
//! - [`sink`]: one open sink: queues batches for its writer; [`queue`] is how threads hand batches over;
//! - [`writer`]: the thread of each sink, which keeps a batch until it is written;
//! - [`verify`]: verifies what was written, offline;
//! - [`file`](mod@file), [`stdout`]: the sinks;
//! - [`sinks`]: the sinks over the network;
//! - [`template`]: what Elasticsearch is told of records;
//! - [`config`]: the settings of all of this; [`checkpoint_key`]: signs checkpoints.
//!
//! Nothing here decides anything about a request, and nothing here sees a token, a key, a cookie, a query or a body.

mod chain;
mod checkpoint;
mod checkpoint_key;
mod config;
mod file;
mod queue;
mod record;
mod recorder;
mod sealed_line;
mod sealer;
mod sink;
#[allow(dead_code)] // The delivery loop uses it.
mod sinks;
mod stdout;
pub(crate) mod template;
mod trail;
mod verify;
mod writer;

pub(crate) use self::checkpoint_key::{CheckpointKey, PublicKey};
pub(crate) use self::config::{
    AuditConfig, ChainConfig, ElasticsearchConfig, HttpConfig, HttpEndpoint, HttpFormat, OnFull, OtlpConfig, Rotate,
    SinkConfig, SpoolConfig, SyslogConfig,
};
pub(crate) use self::record::{
    CLIENT_DISCONNECTED, CLIENT_STALLED, Change, FIELDS, LimitFacts, Outcome, QUOTA_USED, REQUEST, Record,
};
pub(crate) use self::recorder::Recorder;
pub(crate) use self::trail::Trail;
pub(crate) use self::verify::{Break, LineRead, Lines, Verified, Verifier};
