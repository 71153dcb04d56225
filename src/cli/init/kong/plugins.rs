//! What Kong's plugins do to a route: what the policy can say of it, or that the route is better left out.

use std::collections::BTreeMap;

use super::limits::Windows;
use super::node::{Node, Notes};
use crate::cli::init::yaml;

/// Plugins that neither admit nor refuse requests. Without them, an API is as closed as before.
pub(super) const HARMLESS: [&str; 23] = [
    "correlation-id",
    "datadog",
    "file-log",
    "grpc-gateway",
    "http-log",
    "kafka-log",
    "loggly",
    "opentelemetry",
    "prometheus",
    "proxy-cache",
    "proxy-cache-advanced",
    "request-transformer",
    "request-transformer-advanced",
    "response-transformer",
    "response-transformer-advanced",
    "response-ratelimiting",
    "statsd",
    "statsd-advanced",
    "syslog",
    "tcp-log",
    "udp-log",
    "zipkin",
    "exit-transformer",
];

/// The plugins of one entity, or those that count for one route, by name.
pub(super) type Plugins<'t> = BTreeMap<&'t str, Plugin<'t>>;

/// A plugin that is enabled.
#[derive(Clone, Copy)]
pub(super) struct Plugin<'t> {
    pub(super) node: Node<'t>,
    /// Where it is set: the entity whose callers are counted together.
    pub(super) origin: Origin,
}

/// Which entity a plugin is set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Global,
    Service,
    Route,
    Consumer,
}

/// Which credentials a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Credentials {
    /// None: it is open to everyone.
    None,
    Key,
    Token,
    Either,
}

impl Credentials {
    pub(super) fn key(self) -> bool {
        matches!(self, Self::Key | Self::Either)
    }

    pub(super) fn token(self) -> bool {
        matches!(self, Self::Token | Self::Either)
    }
}

/// The groups of an `acl`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Acl {
    /// Whether callers of these groups are admitted, or refused.
    pub(super) allows: bool,
    /// Sorted.
    pub(super) groups: Vec<String>,
}

impl Acl {
    /// Whether it admits a caller with these groups.
    pub(super) fn admits(&self, groups: &[&str]) -> bool {
        groups.iter().any(|group| self.groups.iter().any(|known| known == group)) == self.allows
    }
}

/// What the plugins of a route come to.
pub(super) struct Effect {
    pub(super) credentials: Credentials,
    pub(super) acl: Option<Acl>,
    /// Networks; empty: any.
    pub(super) from: Vec<String>,
    /// In bytes.
    pub(super) max_size: Option<u64>,
    /// Lines of `cors`, or empty.
    pub(super) cors: String,
    /// With where the plugin is set, and its place.
    pub(super) limit: Option<(Windows, Origin, (usize, usize))>,
}

/// Reads the enabled plugins of a list.
pub(super) fn read<'t>(nodes: &[Node<'t>], origin: Origin, notes: &mut Notes) -> Plugins<'t> {
    let mut plugins = Plugins::new();
    for node in nodes {
        let Some(name) = node.text("name") else {
            notes.add(*node, "this plugin has no name, so it is not taken over");
            continue;
        };
        if node.is("enabled", "false") {
            continue;
        }
        if plugins.insert(name, Plugin { node: *node, origin }).is_some() {
            notes.add(*node, format!("a second `{}` is set here; only this one counts", yaml::comment(name)));
        }
    }
    plugins
}

/// The effect on a route, or `None`, with a note, if the route must be left out so that it is not more open than in Kong.
pub(super) fn effect(plugins: &Plugins<'_>, key_in: &str, notes: &mut Notes) -> Option<Effect> {
    let mut effect = Effect {
        credentials: credentials(plugins, notes)?,
        acl: None,
        from: Vec::new(),
        max_size: None,
        cors: String::new(),
        limit: None,
    };
    for (name, plugin) in plugins {
        let node = plugin.node;
        let unread = node.placeholder();
        match *name {
            "key-auth" | "jwt" => {}
            name if HARMLESS.contains(&name) => {
                notes.add(node, format!("`{name}` is not taken over; the records of `audit`, `telemetry`, and `headers` of an API may do what it did"));
            }
            "cors" | "rate-limiting" | "request-size-limiting" if unread.is_some() => {
                notes.add(
                    node,
                    format!(
                        "`{name}` has a value that only decK or Kong knows, so it is not taken over; write it yourself"
                    ),
                );
            }
            "cors" => effect.cors = cors(node, key_in, notes),
            "rate-limiting" => {
                effect.limit = Windows::read(node, notes).map(|windows| (windows, plugin.origin, node.place()));
            }
            "request-size-limiting" => effect.max_size = max_size(node, notes),
            "acl" if unread.is_none() => effect.acl = Some(acl(node, effect.credentials, notes)?),
            "ip-restriction" if unread.is_none() => effect.from = networks(node, notes)?,
            name => {
                notes.add(
                    node,
                    format!(
                        "the routes with `{}` are left out, because without it they might be more open; write what it did, and then the routes",
                        yaml::comment(name)
                    ),
                );
                return None;
            }
        }
    }
    Some(effect)
}

