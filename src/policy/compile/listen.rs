//! `listen` and `trusted_proxies`: addresses, and whose forwarded headers are trusted.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::context::Context;
use super::server_tls::server_tls;
use crate::policy::document::Document;
use crate::policy::tree::At;
use crate::policy::{Listener, ListenerTls};

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
        if let Some(address) = address {
            // Also with port 0: listeners are distinguished by their address when the policy is reloaded.
            if !seen.insert(address) {
                context.error(at.key("address"), format!("the address {address} is listed twice"));
            }
            let tls = tls.flatten().map(|tls| (ListenerTls { config: tls.config, trust: tls.trust }, tls.validities));
            let (tls, validities) = tls.unzip();
            listeners.push(Listener { address, tls, validities: validities.unwrap_or_default() });
        }
    }
    listeners
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
pub(super) fn networks(context: &mut Context<'_>, written: &[String], at: At<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (position, text) in written.iter().enumerate() {
        match text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) {
            Some(network) => {
                if network.prefix_len() == 0 {
                    context.warning(at.index(position), "every client is trusted to say which address it has").help(
                        "list the networks of your own proxies: limits and records use the address that they pass on",
                    );
                }
                networks.push(network);
            }
            None => {
                context
                    .error(at.index(position), "this is not a network")
                    .help("write it with its prefix length, such as `10.0.0.0/8` or `fd00::/8`");
            }
        }
    }
    networks
}
