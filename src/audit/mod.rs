//! Audit records: one JSON line for every request that reached a listener, delivered to the sinks without loss.
//!
//! The path of a record, file by file:
//! - [`record`]: the [`Record`], its format as one line of Elastic Common Schema JSON, and as a readable line;
//! - [`recorder`]: one per worker; buffers lines, hands them over in batches, and makes requests wait rather than lose
//!   records;
//! - [`buffers`]: what batches are in, used again;
//! - [`trail`]: the open sinks, shared by all workers; opens, reopens, carries over and closes them;
//! - [`sealer`]: the handle on the thread ([`sealing`]) that gives lines their place in the [`chain`], signs a [`checkpoint`] now
//!   and then, and passes them on to its [`outlets`]; [`sealed_line`] reads what it wrote;
//! - [`spool`]: keeps sealed lines on disk until every sink has them; [`full_disk`]: when there is no room for more;
//! - [`sink`]: one open sink; its lines come from a [`source`]: a [`queue`], or the spool;
//! - [`writer`]: the thread of each sink, which keeps lines until they are written; [`thread`](mod@thread): what happens when a fault
//!   ends one of these threads;
//! - [`verify`]: verifies what was written, offline; [`filter`]: which records somebody wants to see;
//!   [`ocsf`](mod@ocsf): records in another schema;
//! - [`file`](mod@file), [`stdout`]: the sinks of this machine; [`rotation`] puts files aside, and
//!   [`file_lock`] keeps other processes from them;
//! - [`sinks`]: the sinks over the network; [`sender`]: the thread of each, which delivers lines until they are there;
//! - [`template`]: the index template and the lifecycle policy for Elasticsearch;
//! - [`config`]: the settings of all of this; [`checkpoint_key`]: signs checkpoints.
//!
//! Nothing here decides anything about a request, and nothing here sees a token, a key, a cookie, a query or a body.

mod batch;
mod buffers;
mod chain;
mod checkpoint;
mod checkpoint_key;
mod config;
mod file;
mod file_lock;
mod file_tail;
mod filter;
mod full_disk;
mod ocsf;
mod outlets;
mod queue;
mod record;
mod recorder;
mod rotation;
mod sealed_line;
mod sealer;
mod sealing;
mod sender;
mod sink;
mod sink_state;
mod sinks;
mod source;
mod spool;
mod stdout;
pub(crate) mod template;
mod thread;
mod trail;
mod verify;
mod writer;

pub(crate) use self::checkpoint_key::{CheckpointKey, PublicKey};
pub(crate) use self::config::{
    AuditConfig, ChainConfig, ElasticsearchConfig, HttpConfig, HttpEndpoint, HttpFormat, OnFull, OtlpConfig, Rotate,
    SinkConfig, SpoolConfig, SyslogConfig,
};
pub(crate) use self::file_lock::lock_of;
pub(crate) use self::filter::Filter;
pub(crate) use self::ocsf::ocsf;
pub(crate) use self::record::{
    ALERTS, ARRAY_MAX, CLIENT_DISCONNECTED, CLIENT_STALLED, Change, ChangeRecord, CredentialFacts, DrillFacts, FIELDS,
    KEY_ROTATION_FAILED, LimitFacts, NEW_NETWORK, Outcome, QUOTA_USED, REPLACED_SECRET_USED, REQUEST,
    REVOCATION_DRILL_FAILED, REVOCATION_DRILLED, Record, SCOPES_PROBED, SignalFacts, TEXT_MAX, UNUSED_KEY_USED,
    UpstreamFields, WEBSOCKET_OPENED, readable, visible, visible_json,
};
pub(crate) use self::recorder::Recorder;
pub(crate) use self::rotation::record_files;
pub(crate) use self::sealed_line::LINE_MAX;
pub(crate) use self::spool::is_spool_file;
pub(crate) use self::trail::Trail;
pub(crate) use self::verify::{Break, LineRead, Lines, Terms, Verified, Verifier};
