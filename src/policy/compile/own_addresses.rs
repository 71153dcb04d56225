//! The proxy's own addresses: listeners that cannot be bound beside each other, and upstreams that lead back to the proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::context::Context;
use crate::policy::document::Document;
use crate::policy::tree::At;

/// Reports listeners of which `run` could bind only one. Keeps their addresses for [`upstream`].
pub(super) fn listeners(context: &mut Context<'_>, document: &Document, at: At<'_>) {
    let parsed = |address: &Option<String>| address.as_deref().and_then(|text| text.parse::<SocketAddr>().ok());
    let mut known: Vec<SocketAddr> = Vec::new();
    for (position, listen) in document.listen.iter().enumerate() {
        let Some(address) = parsed(&listen.address) else { continue };
        // An address that is listed twice has been reported.
        if !known.contains(&address) {
            beside(context, address, &known, at.key("listen").index(position).key("address"));
            known.push(address);
        }
    }
    if let Some(address) = document.admin.as_ref().and_then(|admin| parsed(&admin.address)) {
        beside(context, address, &known, at.key("admin").key("address"));
    }
    context.own_addresses = known;
}

fn beside(context: &mut Context<'_>, address: SocketAddr, known: &[SocketAddr], at: At<'_>) {
    let overlaps = |other: &&SocketAddr| {
        // Port 0 is a free port each time.
        let same_port = other.port() == address.port() && address.port() != 0;
        same_port && (covers(other.ip(), address.ip()) || covers(address.ip(), other.ip()))
    };
    let Some(other) = known.iter().find(overlaps) else { return };
    let message = match *other == address {
        true => format!("{address} is also an address for requests"),
        false => format!("{address} and {other} cannot be bound together: one contains the other"),
    };
    context.error(at, message).help("choose another port, or remove one; `[::]` contains every IPv6 and IPv4 address");
}

/// Reports a server of an upstream that is a listener of this proxy.
pub(super) fn upstream(context: &mut Context<'_>, host: &str, port: u16, at: At<'_>) {
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if host.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
        Err(_) => return,
    };
    // An unspecified address reaches this machine. Which others do is not known here: Via finds those loops.
    let local = ip.is_loopback() || ip.is_unspecified();
    let leads_back = |own: &SocketAddr| own.port() == port && (own.ip() == ip || local && covers(own.ip(), ip));
    if context.own_addresses.iter().any(leads_back) {
        context
            .error(at, "this server is the proxy itself: every request would come back to it")
            .help("write the address of the API");
    }
}

/// Whether a socket bound to `bound` takes connections to `ip`. `[::]` takes those over IPv4, too (RFC 3493 §3.7).
fn covers(bound: IpAddr, ip: IpAddr) -> bool {
    match bound {
        _ if bound == ip => true,
        IpAddr::V4(bound) => bound.is_unspecified() && ip.is_ipv4(),
        IpAddr::V6(bound) => bound.is_unspecified(),
    }
}
