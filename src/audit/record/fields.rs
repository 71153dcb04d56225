//! The fields of an audit record.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use jiff::Timestamp;

use crate::exchange::{Exchange, Peer, SpanId, TraceId};
use crate::refusal::{Refusal, Violation};

/// `event.action` of every request; other actions are things done through the admin listener.
pub(crate) const REQUEST: &str = "request";

/// `event.reason` when the client disconnected before its response was complete.
pub(crate) const CLIENT_DISCONNECTED: &str = "client_disconnected";

/// `event.reason` when the client took too little of its response for `timeouts.stall`, or over HTTP/2 sent fields too slowly, which
/// ends all requests of its connection.
pub(crate) const CLIENT_STALLED: &str = "client_stalled";

/// `event.action` when a request has become a WebSocket; that of the request follows when it ends.
pub(crate) const WEBSOCKET_OPENED: &str = "websocket_opened";

/// `event.action` of an alert that a quota is nearly or wholly used up.
pub(crate) const QUOTA_USED: &str = "quota_used";

/// `event.action` of an alert that an API key was used from a network that it was never used from.
pub(crate) const NEW_NETWORK: &str = "new_network";

/// `event.action` of an alert that an API key was used that was not for a long time.
pub(crate) const UNUSED_KEY_USED: &str = "unused_key_used";

/// `event.action` of an alert that a client secret was used that was replaced and has ended: one of its users may be a thief.
pub(crate) const REPLACED_SECRET_USED: &str = "replaced_secret_used";

/// `event.action` of an alert that a caller lacks the scopes for many routes that it has tried.
pub(crate) const SCOPES_PROBED: &str = "scopes_probed";

/// `event.action` of an alert that the API key of a consumer cannot be rotated or delivered.
pub(crate) const KEY_ROTATION_FAILED: &str = "key_rotation_failed";

/// `event.action` of all alerts.
pub(crate) const ALERTS: [&str; 6] =
    [QUOTA_USED, NEW_NETWORK, UNUSED_KEY_USED, REPLACED_SECRET_USED, SCOPES_PROBED, KEY_ROTATION_FAILED];

/// Everything that is recorded about one request, borrowed while the line is formatted.
///
/// What is `None` or empty is left out of the line. Text may contain anything: it is escaped and truncated. Words
/// (`action`, `id`, `reason`, versions, `stage`, the credential's kind, `policy`) are ours, and need no escaping.
#[derive(Clone)]
pub(crate) struct Record<'a> {
    /// Start of the request, by the wall clock.
    pub(crate) at: Timestamp,
    /// [`REQUEST`], or what was done through the admin listener.
    pub(crate) action: &'a str,
    /// Id of the record: that of the request, or of an alert about it.
    pub(crate) id: &'a str,
    /// Id of the request.
    pub(crate) request: Option<&'a str>,
    /// From the start to the last byte of the response.
    pub(crate) duration: Duration,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// The refusal's code, or [`CLIENT_DISCONNECTED`], or [`CLIENT_STALLED`].
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
    /// Bytes of the response's body.
    pub(crate) response_bytes: u64,
    /// Path of the request, without its query.
    pub(crate) path: Option<&'a [u8]>,
    /// Host of the request.
    pub(crate) domain: Option<&'a [u8]>,
    /// `https` or `http`.
    pub(crate) scheme: Option<&'a str>,
    /// The consumer, or the operator.
    pub(crate) consumer: Option<&'a str>,
    /// The user that the consumer acts for.
    pub(crate) user: Option<&'a str>,
    /// What an operator changed.
    pub(crate) target: Option<&'a str>,
    /// How an operator changed it.
    pub(crate) change: Option<&'a Change>,
    /// Roles of the caller.
    pub(crate) roles: &'a [Box<str>],
    /// TLS version, such as `1.3`.
    pub(crate) tls_version: Option<&'a str>,
    /// The trace that the request belongs to, and its span in it.
    pub(crate) trace: Option<(TraceId, SpanId)>,
    /// Name of the API.
    pub(crate) api: Option<&'a str>,
    /// The route, as the policy writes it.
    pub(crate) route: Option<&'a str>,
    /// The stage that refused, if one did.
    pub(crate) stage: Option<&'a str>,
    /// What happened, for operators; it has no secrets.
    pub(crate) cause: Option<&'a str>,
    /// Whether a stage of the route only reports.
    pub(crate) reports: bool,
    /// Refusals that were only reported, in report mode.
    pub(crate) would_refuse: &'a [Refusal],
    /// The organization of the consumer.
    pub(crate) organization: Option<&'a str>,
    /// The plan the request counted against.
    pub(crate) plan: Option<&'a str>,
    /// The limit that refused the request, or that an alert is about.
    pub(crate) limit: Option<LimitFacts<'a>>,
    /// What an alert is about.
    pub(crate) signal: SignalFacts,
    /// The credential.
    pub(crate) credential: Option<CredentialFacts<'a>>,
    /// Scopes that the route requires.
    pub(crate) scopes_required: &'a [Box<str>],
    /// Scopes granted to the caller.
    pub(crate) scopes_granted: &'a [Box<str>],
    /// Those of them that operators have granted for a time.
    pub(crate) scopes_lent: &'a [Box<str>],
    /// Scopes of the credential that the roles of its consumer do not allow.
    pub(crate) scopes_cut: &'a [Box<str>],
    /// What was wrong with the body; the first few are written.
    pub(crate) violations: &'a [Violation],
    /// The call to the upstream.
    pub(crate) upstream: Option<UpstreamFields<'a>>,
    /// Digest of the policy that decided.
    pub(crate) policy: &'a str,
}

