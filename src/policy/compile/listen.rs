//! `listen` and `trusted_proxies`: addresses, and whose forwarded headers are trusted.

use std::collections::HashSet;
use std::net::SocketAddr;

use ipnet::IpNet;

use super::context::Context;
use super::networks;
use super::server_tls::{self, server_tls};
use crate::policy::document::{Document, Listen};
use crate::policy::tree::At;
use crate::policy::validity::Validity;
use crate::policy::{Listener, ListenerTls};
use crate::stages::auth::forwarded_certificate::{CertificateFormat, ForwardedCertificates};

/// `listen`.
pub(super) fn listeners(context: &mut Context<'_>, document: &Document, at: At<'_>) -> Vec<Listener> {
    let at = at.key("listen");
    if document.listen.is_empty() {
        context.missing(at, "there is nothing to listen on", "write `listen: [{address: \"127.0.0.1:8080\"}]`");
    }
    let mut seen = HashSet::new();
    let mut listeners = Vec::new();
    for (position, written) in document.listen.iter().enumerate() {
        let at = at.index(position);
        let address = address(context, written.address.as_deref(), at);
        let tls = written.tls.as_ref().map(|tls| server_tls(context, tls, at.key("tls")));
        let redirect = redirect(context, written, at);
        let proxy_protocol = written.proxy_protocol.unwrap_or(false);
        if proxy_protocol && document.trusted_proxies.is_empty() {
            context
                .error(at.key("proxy_protocol"), "no proxy is trusted, so every connection would be closed")
                .help("list the networks of your own proxies in `trusted_proxies`");
        }
        let forwarded = forwarded_certificates(context, document, written, at);
        if let Some(address) = address {
            // Also with port 0: listeners are distinguished by their address when the policy is reloaded.
            if !seen.insert(address) {
                context.error(at.key("address"), format!("the address {address} is listed twice"));
            }
            let tls = tls.flatten().map(|tls| (ListenerTls { config: tls.config, trust: tls.trust }, tls.validities));
            let (tls, validities) = tls.unzip();
            let mut validities = validities.unwrap_or_default();
            let forwarded_certificates = forwarded.map(|(forwarded, own)| {
                validities.extend(own);
                forwarded
            });
            listeners.push(Listener { address, tls, redirect, proxy_protocol, forwarded_certificates, validities });
        }
    }
    if !listeners.is_empty() && listeners.iter().all(|listener| listener.redirect.is_some()) {
        context.error(at, "every listener redirects, so none takes requests");
    }
    listeners
}

/// `client_certificate_header`, and how long its authorities are valid.
fn forwarded_certificates(
    context: &mut Context<'_>,
    document: &Document,
    listen: &Listen,
    at: At<'_>,
) -> Option<(ForwardedCertificates, Vec<Validity>)> {
    let written = listen.client_certificate_header.as_ref()?;
    let at = at.key("client_certificate_header");
    if document.trusted_proxies.is_empty() {
        context
            .error(at, "no proxy is trusted, so nobody may send it")
            .help("list the networks of your own proxies in `trusted_proxies`");
    }
    if listen.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
        context.error(at, "clients show their certificates by `tls.client_ca`, or proxies pass them on, not both");
    }
    let format = match written.format.as_deref() {
        None => {
            context.missing(at, "`format` is missing", "write `rfc9440` or `xfcc`, which the proxy sends");
            None
        }
        Some(text) => {
            let known = CertificateFormat::ALL.iter().find(|(name, _)| *name == text);
            if known.is_none() {
                context.unknown(at.key("format"), "format", text, CertificateFormat::ALL.map(|(name, _)| name));
            }
            known.map(|(_, format)| *format)
        }
    };
    let Some(path) = &written.client_ca else {
        let help = "write the PEM file of the authorities that issue client certificates";
        context.missing(at, "`client_ca` is missing", help);
        return None;
    };
    let (trust, validities) = server_tls::trust(context, path, &written.client_crls, false, at)?;
    Some((ForwardedCertificates { format: format?, trust }, validities))
}

/// `redirect`: the port.
fn redirect(context: &mut Context<'_>, written: &Listen, at: At<'_>) -> Option<u16> {
    /// The default port of https (RFC 9110 §4.2.2).
    const HTTPS: u16 = 443;
    let text = written.redirect.as_deref()?;
    if written.tls.is_some() {
        context.error(at.key("redirect"), "requests to a listener with `tls` have come by https already");
    }
    let port = match text {
        "https" => Some(HTTPS),
        _ => text.strip_prefix("https:").and_then(|port| port.parse().ok()).filter(|port| *port > 0),
    };
    if port.is_none() {
        context
            .error(at.key("redirect"), "requests can only be redirected to https")
            .help("write `https`; or with a port other than 443: `\"https:8443\"`");
    }
    port
}

pub(super) fn address(context: &mut Context<'_>, written: Option<&str>, at: At<'_>) -> Option<SocketAddr> {
    const HELP: &str = "write an IP address and a port, such as `127.0.0.1:8080`, `0.0.0.0:443` or `[::1]:8080`";
    let Some(text) = written else {
        context.missing(at.key("address"), "`address` is missing", HELP);
        return None;
    };
    let address = text.parse().ok();
    if address.is_none() {
        context.error(at.key("address"), "this is not an address to listen on").help(HELP);
    }
    address
}

/// `trusted_proxies`.
pub(super) fn trusted_proxies(context: &mut Context<'_>, written: &[String], at: At<'_>) -> Vec<IpNet> {
    let networks = networks::list(context, written, at);
    if let Some(position) = networks.iter().position(|network| network.prefix_len() == 0) {
        context
            .warning(at.index(position), "every client is trusted to say which address it has")
            .help("list the networks of your own proxies: limits and records use the address that they pass on");
    }
    networks
}
