//! `egress`: how the process calls others.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::context::Context;
use crate::egress::{CONNECT_TIMEOUT, Egress, NoProxy, Proxy, TIMEOUT};
use crate::policy::document;
use crate::policy::tree::At;
use crate::url::ProxyUrl;

/// Longest timeouts.
const LONGEST: Duration = Duration::from_secs(300);

/// `egress`.
pub(super) fn compile(context: &mut Context<'_>, written: &document::Egress, at: At<'_>) -> Egress {
    let connect_timeout = context.period(at.key("connect_timeout"), written.connect_timeout, CONNECT_TIMEOUT);
    let timeout = context.period(at.key("timeout"), written.timeout, TIMEOUT);
    for (key, period) in [("connect_timeout", connect_timeout), ("timeout", timeout)] {
        if period > LONGEST {
            context.error(at.key(key), "a call that takes longer than 5m has failed");
        }
    }
    let mut except = NoProxy::default();
    for (position, text) in written.no_proxy.iter().enumerate() {
        if !except.add(text) {
            context
                .error(at.key("no_proxy").index(position), "this is not a name, an address or a network")
                .help("write `es.example.com`, `.svc` for all names that end so, `10.0.0.0/8`, or `*`");
        }
    }
    if written.proxy.is_none() {
        for (key, written) in [("no_proxy", !written.no_proxy.is_empty()), ("proxy_ca", written.proxy_ca.is_some())] {
            if written && !at.damaged() {
                context.error(at.key(key), format!("`{key}` has no effect without a `proxy`")).help("remove it");
            }
        }
    }
    let proxy = written.proxy.as_ref().and_then(|url| proxy(context, url, written.proxy_ca.as_ref(), at));
    let proxy = proxy.map(|proxy| Proxy { except, ..proxy });
    Egress { proxy, connect_timeout, timeout }
}

fn proxy(context: &mut Context<'_>, written: &SecretString, ca: Option<&String>, at: At<'_>) -> Option<Proxy> {
    let place = at.key("proxy");
    let ProxyUrl { url, credentials } = match ProxyUrl::parse(written.expose_secret()) {
        Ok(parsed) => parsed,
        Err(error) => {
            context.error(place, error.message).help(error.help);
            return None;
        }
    };
    let trust = if url.is_https() {
        Some(context.trusting(ca, at.key("proxy_ca"))?)
    } else {
        if ca.is_some() {
            context.error(at.key("proxy_ca"), "`proxy_ca` has no effect because the proxy is plain http");
        }
        None
    };
    let authorization = credentials.and_then(|credentials| {
        let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(credentials))).ok()?;
        value.set_sensitive(true);
        Some(value)
    });
    Some(Proxy { url, authorization, trust, except: NoProxy::default() })
}
