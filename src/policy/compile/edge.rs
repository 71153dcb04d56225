//! What faces outward: listeners, deadlines, limits, the admin listener, trusted proxies, and where the record goes.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context as Context256, SHA256};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use super::context::Context;
use crate::audit::SinkConfig;
use crate::policy::document::{self, Audit, Document, Sink, Workers};
use crate::policy::tls::{self, ServerProblem};
use crate::policy::tree::At;
use crate::policy::units::Size;
use crate::policy::{Admin, AdminPlace, AdminSocket, AdminToken, Limits, Listener, ListenerTls, Rights, Timeouts};
use crate::stages::auth::certificate::ClientTrust;

/// Default of `admin.socket.mode`: its owner alone.
const SOCKET_MODE: u32 = 0o600;
/// Longest path of a Unix socket, in bytes: `sun_path` has 108, and the last of them is NUL.
const MAX_SOCKET_PATH: usize = 107;
/// An admin token shorter than this gets a warning, in bytes.
const SHORT_TOKEN: usize = 16;

/// Workers asked for.
pub(super) fn workers(document: &Document) -> Option<usize> {
    match document.workers {
        Some(Workers::Count(count)) => usize::try_from(count).ok(),
        Some(Workers::Auto) | None => None,
    }
}

/// `timeouts`, with the defaults of the language.
pub(super) fn timeouts(context: &mut Context<'_>, written: &document::Timeouts, at: At<'_>) -> Timeouts {
    Timeouts {
        request_headers: context.period(at.key("request_headers"), written.request_headers, Duration::from_secs(10)),
        idle: context.period(at.key("idle"), written.idle, Duration::from_secs(75)),
        drain: context.period(at.key("drain"), written.drain, Duration::from_secs(30)),
    }
}

/// `timeouts.request_body`, which routes take as their default.
pub(super) fn request_body(context: &mut Context<'_>, document: &Document, at: At<'_>) -> Duration {
    let at = at.key("timeouts").key("request_body");
    context.period(at, document.timeouts.request_body, Duration::from_secs(30))
}

/// `limits`, with the defaults of the language.
pub(super) fn limits(context: &mut Context<'_>, written: &document::Limits, at: At<'_>) -> Limits {
    let header_size = written.header_size.map_or(32 * 1024, |Size(bytes)| bytes);
    if !(1024..=1024 * 1024).contains(&header_size) {
        context.error(at.key("header_size"), "`header_size` is between 1KiB and 1MiB");
    }
    let headers = written.headers.unwrap_or(100);
    if !(8..=1000).contains(&headers) {
        context.error(at.key("headers"), "`headers` is between 8 and 1000");
    }
    let (connections, per_client) = (written.connections.unwrap_or(10_000), written.per_client.unwrap_or(1000));
    for (name, count) in [("connections", connections), ("per_client", per_client)] {
        if count == 0 {
            context.error(at.key(name), format!("`{name}` is at least 1"));
        }
    }
    Limits {
        header_size: usize::try_from(header_size).unwrap_or(usize::MAX),
        headers: headers as usize,
        connections: connections as usize,
        per_client: per_client as usize,
    }
}

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
                context.error(at.key("address"), format!("{address} is listened on twice"));
            }
            listeners.push(Listener { address, tls: tls.flatten() });
        }
    }
    listeners
}

/// `admin`.
pub(super) fn admin(context: &mut Context<'_>, written: Option<&document::Admin>, at: At<'_>) -> Option<Admin> {
    let written = written?;
    let mut tokens = Vec::new();
    if let Some(token) = &written.token {
        short(context, token, at.key("token"));
        tokens.push(AdminToken { name: "admin".into(), token: token.clone(), rights: Rights::Operate });
    }
    for (position, token) in written.tokens.iter().enumerate() {
        tokens.extend(admin_token(context, token, at.key("tokens").index(position)));
    }
    let mut places = Vec::new();
    if let Some(written) = &written.socket {
        places.extend(admin_socket(context, written, at.key("socket")).map(AdminPlace::Socket));
    }
    if written.address.is_some() || written.socket.is_none() {
        places.extend(address(context, written.address.as_deref(), at).map(AdminPlace::Address));
    }
    Some(Admin { places, tokens })
}

