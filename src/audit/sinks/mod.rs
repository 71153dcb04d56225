//! Sinks over the network. Each runs on a thread of its own, and is given whole lines of the spool.
//!
//! - [`elasticsearch`], [`otlp`], [`http`], [`syslog`]: one sink each;
//! - [`bulk_answer`]: what is read of the response of `_bulk`;
//! - [`batches`]: how HTTP sinks take a batch apart when a part of it is refused; [`post`]: their requests;
//! - [`rejected`]: the file for what a sink refuses for good;
//! - [`facts`], [`lines`]: what is read of a line; [`shorten`]: lines that are too long for syslog; [`farewell`]: whether a
//!   syslog receiver has everything.

mod batches;
mod bulk_answer;
mod delivery;
mod elasticsearch;
mod facts;
mod farewell;
mod http;
mod lines;
mod otlp;
mod post;
mod rejected;
mod shorten;
mod syslog;

#[cfg(test)]
mod tests;

use std::io;

use bytes::Bytes;

pub(super) use self::delivery::{Delivery, Failure, Rejections};
use self::elasticsearch::Elasticsearch;
use self::http::Http;
use self::otlp::Otlp;
use self::syslog::Syslog;
use super::config::SinkConfig;

/// Where records are delivered to, over the network.
pub(super) enum Destination {
    /// A data stream.
    Elasticsearch(Box<Elasticsearch>),
    /// A collector.
    Otlp(Box<Otlp>),
    /// A syslog receiver.
    Syslog(Box<Syslog>),
    /// An endpoint for lines.
    Http(Box<Http>),
}

impl Destination {
    /// Prepares a sink, without calling it yet. `node` is the name of this host. Returns `None` for sinks of this machine.
    ///
    /// # Errors
    /// The settings do not make a request.
    pub(super) fn new(config: &SinkConfig, node: &str) -> io::Result<Option<Self>> {
        Ok(Some(match config {
            SinkConfig::Stdout { .. } | SinkConfig::File { .. } => return Ok(None),
            SinkConfig::Elasticsearch(config) => Self::Elasticsearch(Box::new(Elasticsearch::new(config)?)),
            SinkConfig::Otlp(config) => Self::Otlp(Box::new(Otlp::new(config, node)?)),
            SinkConfig::Syslog(config) => Self::Syslog(Box::new(Syslog::new(config, node)?)),
            SinkConfig::Http(config) => Self::Http(Box::new(Http::new(config, node)?)),
        }))
    }

    /// Most bytes of lines that are delivered at once; a single line may be longer.
    pub(super) fn max_batch(&self) -> usize {
        match self {
            Self::Elasticsearch(sink) => sink.max_batch(),
            Self::Otlp(sink) => sink.max_batch(),
            Self::Syslog(_) => syslog::MAX_BATCH,
            Self::Http(sink) => sink.max_batch(),
        }
    }

    /// Delivers whole lines. May be cancelled: what was delivered is then delivered again.
    pub(super) async fn deliver(&mut self, lines: Bytes) -> Delivery {
        // The runtime runs only during deliveries. It first has to see what happened to its connections since the last one: a
        // peer may have closed them.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        match self {
            Self::Elasticsearch(sink) => sink.deliver(lines).await,
            Self::Otlp(sink) => sink.deliver(lines).await,
            Self::Syslog(sink) => sink.deliver(&lines).await,
            Self::Http(sink) => sink.deliver(lines).await,
        }
    }

    /// Ends the connection in good order. Returns whether everything that was sent has arrived.
    pub(super) async fn close(&mut self) -> bool {
        match self {
            Self::Syslog(sink) => sink.close().await,
            Self::Elasticsearch(_) | Self::Otlp(_) | Self::Http(_) => true,
        }
    }
}
