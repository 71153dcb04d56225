//! The record: one JSON line for every request that reached a listener, and how it gets to the sinks without loss.
//!
//! The path of a record, file by file:
//! - [`record`]: formats a [`Record`] as one line of Elastic Common Schema JSON;
//! - [`recorder`]: one per worker; buffers lines, hands them over in batches, and makes callers wait rather than lose
//!   one;
//! - [`trail`]: the open sinks, shared by all workers; opens, reopens, carries over and closes them;
//! - [`writer`]: the thread behind each sink, which keeps a batch until it is written;
//! - [`file`](mod@file), [`stdout`]: the sinks;
//! - [`readable`](mod@readable): a record as one line for people.
//!
//! Nothing here decides anything about a request, and nothing here sees a token, a key, a cookie, a query or a body.

pub(crate) mod fields;
mod file;
mod readable;
mod record;
mod recorder;
mod stdout;
mod trail;
mod writer;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderValue, Method};
use jiff::Timestamp;

use crate::exchange::{Exchange, Peer};
use crate::refusal::{Refusal, Violation};

pub(crate) use recorder::Recorder;
pub(crate) use trail::Trail;

/// `event.action` of every request; other actions are things done through the admin listener.
pub(crate) const REQUEST: &str = "request";

/// `event.reason` when the client disconnected before its response was complete.
pub(crate) const CLIENT_DISCONNECTED: &str = "client_disconnected";

/// Everything that is recorded about one request, borrowed while the line is formatted.
///
/// What is `None` or empty is left out of the line. Text may contain anything: it is escaped and truncated. Words
/// (`action`, `id`, `reason`, versions, `stage`, the credential's kind, `policy`) are ours, and need no escaping.
#[derive(Clone)]
pub(crate) struct Record<'a> {
    /// Start, by the wall clock.
    pub(crate) at: Timestamp,
    /// [`REQUEST`], or what was done through the admin listener.
    pub(crate) action: &'a str,
    /// Id of the request.
    pub(crate) id: &'a str,
    /// From the start to the last byte of the answer.
    pub(crate) duration: Duration,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// The refusal's code, or [`CLIENT_DISCONNECTED`].
    pub(crate) reason: Option<&'a str>,
    /// The client: the peer, or the address that a trusted proxy reports.
    pub(crate) client: IpAddr,
    /// Port of the client, if known.
    pub(crate) client_port: Option<u16>,
    /// The TCP peer.
    pub(crate) source: IpAddr,
    /// `User-Agent`, unchanged.
    pub(crate) user_agent: Option<&'a [u8]>,
    /// `1.0`, `1.1` or `2`.
    pub(crate) http_version: &'a str,
    /// Request method.
    pub(crate) method: Option<&'a str>,
    /// Bytes of the request's body.
    pub(crate) request_bytes: u64,
    /// Status of the response, if one was started.
    pub(crate) status: Option<u16>,
    /// Bytes of the answer's body.
    pub(crate) response_bytes: u64,
    /// Path of the request, without its query.
    pub(crate) path: Option<&'a [u8]>,
    /// Host the request was for.
    pub(crate) domain: Option<&'a [u8]>,
    /// The consumer, or the operator.
    pub(crate) consumer: Option<&'a str>,
    /// What an operator changed.
    pub(crate) target: Option<&'a str>,
    /// Roles of the caller.
    pub(crate) roles: &'a [Box<str>],
    /// TLS version, such as `1.3`.
    pub(crate) tls_version: Option<&'a str>,
    /// W3C trace id.
    pub(crate) trace_id: Option<&'a str>,
    /// Name of the API.
    pub(crate) api: Option<&'a str>,
    /// The route, as the policy writes it.
    pub(crate) route: Option<&'a str>,
    /// The stage that refused, where one did.
    pub(crate) stage: Option<&'a str>,
    /// Whether some stage of the route only reports.
    pub(crate) reports: bool,
    /// Refusals that were only reported, in report mode.
    pub(crate) would_refuse: &'a [Refusal],
    /// The plan the request counted against.
    pub(crate) plan: Option<&'a str>,
    /// Kind of the credential, and its id (a `jti` or a key id; never the secret).
    pub(crate) credential: Option<(&'a str, Option<&'a str>)>,
    /// Scopes the route asks for.
    pub(crate) scopes_required: &'a [Box<str>],
    /// Scopes granted to the caller.
    pub(crate) scopes_granted: &'a [Box<str>],
    /// What was wrong with the body; the first few are written.
    pub(crate) violations: &'a [Violation],
    /// The upstream server that was asked, and how long until its answer's headers.
    pub(crate) upstream: Option<(&'a str, Option<Duration>)>,
    /// Digest of the policy that decided.
    pub(crate) policy: &'a str,
}

impl<'a> Record<'a> {
    /// Returns a record with the facts of the exchange and its peer. The rest has neutral values: a success, without a
    /// caller, a body or a response.
    pub(crate) fn of(exchange: &'a Exchange, peer: &Peer, action: &'a str, policy: &'a str) -> Self {
        let source = peer.address.ip().to_canonical();
        Self {
            at: exchange.at,
            action,
            id: exchange.id.as_str(),
            duration: Duration::ZERO,
            outcome: Outcome::Success,
            reason: None,
            client: exchange.client,
            client_port: (exchange.client == source).then_some(peer.address.port()),
            source,
            user_agent: exchange.user_agent.as_ref().map(HeaderValue::as_bytes),
            http_version: exchange.version_text(),
            method: exchange.method.as_ref().map(Method::as_str),
            request_bytes: 0,
            status: None,
            response_bytes: 0,
            path: Some(exchange.path.as_bytes()).filter(|path| !path.is_empty()),
            domain: Some(exchange.host.as_bytes()).filter(|host| !host.is_empty()),
            consumer: None,
            target: None,
            roles: &[],
            tls_version: peer.tls_version,
            trace_id: exchange.trace_id(),
            api: None,
            route: None,
            stage: None,
            reports: false,
            would_refuse: &[],
            plan: None,
            credential: None,
            scopes_required: &[],
            scopes_granted: &[],
            violations: &[],
            upstream: None,
            policy,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was completed.
    Success,
    /// It was refused, or something failed.
    Failure,
}

/// One sink, as configured; equal ones are carried over when the policy is reloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SinkConfig {
    /// Standard output.
    Stdout {
        /// JSON when absent; else lines for people, in colour when true.
        readable: Option<bool>,
    },
    /// A file that is appended to.
    File {
        /// Its path; its folder must exist.
        path: PathBuf,
    },
}

impl std::fmt::Display for SinkConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout { .. } => f.write_str("stdout"),
            Self::File { path } => path.display().fmt(f),
        }
    }
}
