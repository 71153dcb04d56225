//! `audit`, compiled: the sinks, the hash chain and the spool.

mod network;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::network::{ElasticsearchConfig, HttpConfig, HttpEndpoint, HttpFormat, OtlpConfig, SyslogConfig};
use super::checkpoint_key::CheckpointKey;

/// What a policy says about records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditConfig {
    /// Where records go; nowhere if empty. Sinks over the network are there only with a spool.
    pub(crate) sinks: Vec<SinkConfig>,
    /// How records are chained.
    pub(crate) chain: ChainConfig,
    /// Where records are kept until every sink has them.
    pub(crate) spool: Option<SpoolConfig>,
}

#[cfg(test)]
impl AuditConfig {
    /// No records.
    pub(crate) fn none() -> Self {
        let chain = ChainConfig { key: None, checkpoint: Duration::from_secs(60) };
        Self { sinks: Vec::new(), chain, spool: None }
    }
}

/// The hash chain of the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChainConfig {
    /// Signs the checkpoints; without one, there are none.
    pub(crate) key: Option<Arc<CheckpointKey>>,
    /// Time between two checkpoints, from 1 s to 1 day.
    pub(crate) checkpoint: Duration,
}

/// A folder of this machine that keeps records until every sink has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpoolConfig {
    /// The folder; the one that it is in exists.
    pub(crate) path: PathBuf,
    /// Most bytes in it, at least 16 MiB.
    pub(crate) size: u64,
    /// Longest time until what was written is on disk; zero: before each write counts as done.
    pub(crate) fsync: Duration,
    /// What happens when it is full.
    pub(crate) on_full: OnFull,
}

/// What happens to requests while the spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFull {
    /// They wait.
    Wait,
    /// They are refused with 503.
    Refuse,
    /// They are served, and their records are dropped and counted.
    DropAndCount,
}

/// The configuration of one sink. Sinks with equal configurations are carried over when the policy is reloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SinkConfig {
    /// Standard output.
    Stdout {
        /// JSON if absent; otherwise readable lines, in colour if true.
        readable: Option<bool>,
    },
    /// A file that is appended to.
    File {
        /// Its path; its folder must exist.
        path: PathBuf,
        /// When another file takes its place; never if absent.
        rotate: Option<Rotate>,
    },
    /// A data stream of Elasticsearch or OpenSearch.
    Elasticsearch(ElasticsearchConfig),
    /// A collector that speaks OTLP over HTTP.
    Otlp(OtlpConfig),
    /// A syslog receiver.
    Syslog(SyslogConfig),
    /// An HTTP endpoint that takes lines.
    Http(HttpConfig),
}

/// When a file is put aside for a new one. At least one of `size` and `every` is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotate {
    /// From this many bytes on.
    pub(crate) size: Option<u64>,
    /// When it is this old.
    pub(crate) every: Option<Duration>,
    /// How many rotated files are kept, at least one.
    pub(crate) keep: u32,
    /// Whether rotated files are compressed by gzip.
    pub(crate) compress: bool,
}

impl SinkConfig {
    /// What it is, as the policy writes it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Stdout { .. } => "stdout",
            Self::File { .. } => "file",
            Self::Elasticsearch(_) => "elasticsearch",
            Self::Otlp(_) => "otlp",
            Self::Syslog(_) => "syslog",
            Self::Http(_) => "http",
        }
    }
}

/// Where records go, without secrets. It identifies the sink in metrics, messages and the spool.
impl fmt::Display for SinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout { .. } => f.write_str("stdout"),
            Self::File { path, .. } => path.display().fmt(f),
            Self::Elasticsearch(config) => {
                write!(f, "elasticsearch {}/{}", config.endpoint, config.data_stream)
            }
            Self::Otlp(config) => write!(f, "otlp {}", config.endpoint),
            Self::Syslog(config) => write!(f, "syslog {}", config.address),
            Self::Http(config) => write!(f, "http {}", config.endpoint),
        }
    }
}
