//! Kong's services: where they are, as the `upstream` of an API.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::node::{Node, Notes};
use super::paths;
use crate::cli::init::yaml;

/// Most retries of a request here.
const MOST_RETRIES: u32 = 5;

/// What is taken over of a service.
const KNOWN: [&str; 15] = [
    "name",
    "url",
    "protocol",
    "host",
    "port",
    "path",
    "retries",
    "connect_timeout",
    "read_timeout",
    "write_timeout",
    "routes",
    "plugins",
    "enabled",
    "ca_certificates",
    "client_certificate",
];

/// Where a service is.
pub(super) struct Service {
    /// The lines below `upstream`, without `host`.
    pub(super) upstream: String,
    /// The host that servers are asked for, if it is not their own.
    pub(super) host: Option<String>,
    /// What is put before each path; empty or a path.
    pub(super) base: String,
}

/// Scheme, host, port and path.
struct Address<'t> {
    scheme: &'t str,
    host: &'t str,
    port: u16,
    path: &'t str,
}

/// Reads a service; `None`, with a note, if it must be left out.
pub(super) fn read(node: Node<'_>, upstreams: &BTreeMap<&str, Node<'_>>, notes: &mut Notes) -> Option<Service> {
    if node.is("enabled", "false") {
        notes.add(node, "this service is switched off, so it is left out");
        return None;
    }
    if node.placeholder().is_some() {
        notes.add(
            node,
            "this service is left out: it has a value that only decK or Kong knows; write the value, then run it again",
        );
        return None;
    }
    node.only(&KNOWN, "services", notes);
    let Some(address) = address(node) else {
        notes.add(
            node,
            "this service is left out: it is not at an http or https host with a plain path; write its API yourself",
        );
        return None;
    };
    if address.scheme == "https" {
        notes.add(node, "certificates of the servers are verified here; write `tls: { ca: FILE }` under `upstream` if a private authority signs them");
    }
    if node.get("client_certificate").is_some() {
        notes.add(
            node,
            "the client certificate is not taken over; write `tls: { certificate: FILE, key: FILE }` under `upstream`",
        );
    }
    let balanced = upstreams.get(address.host).copied();
    let (mut upstream, mut host) = (String::new(), None);
    let servers = match balanced {
        None => vec![format!("{}://{}:{}", address.scheme, address.host, address.port)],
        Some(entity) => {
            host = entity.text("host_header").filter(|host| is_host(host)).map(str::to_owned);
            targets(entity, address.scheme, notes)
        }
    };
    if servers.is_empty() {
        notes.add(node, "this service is left out: its upstream has no target that can be read");
        return None;
    }
    let _ = writeln!(upstream, "      servers: {}", yaml::list(&servers));
    if let Some(entity) = balanced {
        balance(&mut upstream, entity, notes);
    }
    timeouts(&mut upstream, node, notes);
    Some(Service { upstream, host, base: if address.path == "/" { String::new() } else { address.path.to_owned() } })
}

fn address(node: Node<'_>) -> Option<Address<'_>> {
    let (scheme, authority, path) = match node.text("url") {
        Some(url) => {
            let (scheme, rest) = url.split_once("://")?;
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (scheme, authority, if path.is_empty() { "/" } else { path })
        }
        None => (node.text("protocol").unwrap_or("http"), node.text("host")?, node.text("path").unwrap_or("/")),
    };
    let default = match (scheme, node.get("url").is_some()) {
        ("https", true) => 443,
        ("http" | "https", _) => 80,
        _ => return None,
    };
    let (host, port) = if node.get("url").is_some() {
        host_and_port(authority, default)?
    } else {
        (authority, node.text("port").map_or(Some(default), |port| port.parse().ok())?)
    };
    (is_host(host) && port > 0 && paths::is_literal(path)).then_some(Address { scheme, host, port, path })
}

fn host_and_port(authority: &str, default: u16) -> Option<(&str, u16)> {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => Some((host, port.parse().ok()?)),
        _ => Some((authority, default)),
    }
}