fn admin_socket(context: &mut Context<'_>, written: &document::AdminSocket, at: At<'_>) -> Option<AdminSocket> {
    let mode = match &written.mode {
        None => Some(SOCKET_MODE),
        Some(text) => {
            let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777);
            if mode.is_none() {
                context.error(at.key("mode"), "these are not the permissions of a file").help(
                    "write three octal digits in quotes: \"0600\" for its owner alone, \"0660\" for its group, too",
                );
            }
            mode
        }
    };
    if mode.is_some_and(|mode| mode & 0o002 != 0) {
        context
            .warning(at.key("mode"), "everybody on this machine may connect")
            .help("a group of those who operate it is enough: \"0660\"");
    }
    let Some(path) = written.path.as_deref().filter(|path| !path.is_empty()) else {
        context.missing(at.key("path"), "`path` is missing", "write where it is, such as `path: run/bartizan.sock`");
        return None;
    };
    let path = context.sources.path(path);
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        context
            .error(at.key("path"), format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes, folder included"))
            .help("choose a shorter one, such as /run/bartizan/admin.sock");
        return None;
    }
    Some(AdminSocket { path, mode: mode? })
}

fn admin_token(context: &mut Context<'_>, written: &document::AdminToken, at: At<'_>) -> Option<AdminToken> {
    let rights = match written.rights.as_deref() {
        None | Some("read") => Rights::Read,
        Some("operate") => Rights::Operate,
        Some(other) => {
            context.unknown(at.key("rights"), "right", other, ["read", "operate"]);
            Rights::Read
        }
    };
    let (Some(name), Some(token)) = (&written.name, &written.token) else {
        context.missing(
            at,
            "an admin token needs `name` and `token`",
            "write who has it, and the token as a reference",
        );
        return None;
    };
    short(context, token, at.key("token"));
    Some(AdminToken { name: name.as_str().into(), token: token.clone(), rights })
}

fn short(context: &mut Context<'_>, token: &SecretString, at: At<'_>) {
    if token.expose_secret().len() < SHORT_TOKEN {
        context
            .warning(at, "the admin token is short")
            .help("a token of 32 random characters cannot be guessed: `openssl rand -hex 32`");
    }
}

