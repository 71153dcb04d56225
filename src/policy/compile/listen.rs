//! `listen` and `trusted_proxies`: addresses, TLS, client certificates, and whose forwarded headers are trusted.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::digest::{Context as Sha256, SHA256};
use ipnet::IpNet;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::context::Context;
use super::issue;
use crate::policy::document::{self, Document};
use crate::policy::source::SourceText;
use crate::policy::tls::{self, ServerProblem};
use crate::policy::tree::At;
use crate::policy::validity::Validity;
use crate::policy::{Listener, ListenerTls};
use crate::stages::auth::certificate::ClientTrust;

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
            let tls = tls
                .flatten()
                .map(|CompiledTls { server, trust }| (ListenerTls { config: server.config, trust }, server.validities));
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

/// TLS of a listener.
pub(super) struct CompiledTls {
    /// The validities are those of its clients' authorities and revocation lists, too.
    pub(super) server: tls::Server,
    /// Absent if no client certificates are requested.
    trust: Option<ClientTrust>,
}

/// `tls` of a listener.
pub(super) fn server_tls(context: &mut Context<'_>, written: &document::ListenTls, at: At<'_>) -> Option<CompiledTls> {
    let pair = match &written.issue {
        Some(issue) => {
            for (key, written) in [("certificate", written.certificate.is_some()), ("key", written.key.is_some())] {
                if written {
                    context.error(at.key(key), format!("`{key}` has no effect beside `issue`")).help("remove it");
                }
            }
            issue::issued(context, issue, at.key("issue")).map(|(chain, issued)| (Arc::new(chain), issued.key))
        }
        None => own_pair(context, written, at),
    };
    let (trust, validities) = client_trust(context, written, at)?.unzip();
    let (chain, key) = pair?;
    let verifier = trust.as_ref().map(|trust| Arc::clone(&trust.verifier));
    match tls::server(&chain, key.expose_secret().as_bytes(), verifier) {
        Ok(mut server) => {
            validity_problems(context, &server.validities, at.key("certificate"));
            server.validities.extend(validities.unwrap_or_default());
            Some(CompiledTls { server, trust })
        }
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

/// `certificate` and `key`.
fn own_pair(
    context: &mut Context<'_>,
    written: &document::ListenTls,
    at: At<'_>,
) -> Option<(Arc<SourceText>, SecretString)> {
    let (Some(certificate), Some(key)) = (&written.certificate, &written.key) else {
        context.missing(at, "TLS needs `certificate` and `key`", "write the paths of a PEM chain and of its PEM key");
        return None;
    };
    let chain = context.read_pem(at.key("certificate"), certificate);
    let key = context.private_key(key, at.key("key"));
    Some((chain?, key?))
}

/// Warns of certificates that are invalid or expire soon.
fn validity_problems(context: &mut Context<'_>, validities: &[Validity], at: At<'_>) {
    let now = Timestamp::now();
    for problem in validities.iter().filter_map(|validity| validity.problem(now)) {
        context.warning(at, problem);
    }
}

/// The authorities of client certificates, if they are requested. The outer `None`: problems were reported.
fn client_trust(
    context: &mut Context<'_>,
    written: &document::ListenTls,
    at: At<'_>,
) -> Option<Option<(ClientTrust, Vec<Validity>)>> {
    let Some(path) = &written.client_ca else {
        for key in ["client_certificate", "client_crls"] {
            if at.key(key).present() {
                context
                    .error(at.key(key), format!("`{key}` needs `client_ca`"))
                    .help("write the PEM file of the authorities that issue client certificates");
            }
        }
        return Some(None);
    };
    let required = match written.client_certificate.as_deref() {
        None | Some("optional") => false,
        Some("required") => true,
        Some(other) => {
            context.unknown(at.key("client_certificate"), "value", other, ["optional", "required"]);
            false
        }
    };
    let authorities = context.read_pem(at.key("client_ca"), path);
    let mut lists = Vec::new();
    for (position, path) in written.client_crls.iter().enumerate() {
        lists.push(context.read_pem(at.key("client_crls").index(position), path));
    }
    let (authorities, lists) = (authorities?, lists.into_iter().collect::<Option<Vec<_>>>()?);
    match tls::clients(&authorities, &lists, required) {
        Ok((verifier, validities)) => {
            validity_problems(context, &validities, at.key("client_ca"));
            let texts = std::iter::once(&authorities).chain(&lists).map(|source| &*source.text);
            let mut digest = Sha256::new(&SHA256);
            for text in texts {
                digest.update(&(text.len() as u64).to_be_bytes());
                digest.update(text.as_bytes());
            }
            let identity = digest.finish().as_ref().try_into().unwrap_or_default();
            Some(Some((ClientTrust { identity, verifier }, validities)))
        }
        Err(problem) => {
            context.error(at.key("client_ca"), format!("client certificates cannot be checked: {problem}"));
            None
        }
    }
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
