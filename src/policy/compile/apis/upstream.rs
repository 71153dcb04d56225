//! `apis.*.upstream`: servers, deadlines, and the authorities to trust.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rustls::pki_types::ServerName;

use crate::policy::compile::context::Context;
use crate::policy::compile::own_addresses;
use crate::policy::document;
use crate::policy::tree::At;
use crate::policy::{Server, Upstream};
use crate::url::{Fault, Form, HttpUrl};

/// `upstream`; its servers are added to `all`.
pub(super) fn compile(
    context: &mut Context<'_>,
    written: Option<&document::Upstream>,
    all: &mut Vec<Arc<Server>>,
    at: At<'_>,
) -> Upstream {
    const HELP: &str = "write where the API is, such as `upstream: http://127.0.0.1:9000`";
    let none = document::Upstream::default();
    let written = written.unwrap_or_else(|| {
        context.missing(at, "`upstream` is missing", HELP);
        &none
    });
    match written.balance.as_deref() {
        None | Some("round_robin") => {}
        Some("least_requests") => {
            context.error(at.key("balance"), "`least_requests` is part of the policy language, but not supported yet");
        }
        Some(other) => context.unknown(at.key("balance"), "balancing method", other, ["round_robin", "least_requests"]),
    }
    let connect_timeout = context.period(at.key("connect_timeout"), written.connect_timeout, Duration::from_secs(1));
    let response_timeout =
        context.period(at.key("response_timeout"), written.response_timeout, Duration::from_secs(15));
    let idle_timeout = context.period(at.key("idle_timeout"), written.idle_timeout, Duration::from_secs(60));
    if written.servers.is_empty() && !written.short && at.present() {
        context.missing(at.key("servers"), "there is no server", HELP);
    }
    let mut servers = Vec::new();
    for (position, url) in written.servers.iter().enumerate() {
        let place = if written.short { at } else { at.key("servers").index(position) };
        if let Some(mut server) = server(context, url, written, at, place) {
            server.index = all.len();
            server.connect_timeout = connect_timeout;
            server.idle_timeout = idle_timeout;
            let server = Arc::new(server);
            all.push(Arc::clone(&server));
            servers.push(server);
        }
    }
    Upstream { servers, response_timeout, forward_credentials: written.forward_credentials.unwrap_or(false) }
}

fn server(
    context: &mut Context<'_>,
    url: &str,
    written: &document::Upstream,
    at: At<'_>,
    place: At<'_>,
) -> Option<Server> {
    let parsed = match HttpUrl::parse(url, Form::SERVER) {
        Ok(parsed) => parsed,
        Err(error) => {
            let appended =
                "write scheme, host and port only: `http://10.1.0.7:9000`; the path of the request is appended";
            let more = matches!(error.fault, Fault::Path | Fault::Query);
            context.error(place, error.message).help(if more { appended.to_owned() } else { error.help });
            return None;
        }
    };
    let host = parsed.host().to_owned();
    let tls = if parsed.is_https() {
        let trust = context.trust(written.ca.as_ref(), at)?;
        let Ok(name) = ServerName::try_from(host.clone()) else {
            context.error(place, "this host name cannot occur in a certificate");
            return None;
        };
        Some((name, trust))
    } else {
        None
    };
    let port = parsed.port();
    own_addresses::upstream(context, &host, port, place);
    let trusted = tls.as_ref().map_or("", |(_, trust)| &trust.identity);
    Some(Server {
        index: 0,
        name: url.trim_end_matches('/').into(),
        identity: format!("{url} {trusted}").into(),
        port,
        authority: HeaderValue::from_str(parsed.authority()).ok()?,
        host: host.into(),
        tls: tls.map(|(name, trust)| (name, trust.config)),
        connect_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
    })
}