/// The call to the upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UpstreamFields<'a> {
    /// The server that was called last.
    pub(crate) server: &'a str,
    /// The time until the headers of its response.
    pub(crate) duration: Option<Duration>,
    /// How often the request was sent, to whatever server; written if that is more than once.
    pub(crate) attempts: u32,
}

impl<'a> Record<'a> {
    /// Returns a record with the facts of the exchange and its peer. The rest has neutral values: a success, without a
    /// caller, a body or a response.
    pub(crate) fn of(exchange: &'a Exchange, peer: &Peer, action: &'a str, policy: &'a str) -> Self {
        let source = peer.address.ip().to_canonical();
        Self {
            at: exchange.at,
            client: exchange.client,
            client_port: (exchange.client == source).then_some(peer.address.port()),
            source,
            user_agent: exchange.user_agent.as_ref().map(HeaderValue::as_bytes),
            method: exchange.method.as_ref().map(Method::as_str),
            path: Some(exchange.path.as_bytes()).filter(|path| !path.is_empty()),
            domain: Some(exchange.host.as_bytes()).filter(|host| !host.is_empty()),
            request: Some(exchange.id.as_str()),
            scheme: Some(peer.scheme()),
            tls_version: peer.tls_version,
            trace: Some((exchange.trace.trace, exchange.trace.span)),
            ..Self::neutral(action, exchange.id.as_str(), exchange.version_text(), policy)
        }
    }

    /// Returns a record with a neutral value in every other field.
    pub(in crate::audit) fn neutral(action: &'a str, id: &'a str, http_version: &'a str, policy: &'a str) -> Self {
        Self {
            at: Timestamp::UNIX_EPOCH,
            action,
            id,
            request: None,
            duration: Duration::ZERO,
            outcome: Outcome::Success,
            reason: None,
            client: Ipv4Addr::UNSPECIFIED.into(),
            client_port: None,
            source: Ipv4Addr::UNSPECIFIED.into(),
            user_agent: None,
            http_version,
            method: None,
            request_bytes: 0,
            status: None,
            response_bytes: 0,
            path: None,
            domain: None,
            scheme: None,
            consumer: None,
            user: None,
            target: None,
            change: None,
            roles: &[],
            tls_version: None,
            trace: None,
            api: None,
            route: None,
            stage: None,
            cause: None,
            reports: false,
            would_refuse: &[],
            organization: None,
            plan: None,
            limit: None,
            signal: SignalFacts::default(),
            credential: None,
            scopes_required: &[],
            scopes_granted: &[],
            scopes_lent: &[],
            scopes_cut: &[],
            violations: &[],
            upstream: None,
            policy,
        }
    }
}

/// The credential of a request; never the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CredentialFacts<'a> {
    /// Its kind.
    pub(crate) kind: &'a str,
    /// Its id: a `jti`, or the id of a key.
    pub(crate) id: Option<&'a str>,
    /// Who issued the token: the name of an issuer or an introspection endpoint in the policy, or `token_service`.
    pub(crate) issuer: Option<&'a str>,
}

/// What an alert is about, if not a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignalFacts {
    /// When the key was last used before.
    pub(crate) last_used: Option<Timestamp>,
    /// The number of routes that were tried.
    pub(crate) routes: Option<usize>,
}

/// A limit of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitFacts<'a> {
    /// Its name, as in `RateLimit`.
    pub(crate) name: &'a str,
    /// For an alert: how much of it has been used, in percent, and when it resets.
    pub(crate) used: Option<(u8, Timestamp)>,
}

/// Details of a change that an operator, or a caller for itself, made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The scopes that were given.
    pub(crate) scopes: Vec<Box<str>>,
    /// When what was given or taken ends.
    pub(crate) until: Option<Timestamp>,
    /// The operator's reason.
    pub(crate) reason: Option<Box<str>>,
    /// Present: it is the result of a drill, and nothing was changed.
    pub(crate) drill: Option<DrillFacts>,
}

/// `event.action` of a revocation drill that showed that every node refuses what is revoked.
pub(crate) const REVOCATION_DRILLED: &str = "revocation_drilled";

/// `event.action` of a revocation drill that did not show that.
pub(crate) const REVOCATION_DRILL_FAILED: &str = "revocation_drill_failed";

/// What a drill of operators showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DrillFacts {
    /// Digest of what the policy in force says about authentication.
    pub(crate) auth: Arc<str>,
    /// Number of nodes.
    pub(crate) nodes: u32,
    /// How soon they had to refuse the credential.
    pub(crate) within: Duration,
    /// When the last of them did; absent: one did not.
    pub(crate) refused_after: Option<Duration>,
}

/// A change, for the record.
#[derive(Clone, Debug)]
pub(crate) struct ChangeRecord {
    /// Its `event.action`.
    pub(crate) action: &'static str,
    /// What was changed, for people.
    pub(crate) target: String,
    pub(crate) details: Change,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was completed.
    Success,
    /// It was refused, or something failed.
    Failure,
    /// Whether a change was made is not known: the store did not confirm it.
    Unknown,
}
