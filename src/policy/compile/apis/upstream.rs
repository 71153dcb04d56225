//! `apis.*.upstream`: servers, deadlines, what is done about servers that fail, and the authorities to trust.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use rustls::pki_types::ServerName;

use super::mapping;
use super::upstream_tls::Trusted;
use crate::policy::compile::admin::MAX_SOCKET_PATH;
use crate::policy::compile::context::Context;
use crate::policy::compile::own_addresses;
use crate::policy::document::{self, UpstreamMap};
use crate::policy::share::Share;
use crate::policy::tree::At;
use crate::policy::upstream::{Balance, Connections, Ejection, HealthCheck, Protocol, Retries, Server, Upstream};
use crate::url::{Form, HttpUrl};

/// Defaults.
const RESOLVE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MOST_CONNECTIONS: u32 = 256;
const IDLE: Duration = Duration::from_secs(60);
const EJECT_AFTER: u32 = 5;
const EJECT_FOR: Duration = Duration::from_secs(30);
const EJECT_MOST: Share = Share(500_000);
const HEALTH_EVERY: Duration = Duration::from_secs(5);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
const HEALTHY_AFTER: u32 = 2;
const UNHEALTHY_AFTER: u32 = 3;
const RETRY_BUDGET: Share = Share(200_000);
const RETRY_BACKOFF: Duration = Duration::from_millis(25);
/// Most retries of a request.
const MOST_RETRIES: u32 = 5;
/// Shortest `resolve` and `health.every`.
const SHORTEST: Duration = Duration::from_secs(1);

/// `upstream`; its servers are added to `all`.
pub(super) fn compile(
    context: &mut Context<'_>,
    written: Option<&document::Upstream>,
    api: &str,
    all: &mut Vec<Arc<Server>>,
    at: At<'_>,
) -> Upstream {
    const HELP: &str = "write where the API is, such as `upstream: http://127.0.0.1:9000`";
    let none = document::Upstream::default();
    let document::Upstream { settings: written, short } = written.unwrap_or_else(|| {
        context.missing(at, "`upstream` is missing", HELP);
        &none
    });
    if written.servers.is_empty() && !short && at.present() {
        context.missing(at.key("servers"), "there is no server", HELP);
    }
    let resolve = at_least(context, written.resolve, RESOLVE, at.key("resolve"));
    let connections = connections(context, written, at);
    let health = written.health.as_ref().and_then(|health| health_check(context, health, at.key("health")));
    let protocol = protocol(context, written, at.key("protocol"));
    let mut trusted = Trusted::new(&written.tls, protocol == Some(Http2::Tls));
    let mut servers = Vec::new();
    for (position, url) in written.servers.iter().enumerate() {
        let place = if *short { at } else { at.key("servers").index(position) };
        let reached = server(context, url, protocol, &mut trusted, at, place);
        if let Some(Reached { host, port, socket, trusted, authority, base, tls }) = reached {
            let health = health.as_ref().map(|health| health.below(&base));
            let name: Arc<str> = url.trim_end_matches('/').into();
            let server = Arc::new(Server {
                index: all.len(),
                identity: format!("{api} {name} {trusted}").into(),
                name,
                host,
                port,
                socket,
                authority,
                base,
                protocol: if protocol.is_some() { Protocol::Http2 } else { Protocol::Http1 },
                tls,
                connections,
                resolve,
                health,
            });
            all.push(Arc::clone(&server));
            servers.push(server);
        }
    }
    trusted.unused(context, &servers, at.key("tls"));
    Upstream {
        servers,
        response_timeout: context.period(at.key("response_timeout"), written.response_timeout, RESPONSE_TIMEOUT),
        forward_credentials: written.forward_credentials.unwrap_or(false),
        balance: balance(context, written, at.key("balance")),
        eject: written.eject.as_ref().map(|eject| ejection(context, eject, at.key("eject"))),
        refuses_if_none_left: none_left(context, written, at.key("none_left")),
        retries: written.retries.as_ref().map(|retries| self::retries(context, &retries.0, at.key("retries"))),
        host: mapping::host(context, written.host.as_deref(), at.key("host")),
        requests: written.requests.map(|most| count(context, Some(most), most, at.key("requests")) as usize),
    }
}

/// `protocol`, where it is HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Http2 {
    /// `h2`.
    Tls,
    /// `h2c`.
    Clear,
}