fn credentials(plugins: &Plugins<'_>, notes: &mut Notes) -> Option<Credentials> {
    let anonymous =
        |plugin: &Plugin<'_>| plugin.node.get("config").is_some_and(|config| config.get("anonymous").is_some());
    for name in ["key-auth", "jwt"] {
        let Some(plugin) = plugins.get(name) else { continue };
        if plugin.node.placeholder().is_some() {
            notes.add(
                plugin.node,
                format!("the routes with this `{name}` are left out: it has a value that only decK or Kong knows"),
            );
            return None;
        }
        if anonymous(plugin) {
            notes.add(plugin.node, "callers without a credential were an anonymous consumer; here they are refused. Write `public: true` on the routes that are open");
        }
        settings(name, plugin.node, notes);
    }
    match (plugins.get("key-auth"), plugins.get("jwt")) {
        (None, None) => Some(Credentials::None),
        (Some(_), None) => Some(Credentials::Key),
        (None, Some(_)) => Some(Credentials::Token),
        (Some(key), Some(token)) if anonymous(key) || anonymous(token) => Some(Credentials::Either),
        (Some(key), Some(_)) => {
            notes.add(key.node, "the routes with `key-auth` and `jwt` are left out: they took both credentials together, and here a request has one; write `authenticate_by` with the one that counts");
            None
        }
    }
}

/// Reports settings of `key-auth` and `jwt` that are different here.
fn settings(name: &str, node: Node<'_>, notes: &mut Notes) {
    let config = node.get("config");
    if name == "key-auth" {
        if !config.is_some_and(|config| config.is("hide_credentials", "true")) {
            notes.add(node, "the API got the key (`hide_credentials`), and here it does not; write `forward_credentials: true` under its `upstream` if it needs the key");
        }
        if config.is_some_and(|config| config.is("key_in_body", "true")) {
            notes.add(node, "keys in bodies are not taken; send them in the header");
        }
        return;
    }
    let Some(config) = config else { return };
    if config.text("key_claim_name").is_some_and(|claim| claim != "iss") {
        notes.add(node, "`key_claim_name` is not `iss`: tokens are only found by `iss` here, so these are refused; write their issuer under `auth.issuers`");
    }
    if !config.texts("cookie_names").is_empty()
        || config.texts("header_names").iter().any(|name| !name.eq_ignore_ascii_case("authorization"))
    {
        notes.add(node, "tokens are only taken from `Authorization`; write other places under `auth.tokens.from`");
    }
    if config.is("secret_is_base64", "true") {
        notes.add(
            node,
            "secrets were Base64 of the bytes that sign; the variables of the policy need the bytes themselves",
        );
    }
}

fn acl(node: Node<'_>, credentials: Credentials, notes: &mut Notes) -> Option<Acl> {
    let config = node.get("config");
    let groups = |keys: [&str; 2]| {
        let found = config.into_iter().flat_map(|config| keys.into_iter().flat_map(move |key| config.texts(key)));
        let mut groups: Vec<String> = found.map(str::to_owned).collect();
        groups.sort();
        groups.dedup();
        groups
    };
    let (allowed, denied) = (groups(["allow", "whitelist"]), groups(["deny", "blacklist"]));
    let acl = match (allowed.is_empty(), denied.is_empty()) {
        (false, true) => Acl { allows: true, groups: allowed },
        (true, false) => {
            notes.add(node, "`deny`: its scope is for the consumers that are in none of these groups now; give its role to new consumers");
            Acl { allows: false, groups: denied }
        }
        _ => {
            notes.add(node, "the routes with this `acl` are left out: it has neither `allow` nor `deny`, or both");
            return None;
        }
    };
    if credentials == Credentials::None {
        notes.add(node, "the routes with this `acl` are left out: nothing says who the caller is, so Kong refuses all");
        return None;
    }
    Some(acl)
}

