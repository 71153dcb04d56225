//! `apis.*.upstream.tls`: which servers are believed, and what they are shown.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::policy::compile::context::{ClientTls, Context};
use crate::policy::document::UpstreamTls;
use crate::policy::tls::{self, KeyPin};
use crate::policy::tree::At;
use crate::policy::upstream::{HTTP_2, Server};
use crate::state::registry::entry::hex;

/// TLS with the servers of an API. It is compiled with the first `https` server.
pub(super) struct Trusted<'a> {
    written: &'a UpstreamTls,
    /// Whether HTTP/2 is asked for, and nothing else.
    http2: bool,
    /// The inner `None`: problems were reported.
    compiled: Option<Option<Compiled>>,
}

#[derive(Clone)]
struct Compiled {
    config: Arc<ClientConfig>,
    identity: String,
}

impl Compiled {
    /// Asks for HTTP/2 in the handshake (RFC 7301, RFC 9113 §3.2).
    fn asking(self, http2: bool) -> Self {
        if !http2 {
            return self;
        }
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Self { config: Arc::new(config), ..self }
    }
}

/// TLS with one server.
pub(super) struct ServerTls {
    pub(super) name: ServerName<'static>,
    pub(super) config: Arc<ClientConfig>,
    /// Equal if the same servers are believed, and shown the same.
    pub(super) identity: String,
}

impl<'a> Trusted<'a> {
    pub(super) fn new(written: &'a UpstreamTls, http2: bool) -> Self {
        Self { written, http2, compiled: None }
    }

    /// For a server with this host. `at` is the place of `tls`, `place` that of the server.
    pub(super) fn server(
        &mut self,
        context: &mut Context<'_>,
        host: &str,
        at: At<'_>,
        place: At<'_>,
    ) -> Option<ServerTls> {
        let Self { written, http2, compiled } = self;
        let compiled = compiled.get_or_insert_with(|| compile(context, written, at).map(|one| one.asking(*http2)));
        let compiled = compiled.clone()?;
        let (written, place) = match &written.server_name {
            Some(name) => (name.as_str(), at.key("server_name")),
            None => (host, place),
        };
        let Ok(name) = ServerName::try_from(written.to_owned()) else {
            context.error(place, "this host name cannot occur in a certificate");
            return None;
        };
        let identity = format!("{written} {}", compiled.identity);
        Some(ServerTls { name, config: compiled.config, identity })
    }

    /// Reports settings that no server needs.
    pub(super) fn unused(&self, context: &mut Context<'_>, servers: &[Arc<Server>], at: At<'_>) {
        if at.present() && !servers.is_empty() && servers.iter().all(|server| server.tls.is_none()) {
            context
                .error(at, "`tls` has no effect: no server is `https`")
                .help("write `https://` before its host, or remove `tls`");
        }
    }
}

fn compile(context: &mut Context<'_>, written: &UpstreamTls, at: At<'_>) -> Option<Compiled> {
    let UpstreamTls { ca, certificate, key, pin, .. } = written;
    let shown = ClientTls { ca: ca.as_ref(), certificate: certificate.as_ref(), key: key.as_ref() };
    let trust = context.client_tls(&shown, at);
    let mut pins: Vec<KeyPin> = Vec::new();
    let places = at.key("pin");
    if pin.as_ref().is_some_and(|pin| pin.0.is_empty()) {
        context.error(places, "no server has a key of an empty list").help("write the keys, or remove `pin`");
        return None;
    }
    for (position, pin) in pin.iter().flat_map(|pin| &pin.0).enumerate() {
        let Some(digest) = pin.strip_prefix("sha256:").and_then(hex::decode) else {
            let place = places.index(position);
            context
                .error(if place.present() { place } else { places }, "this is not the SHA-256 of a public key")
                .help("write `sha256:` and 64 digits, as `openssl x509 -in CERTIFICATE -noout -pubkey | openssl pkey -pubin \
                       -outform der | sha256sum` prints them");
            return None;
        };
        pins.push(digest);
    }
    let trust = trust?;
    if pins.is_empty() {
        return Some(Compiled { config: trust.config, identity: trust.identity.to_string() });
    }
    let authorities = match ca {
        Some(path) => Some(context.read_pem(at.key("ca"), path)?),
        None => None,
    };
    match tls::pinned(&trust.config, authorities.as_ref().map(|file| file.text.as_bytes()), &pins) {
        Ok(config) => {
            let pins: String = pins.iter().map(|pin| format!(" {}", hex::encode(pin))).collect();
            Some(Compiled { config, identity: format!("{}{pins}", trust.identity) })
        }
        Err(problem) => {
            context.error(at, format!("TLS cannot be set up: {problem}"));
            None
        }
    }
}
