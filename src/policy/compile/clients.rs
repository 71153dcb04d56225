//! `consumers.*.clients`: the clients of the token service.

use std::sync::Arc;

use jiff::Timestamp;

use super::auth::keys::{self, Keys};
use super::context::Context;
use crate::policy::document::{self, Document};
use crate::policy::tree::At;
use crate::stages::auth::Consumer;
use crate::stages::auth::client::{Client, ClientCredential, ClientSecret, Clients};
use crate::state::registry::entry::hex;

/// Most secrets of one client: one, and the one that takes its place.
const MAX_SECRETS: usize = 2;

/// The clients of one consumer; adds them to those of others.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    written: &document::Consumer,
    consumer: &Arc<Consumer>,
    clients: &mut Clients,
    at: At<'_>,
) {
    let at = at.key("clients");
    if !written.clients.is_empty() && document.token_service.is_none() {
        context
            .problems
            .error(at.key_place(), "clients need the token service")
            .help("write `token_service:` with an `issuer` and an `audience`");
    }
    if !written.clients.is_empty() && written.roles.is_none() {
        context
            .warning(at, "these clients have no scopes: their consumer has no roles")
            .help("a client has the scopes of its consumer's `roles`");
    }
    for (position, written) in written.clients.iter().enumerate() {
        let at = at.index(position);
        exchange(context, document, written, at.key("exchange"));
        if let Some((id, credential)) = client(context, written, at) {
            add(context, written, (id, credential), consumer, clients, at);
        }
    }
}

/// Adds a client, or a second secret of one that is there.
fn add(
    context: &mut Context<'_>,
    written: &document::Client,
    (id, credential): (&str, ClientCredential),
    consumer: &Arc<Consumer>,
    clients: &mut Clients,
    at: At<'_>,
) {
    let exchange = written.exchange.iter().map(|name| Box::from(name.as_str()));
    let (dpop, introspect) = (written.dpop.unwrap_or(false), written.introspect.unwrap_or(false));
    // Nothing else has it yet.
    let Some(known) = clients.get_mut(id).and_then(Arc::get_mut) else {
        let client = Client {
            id: id.into(),
            consumer: Arc::clone(consumer),
            credential,
            scopes: None,
            networks: None,
            created: None,
            issued: None,
            expires: None,
            dpop,
            exchange: exchange.collect(),
            introspect,
        };
        clients.insert(id.into(), Arc::new(client));
        return;
    };
    match (&mut known.credential, credential) {
        (ClientCredential::Secrets(secrets), ClientCredential::Secrets(secret))
            if known.consumer.name() == consumer.name() && secrets.len() < MAX_SECRETS =>
        {
            secrets.extend(secret);
        }
        _ => {
            context.error(at.key("id"), "another client has this id").help(
                "two entries of one consumer with `secret_sha256` may have the same id, while a secret is replaced",
            );
        }
    }
    if (known.dpop, known.introspect) != (dpop, introspect) || !known.exchange.iter().cloned().eq(exchange) {
        context.error(at, "both entries of a client have the same `dpop`, `exchange` and `introspect`");
    }
}

fn client<'w>(
    context: &mut Context<'_>,
    written: &'w document::Client,
    at: At<'_>,
) -> Option<(&'w str, ClientCredential)> {
    const HELP: &str = "write `{ id: NAME, secret_sha256: \"64 hexadecimal digits\" }`, `{ id: NAME, jwks: FILE }` or \
                        `{ id: NAME, certificate: \"sha256:…\" }`";
    let created = context.time(written.created.as_deref(), at.key("created"));
    let expires = context.time(written.expires.as_deref(), at.key("expires"));
    if written.secret_sha256.is_none() {
        for key in ["created", "expires"] {
            if at.key(key).present() {
                context.error(at.key(key), format!("`{key}` is about a secret, and this client has none"));
            }
        }
    }
    if expires.is_some_and(|expires| expires <= Timestamp::now()) {
        context.warning(at.key("expires"), "this secret has expired").help("remove it, or give it a later `expires`");
    }
    let id = written.id.as_deref().filter(|id| !id.is_empty());
    let credential = match (&written.secret_sha256, &written.jwks, &written.certificate) {
        (Some(sha256), None, None) => secret(context, sha256, (created, expires), at.key("secret_sha256")),
        (None, Some(path), None) => match keys::jwks_file(context, path, at.key("jwks"))? {
            Keys::Fixed(set) => Some(ClientCredential::Keys(set)),
            Keys::Remote(_) => None,
        },
        (None, None, Some(thumbprint)) => {
            let digest = thumbprint.strip_prefix("sha256:").and_then(hex::decode);
            if digest.is_none() {
                context
                    .error(at.key("certificate"), "this is not the thumbprint of a certificate")
                    .help("write `sha256:` and 64 digits, as `openssl x509 -outform der | sha256sum` prints them");
            }
            digest.map(ClientCredential::Certificate)
        }
        _ => {
            context.missing(at, "a client has a secret, keys or a certificate, and one of them only", HELP);
            None
        }
    };
    let valid = id.is_some_and(|id| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()));
    if id.is_none() {
        context.missing(at.key("id"), "a client needs an `id`", HELP);
    } else if !valid {
        context.error(at.key("id"), "a client id is 1 to 128 visible ASCII characters without spaces");
    }
    id.filter(|_| valid).zip(credential)
}

fn secret(
    context: &mut Context<'_>,
    sha256: &str,
    (created, expires): (Option<Timestamp>, Option<Timestamp>),
    at: At<'_>,
) -> Option<ClientCredential> {
    let Some(sha256) = hex::decode(sha256) else {
        context.error(at, "this is not a SHA-256 digest in hexadecimal").help(
            "64 digits, as `printf %s SECRET | sha256sum` prints them; make a secret with `openssl rand -hex 32`",
        );
        return None;
    };
    Some(ClientCredential::Secrets(vec![ClientSecret { sha256, created, expires }]))
}

fn exchange(context: &mut Context<'_>, document: &Document, written: &document::Client, at: At<'_>) {
    for (position, name) in written.exchange.iter().enumerate() {
        if !document.auth.issuers.contains_key(name) {
            context.unknown(at.index(position), "issuer", name, document.auth.issuers.keys().map(String::as_str));
        }
    }
}