/// The networks of an `ip-restriction`; `None`, with a note, if it says more than these.
pub(super) fn networks(node: Node<'_>, notes: &mut Notes) -> Option<Vec<String>> {
    let config = node.get("config")?;
    let texts = |key| config.texts(key);
    let allowed: Vec<&str> = texts("allow").into_iter().chain(texts("whitelist")).collect();
    if allowed.is_empty()
        || !allowed.iter().all(|text| is_network(text))
        || !texts("deny").is_empty()
        || !texts("blacklist").is_empty()
    {
        notes.add(node, "what has this `ip-restriction` is left out: only lists of networks that are allowed have a counterpart; write `from:` with these");
        return None;
    }
    Some(allowed.into_iter().map(str::to_owned).collect())
}

fn max_size(node: Node<'_>, notes: &mut Notes) -> Option<u64> {
    let config = node.get("config");
    let size = config.map_or(Some(128), |config| match config.get("allowed_payload_size") {
        None => Some(128),
        Some(_) => config.number("allowed_payload_size"),
    });
    let unit = match config.and_then(|config| config.text("size_unit")).unwrap_or("megabytes") {
        "bytes" => Some(1),
        "kilobytes" => Some(1 << 10),
        "megabytes" => Some(1 << 20),
        _ => None,
    };
    let size = size.zip(unit).map(|(size, unit)| u64::from(size) * unit).filter(|size| *size > 0);
    if size.is_none() {
        notes.add(node, "this size cannot be read, so `limits.body_size` counts; write `request.max_size`");
    }
    size
}

/// The lines of `cors` below an API, or nothing if no origin is left.
fn cors(node: Node<'_>, key_in: &str, notes: &mut Notes) -> String {
    let Some(config) = node.get("config") else {
        notes.add(
            node,
            "`cors` without settings let in every page; it is not taken over, so write `cors` with your own pages",
        );
        return String::new();
    };
    let (given, credentials) = (config.texts("origins"), config.is("credentials", "true"));
    let mut origins: Vec<&str> = given.iter().copied().filter(|text| is_origin(text)).collect();
    origins.sort_unstable();
    origins.dedup();
    if origins.len() < given.len() {
        notes.add(
            node,
            "origins that are regular expressions, or occur twice, are left out; write each as `https://HOST`",
        );
    }
    if given.is_empty() || given.contains(&"*") {
        if credentials {
            notes.add(node, "with `*` and `credentials`, every page could act for the people who visit it; `cors` is left out, so list your own pages");
            return String::new();
        }
        origins = vec!["*"];
    }
    if origins.is_empty() {
        return String::new();
    }
    let names = |key| {
        let is_name = |text: &&str| *text != "*" && text.parse::<http::HeaderName>().is_ok();
        config.texts(key).into_iter().filter(is_name).collect::<Vec<_>>()
    };
    let mut headers = names("headers");
    if headers.is_empty() {
        notes.add(
            node,
            "`headers` was empty, so pages could send every header; here these three, so add what they need",
        );
        headers = vec!["authorization", "content-type", key_in];
    }
    let mut text = format!("      origins: {}\n      headers: {}\n", yaml::list(&origins), yaml::list(&headers));
    if !names("exposed_headers").is_empty() {
        text.push_str(&format!("      expose: {}\n", yaml::list(&names("exposed_headers"))));
    }
    if credentials {
        text.push_str("      credentials: true\n");
    }
    if let Some(seconds) = config.number("max_age").filter(|seconds| *seconds > 0) {
        text.push_str(&format!("      max_age: {seconds}s\n"));
    }
    if config.is("preflight_continue", "true") {
        notes.add(node, "preflights are answered here and do not reach the API (`preflight_continue`)");
    }
    text
}

/// Scheme, host and port, and nothing that a regular expression has.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
    ["http", "https"].contains(&scheme)
        && !host.is_empty()
        && !host.ends_with(':')
        && host.bytes().all(is_host)
        && host.parse::<http::uri::Authority>().is_ok()
}

/// Whether this is an address, or a network with the length of its prefix.
fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "0"));
    let most = address.parse::<std::net::IpAddr>().map(|address| if address.is_ipv4() { 32 } else { 128 });
    most.is_ok_and(|most| prefix.parse::<u8>().is_ok_and(|prefix| prefix <= most))
}