fn is_host(host: &str) -> bool {
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match name {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&host.len())
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                && host.starts_with(|c: char| c.is_ascii_alphanumeric())
                && !host.ends_with('.')
        }
    }
}

/// The servers of an upstream.
fn targets(entity: Node<'_>, scheme: &str, notes: &mut Notes) -> Vec<String> {
    let (mut servers, mut weights) = (Vec::new(), Vec::new());
    for target in entity.items("targets") {
        let weight = target.text("weight").unwrap_or("100");
        if weight == "0" {
            continue;
        }
        let address = target.text("target").and_then(|text| host_and_port(text, 8000));
        match address.filter(|(host, port)| is_host(host) && *port > 0) {
            Some((host, port)) => {
                let server = format!("{scheme}://{host}:{port}");
                if !servers.contains(&server) {
                    servers.push(server);
                    weights.push(weight);
                }
            }
            None => notes.add(target, "this target is not a host and a port, so it is left out"),
        }
    }
    if weights.windows(2).any(|two| two.first() != two.last()) {
        notes.add(entity, "weights are not taken over: all servers get the same share");
    }
    servers
}

/// Writes how servers are chosen, and what is asked of them.
fn balance(text: &mut String, entity: Node<'_>, notes: &mut Notes) {
    match entity.text("algorithm") {
        None | Some("round-robin") => {}
        Some("least-connections") => text.push_str("      balance: least_requests\n"),
        Some(_) => notes.add(
            entity,
            "this `algorithm` has no counterpart, so servers take turns; `balance: least_requests` is the other choice",
        ),
    }
    const KNOWN: [&str; 6] = ["name", "targets", "algorithm", "host_header", "healthchecks", "slots"];
    entity.only(&KNOWN, "upstreams", notes);
    let checks = entity.get("healthchecks");
    let active = checks.and_then(|checks| checks.get("active"));
    let every = active.and_then(|active| active.get("healthy")).and_then(|healthy| healthy.number("interval"));
    if let (Some(active), Some(every)) = (active, every.filter(|every| *every > 0)) {
        let path = active.text("http_path").unwrap_or("/");
        if paths::is_literal(path) {
            let _ = writeln!(text, "      health: {{ path: {}, every: {every}s }}", yaml::value(path));
        } else {
            notes.add(active, "this `http_path` is not a plain path, so servers are not asked; write `health`");
        }
    }
    if let Some(passive) = checks.and_then(|checks| checks.get("passive")) {
        let unhealthy = passive.get("unhealthy");
        let counts = |key| unhealthy.and_then(|unhealthy| unhealthy.number(key)).is_some_and(|count| count > 0);
        if counts("http_failures") || counts("tcp_failures") || counts("timeouts") {
            notes.add(passive, "passive health checks are taken over with other numbers: see `eject`");
            text.push_str("      eject: { after: 5, for: 30s }\n");
        }
    }
}

fn timeouts(text: &mut String, node: Node<'_>, notes: &mut Notes) {
    for (key, written) in
        [("connect_timeout", &["connect_timeout"][..]), ("read_timeout", &["response_timeout", "idle_timeout"])]
    {
        // A day is more than any request needs.
        let period = node.number(key).filter(|ms| (1..=86_400_000).contains(ms));
        let Some(ms) = period else {
            if node.get(key).is_some() {
                notes.add(node, format!("this `{key}` is not taken over: it is not from 1 to 86400000 milliseconds"));
            }
            continue;
        };
        let period = if ms % 1000 == 0 { format!("{}s", ms / 1000) } else { format!("{ms}ms") };
        for name in written {
            let _ = writeln!(text, "      {name}: {period}");
        }
    }
    if let Some(retries) = node.number("retries").filter(|retries| *retries > 0) {
        let _ = writeln!(text, "      retries: {}", retries.min(MOST_RETRIES));
    }
}
