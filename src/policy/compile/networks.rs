//! Networks: `from` and `trusted_proxies`.

use ipnet::IpNet;

use super::context::Context;
use crate::exchange::networks::{HOW_TO_WRITE, Networks, network};
use crate::policy::tree::At;

/// A list of networks; what is none is reported.
pub(super) fn list(context: &mut Context<'_>, written: &[String], at: At<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (position, text) in written.iter().enumerate() {
        match network(text) {
            Some(network) => networks.push(network),
            None => {
                context.error(at.index(position), "this is not a network").help(HOW_TO_WRITE);
            }
        }
    }
    networks
}

/// `from`.
pub(super) fn from(context: &mut Context<'_>, written: Option<&Vec<String>>, at: At<'_>) -> Option<Networks> {
    let written = written?;
    if written.is_empty() && !at.damaged() {
        context
            .error(at, "an empty list lets nobody in")
            .help("write a network, such as `10.0.0.0/8`, or remove the key");
    }
    let networks = list(context, written, at);
    if let Some(position) = networks.iter().position(|network| network.prefix_len() == 0) {
        let message = format!(
            "every {} address is in this network",
            if networks.get(position).is_some_and(|network| network.addr().is_ipv4()) { "IPv4" } else { "IPv6" }
        );
        context.warning(at.index(position), message).help("name the networks that are meant, or remove the key");
    }
    let networks = Networks::new(networks)?;
    if context.trusted_proxies.as_ref().is_some_and(|proxies| proxies.meet(&networks)) {
        context
            .warning(at, "it has addresses of `trusted_proxies`: what comes from them without the name of a client is in no network")
            .help("name networks of clients alone, and see that each proxy writes `X-Forwarded-For`; list proxies alone under `trusted_proxies`");
    }
    Some(networks)
}