/// `None`: HTTP/1.1.
fn protocol(context: &mut Context<'_>, written: &UpstreamMap, at: At<'_>) -> Option<Http2> {
    match written.protocol.as_deref() {
        None | Some("http1") => None,
        Some("h2") => Some(Http2::Tls),
        Some("h2c") => Some(Http2::Clear),
        Some(other) => {
            context.unknown(at, "protocol", other, ["http1", "h2", "h2c"]);
            None
        }
    }
}

/// Reports a server whose URL says otherwise than `protocol` whether there is TLS.
fn check_protocol(context: &mut Context<'_>, protocol: Option<Http2>, is_https: bool, place: At<'_>) -> Option<()> {
    match (protocol, is_https) {
        (Some(Http2::Tls), false) => {
            context
                .error(place, "`protocol: h2` is HTTP/2 over TLS, but this server is `http`")
                .help("write `https://` before its host, or `protocol: h2c`");
            None
        }
        (Some(Http2::Clear), true) => {
            context
                .error(place, "`protocol: h2c` is HTTP/2 without TLS, but this server is `https`")
                .help("write `protocol: h2`, or `http://` before its host");
            None
        }
        _ => Some(()),
    }
}

fn balance(context: &mut Context<'_>, written: &UpstreamMap, at: At<'_>) -> Balance {
    match written.balance.as_deref() {
        None | Some("round_robin") => Balance::RoundRobin,
        Some("least_requests") => Balance::LeastRequests,
        Some(other) => {
            context.unknown(at, "balancing method", other, ["round_robin", "least_requests"]);
            Balance::RoundRobin
        }
    }
}

fn none_left(context: &mut Context<'_>, written: &UpstreamMap, at: At<'_>) -> bool {
    match written.none_left.as_deref() {
        None | Some("try") => {}
        Some("refuse") => {
            if written.health.is_none() && written.eject.is_none() {
                context
                    .warning(at, "`none_left` has no effect without `health` and `eject`: no server is ever unhealthy");
            }
            return true;
        }
        Some(other) => context.unknown(at, "behaviour", other, ["try", "refuse"]),
    }
    false
}

fn ejection(context: &mut Context<'_>, written: &document::Eject, at: At<'_>) -> Ejection {
    Ejection {
        after: count(context, written.after, EJECT_AFTER, at.key("after")),
        lasts: context.period(at.key("for"), written.lasts, EJECT_FOR),
        most: written.most.unwrap_or(EJECT_MOST),
    }
}

fn connections(context: &mut Context<'_>, written: &UpstreamMap, at: At<'_>) -> Connections {
    let keys = at.key("connections");
    let own = &written.connections;
    let age = own.age.map(|age| context.period(keys.key("age"), Some(age), Duration::ZERO));
    Connections {
        connect_timeout: context.period(at.key("connect_timeout"), written.connect_timeout, CONNECT_TIMEOUT),
        idle_timeout: context.period(at.key("idle_timeout"), written.idle_timeout, IDLE_TIMEOUT),
        most: count(context, own.most, MOST_CONNECTIONS, keys.key("most")) as usize,
        age,
        idle: context.period(keys.key("idle"), own.idle, IDLE),
    }
}

fn health_check(context: &mut Context<'_>, written: &document::Health, at: At<'_>) -> Option<HealthCheck> {
    let every = at_least(context, written.every, HEALTH_EVERY, at.key("every"));
    let timeout = context.period(at.key("timeout"), written.timeout, HEALTH_TIMEOUT);
    let healthy_after = count(context, written.healthy_after, HEALTHY_AFTER, at.key("healthy_after"));
    let unhealthy_after = count(context, written.unhealthy_after, UNHEALTHY_AFTER, at.key("unhealthy_after"));
    let Some(path) = &written.path else {
        context.missing(
            at,
            "`path` is missing",
            "write the path that tells the server's health, such as `path: /healthz`",
        );
        return None;
    };
    let is_path = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok_and(|parsed| parsed == **path);
    if !is_path {
        context.error(at.key("path"), "this is not a path").help("write it as `/healthz`");
        return None;
    }
    Some(HealthCheck { path: path.as_str().into(), every, timeout, healthy_after, unhealthy_after })
}