fn address(context: &mut Context<'_>, written: Option<&str>, at: At<'_>) -> Option<SocketAddr> {
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

fn server_tls(context: &mut Context<'_>, written: &document::ListenTls, at: At<'_>) -> Option<ListenerTls> {
    let (Some(certificate), Some(key)) = (&written.certificate, &written.key) else {
        context.missing(at, "TLS needs `certificate` and `key`", "write the paths of a PEM chain and of its PEM key");
        return None;
    };
    let chain = context.read(at.key("certificate"), certificate);
    let key = private_key(context, key, at.key("key"));
    let trust = client_trust(context, written, at)?;
    let (chain, key) = (chain?, key?);
    let verifier = trust.as_ref().map(|trust| Arc::clone(&trust.verifier));
    match tls::server(chain.text.as_bytes(), key.expose_secret().as_bytes(), verifier) {
        Ok(config) => Some(ListenerTls { config, trust }),
        Err(ServerProblem::Certificate(problem)) => {
            context.error(at.key("certificate"), format!("the certificate {problem}"));
            None
        }
        Err(ServerProblem::Key(problem)) => {
            context.error(at.key("key"), format!("the key {problem}"));
            None
        }
    }
}

/// Who vouches for clients, where certificates are asked of them. The outer `None`: its problems have been told.
fn client_trust(context: &mut Context<'_>, written: &document::ListenTls, at: At<'_>) -> Option<Option<ClientTrust>> {
    let Some(path) = &written.client_ca else {
        for key in ["client_certificate", "client_crls"] {
            if at.key(key).present() {
                context.error(at.key(key), format!("`{key}` needs `client_ca`")).help("write who vouches for clients");
            }
        }
        return Some(None);
    };
    let required = match written.client_certificate.as_deref() {
        None | Some("optional") => false,
        Some("required") => true,
        Some(other) => {
            context.unknown(at.key("client_certificate"), "way to ask", other, ["optional", "required"]);
            false
        }
    };
    let authorities = context.read(at.key("client_ca"), path);
    let mut lists = Vec::new();
    for (position, path) in written.client_crls.iter().enumerate() {
        lists.push(context.read(at.key("client_crls").index(position), path));
    }
    let (authorities, lists) = (authorities?, lists.into_iter().collect::<Option<Vec<_>>>()?);
    match tls::clients(authorities.text.as_bytes(), &lists, required) {
        Ok(verifier) => {
            let texts = std::iter::once(&authorities).chain(&lists).map(|source| &*source.text);
            let mut digest = Context256::new(&SHA256);
            for text in texts {
                digest.update(&(text.len() as u64).to_be_bytes());
                digest.update(text.as_bytes());
            }
            let identity = digest.finish().as_ref().try_into().unwrap_or_default();
            Some(Some(ClientTrust { identity, verifier }))
        }
        Err(problem) => {
            context.error(at.key("client_ca"), format!("client certificates cannot be checked: {problem}"));
            None
        }
    }
}

/// A key is a file; one that came through a reference may be the PEM itself.
pub(super) fn private_key(context: &mut Context<'_>, written: &SecretString, at: At<'_>) -> Option<SecretString> {
    if written.expose_secret().contains("-----BEGIN ") {
        return Some(written.clone());
    }
    match context.sources.read_secret(written.expose_secret()) {
        Ok(key) => Some(key),
        Err(error) => {
            context.unreadable(at, &error, error.help());
            None
        }
    }
}

/// `trusted_proxies`.
pub(super) fn networks(context: &mut Context<'_>, written: &[String], at: At<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (position, text) in written.iter().enumerate() {
        match text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) {
            Some(network) => networks.push(network),
            None => {
                context
                    .error(at.index(position), "this is not a network")
                    .help("write it with its prefix length, such as `10.0.0.0/8` or `fd00::/8`");
            }
        }
    }
    networks
}

/// `audit`; standard output when it is absent, nowhere only when `none` is written.
pub(super) fn sinks(context: &mut Context<'_>, written: Option<&Audit>, at: At<'_>) -> Vec<SinkConfig> {
    let sinks = match written {
        None if at.damaged() => return Vec::new(),
        None => return vec![SinkConfig::Stdout { readable: None }],
        Some(Audit::None) => return Vec::new(),
        Some(Audit::Sinks(sinks)) => sinks,
    };
    if sinks.is_empty() {
        context.missing(
            at,
            "the record goes nowhere",
            "write `audit: none` if that is meant, or a sink such as `stdout`",
        );
    }
    let mut configs = Vec::new();
    for (position, sink) in sinks.iter().enumerate() {
        let at = at.index(position);
        let config = match sink {
            Sink::Stdout => Some(SinkConfig::Stdout { readable: None }),
            Sink::File(file) => file_sink(context, file, at.key("file")),
        };
        if let Some(config) = config {
            if configs.contains(&config) {
                context.error(at, "this sink is listed twice");
            }
            configs.push(config);
        }
    }
    configs
}

fn file_sink(context: &mut Context<'_>, written: &document::FileSink, at: At<'_>) -> Option<SinkConfig> {
    let Some(path) = &written.path else {
        context.missing(at.key("path"), "`path` is missing", "write `file: { path: audit.jsonl }`");
        return None;
    };
    let path = context.sources.path(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        context.error(at.key("path"), "the folder of this file does not exist").help("create it first");
    }
    Some(SinkConfig::File { path })
}