fn retries(context: &mut Context<'_>, written: &document::RetriesMap, at: At<'_>) -> Retries {
    // In the short form, `retries` is the number itself.
    let place = if at.key("most").present() { at.key("most") } else { at };
    let most = count(context, written.most, 1, place);
    if most > MOST_RETRIES {
        context.error(place, format!("a request is sent at most {MOST_RETRIES} times more"));
    }
    let (mut on_connect, mut on) = (written.on.is_none(), Vec::new());
    for (position, cause) in written.on.iter().flatten().enumerate() {
        let at = at.key("on").index(position);
        let status = cause.0.parse::<u16>().ok().and_then(|status| StatusCode::from_u16(status).ok());
        match status {
            _ if cause.0 == "connect" => on_connect = true,
            Some(status) if status.is_server_error() => on.push(status),
            Some(_) => drop(context.error(at, "only what the server failed at is tried again: 500 to 599")),
            None => context.unknown(at, "cause", &cause.0, ["connect", "502", "503", "504"]),
        }
    }
    Retries {
        most,
        budget: written.budget.unwrap_or(RETRY_BUDGET),
        backoff: context.period(at.key("backoff"), written.backoff, RETRY_BACKOFF),
        on_connect,
        on,
    }
}

/// A number that is at least 1.
fn count(context: &mut Context<'_>, written: Option<u32>, default: u32, at: At<'_>) -> u32 {
    let count = written.unwrap_or(default);
    if count == 0 {
        context.error(at, "this is at least 1");
    }
    count
}

fn at_least(
    context: &mut Context<'_>,
    written: Option<crate::policy::Period>,
    default: Duration,
    at: At<'_>,
) -> Duration {
    let period = context.period(at, written, default);
    if period < SHORTEST {
        context.error(at, "servers would be asked all the time").help("write at least `1s`");
    }
    period
}

/// How a server is reached, by its URL and the trust in it.
struct Reached {
    host: Box<str>,
    port: u16,
    socket: Option<Arc<Path>>,
    /// What it is trusted by, and what is spoken with it.
    trusted: String,
    authority: HeaderValue,
    base: Box<str>,
    tls: Option<(ServerName<'static>, Arc<rustls::ClientConfig>)>,
}

/// A server behind a Unix socket: a neighbour on this machine.
fn socket(context: &mut Context<'_>, path: &str, protocol: Option<Http2>, place: At<'_>) -> Option<Reached> {
    if path.is_empty() || path.starts_with("//") {
        context
            .error(place, "this names no socket")
            .help("write its path after `unix:`, such as `unix:/run/orders.sock`");
        return None;
    }
    check_protocol(context, protocol, false, place)?;
    let path = context.sources.path(path);
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        context
            .error(place, format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes, folder included"))
            .help("choose a shorter one, such as /run/orders.sock");
        return None;
    }
    let (host, spoken) = (path.display().to_string().into(), if protocol.is_some() { "h2" } else { "" });
    Some(Reached {
        host,
        port: 0,
        socket: Some(path.into()),
        trusted: spoken.to_owned(),
        // A socket has no name of its own.
        authority: HeaderValue::from_static("localhost"),
        base: "".into(),
        tls: None,
    })
}

fn server(
    context: &mut Context<'_>,
    url: &str,
    protocol: Option<Http2>,
    trust: &mut Trusted<'_>,
    at: At<'_>,
    place: At<'_>,
) -> Option<Reached> {
    if let Some(path) = url.strip_prefix("unix:") {
        return socket(context, path, protocol, place);
    }
    let parsed = match HttpUrl::parse(url, Form::UPSTREAM) {
        Ok(parsed) => parsed,
        Err(error) => {
            context.error(place, error.message).help(error.help);
            return None;
        }
    };
    let base = mapping::base(context, parsed.uri().path(), place)?;
    check_protocol(context, protocol, parsed.is_https(), place)?;
    let host = parsed.host().to_owned();
    let tls = if parsed.is_https() { Some(trust.server(context, &host, at.key("tls"), place)?) } else { None };
    let port = parsed.port();
    own_addresses::upstream(context, &host, port, place);
    let spoken = if protocol.is_some() { " h2" } else { "" };
    let trusted = format!("{}{spoken}", tls.as_ref().map_or("", |tls| &tls.identity));
    let authority = HeaderValue::from_str(parsed.authority()).ok()?;
    let (host, tls) = (host.into(), tls.map(|tls| (tls.name, tls.config)));
    Some(Reached { host, port, socket: None, trusted, authority, base, tls })
}
