//! `consumers`, with their identities and API keys.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::attributes;
use super::clients;
use super::context::Context;
use super::key_rotations;
use super::names::plain_name;
use super::networks;
use super::plans::{self, Plans};
use crate::exchange::CertificateName;
use crate::exchange::networks::Networks;
use crate::policy::document::{self, Document};
use crate::policy::tree::At;
use crate::stages::auth::Consumer;
use crate::stages::auth::api_key::{ApiKeys, Digest, Key};
use crate::stages::auth::claims::OWN_ISSUER;
use crate::stages::auth::client::Clients;
use crate::stages::auth::key_rotation::KeyRotation;
use crate::stages::rate_limit::Plan;
use crate::state::registry::entry::{Identity, hex};

/// The consumers of a policy.
pub(super) struct Consumers {
    /// All of them.
    pub(super) listed: Vec<Arc<Consumer>>,
    /// Identities, with the consumer of each.
    pub(super) identities: Vec<(Identity, Arc<Consumer>)>,
    /// Their API keys.
    pub(super) keys: ApiKeys,
    /// Their clients.
    pub(super) clients: Clients,
}

/// `consumers`; keys older than `max_key_age` are refused.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    plans: &Plans,
    max_key_age: Option<SignedDuration>,
    at: At<'_>,
) -> Consumers {
    let keys = ApiKeys::new(max_key_age);
    let mut consumers = Consumers { listed: Vec::new(), identities: Vec::new(), keys, clients: Clients::default() };
    let mut known_identities = HashSet::new();
    let mut key_ids = HashSet::new();
    for (name, written) in &document.consumers {
        let at = at.key(name);
        plain_name(context, "consumer", name, at);
        let consumer = Arc::new(consumer(context, document, name, written, plans, at));
        for (position, identity) in written.identities.iter().enumerate() {
            let at = at.key("identities").index(position);
            if let Some(identity) = self::identity(context, document, identity, at) {
                if !known_identities.insert(identity.clone()) {
                    context.error(at, "this identity already belongs to a consumer");
                }
                consumers.identities.push((identity, Arc::clone(&consumer)));
            }
        }
        for (position, key) in written.keys.iter().enumerate() {
            let at = at.key("keys").index(position);
            if key.id.as_ref().is_some_and(|id| !key_ids.insert(id)) {
                context.error(at.key("id"), "another key has this id");
            }
            add_key(context, document, (written, key), &consumer, &mut consumers, at);
        }
        clients::compile(context, document, written, &consumer, &mut consumers.clients, at);
        consumers.listed.push(consumer);
    }
    let of_clients = consumers.clients.values().map(|client| {
        let identity = Identity::Issuer { issuer: OWN_ISSUER.into(), id: client.id.clone() };
        (identity, Arc::clone(&client.consumer))
    });
    consumers.identities.extend(of_clients);
    if let Some(stand_ins) = context.stand_ins {
        consumers.keys = consumers.keys.redigested(|id| stand_ins.api_key(id));
    }
    consumers
}

/// Adds a key, or keys that are made on schedule.
fn add_key(
    context: &mut Context<'_>,
    document: &Document,
    (consumer_written, written): (&document::Consumer, &document::Key),
    consumer: &Arc<Consumer>,
    consumers: &mut Consumers,
    at: At<'_>,
) {
    scopes(context, document, consumer_written, written, at);
    let networks = key_networks(context, consumer, written, at.key("from"));
    let max_key_age = consumers.keys.max_age();
    if let Some(rotate) = &written.rotate {
        let written = (&**consumer.name(), written, rotate);
        let rotation = key_rotations::compile(context, document, written, max_key_age, at);
        let rotation = rotation.map(|rotation| KeyRotation { networks: networks.clone(), ..rotation });
        let is_taken =
            |place: &KeyRotation| consumers.keys.rotations().iter().any(|other| other.deliver == place.deliver);
        if rotation.as_ref().is_some_and(is_taken) {
            context.error(at.key("rotate").key("deliver"), "other keys are delivered there");
        }
        if let (Some(rotation), Some(stand_ins)) = (&rotation, context.stand_ins) {
            // A rehearsal delivers nothing: there, it is a key like another.
            let key = Key {
                id: rotation.id.clone(),
                consumer: Arc::clone(consumer),
                scopes: rotation.scopes.clone(),
                networks,
                created: None,
                not_before: None,
                expires: None,
            };
            let _ = stand_ins.api_key(&rotation.id).is_some_and(|digest| consumers.keys.add(digest, key));
        }
        rotation.into_iter().for_each(|rotation| consumers.keys.rotate(rotation));
        return;
    }
    let Some((digest, key)) = self::key(context, written, consumer, at) else { return };
    let key = Key { networks, ..key };
    if max_key_age.is_some() && key.created.or(key.not_before).is_none() {
        context
            .error(at, "the age of this key is unknown, and `max_key_age` limits it")
            .help("write `created:` with the time at which it was created");
    }
    if !consumers.keys.add(digest, key) {
        context.error(at.key("sha256"), "another key has this digest");
    }
}

fn consumer(
    context: &mut Context<'_>,
    document: &Document,
    name: &str,
    written: &document::Consumer,
    plans: &Plans,
    at: At<'_>,
) -> Consumer {
    let roles = written.roles.clone().unwrap_or_default();
    for (position, role) in roles.iter().enumerate() {
        if !document.roles.contains_key(role) {
            context.unknown(at.key("roles").index(position), "role", role, document.roles.keys().map(String::as_str));
        }
    }
    let ceiling = written.roles.as_ref().map(|roles| {
        let scopes = roles.iter().filter_map(|role| document.roles.get(role)).flatten();
        scopes.map(|scope| Box::from(scope.as_str())).collect()
    });
    let plan = written.plan.as_ref().and_then(|plan| plans::named(context, document, plans, plan, at.key("plan")));
    if written.plan.is_none() && !document.plans.is_empty() && !at.damaged() {
        context
            .problems
            .warning(at.key_place(), format!("`{name}` has no plan, so its request rate is not limited"))
            .help("write `plan:` with the name of a plan");
    }
    let organization = organization(context, name, written, plan.as_deref(), at.key("organization"));
    let networks = networks::from(context, written.from.as_ref(), at.key("from"));
    let attributes = attributes::of_consumer(context, &written.attributes, at.key("attributes"));
    Consumer::new(name, roles, ceiling, plan)
        .of_organization(organization)
        .with_attributes(attributes)
        .only_from(networks)
}

fn organization<'w>(
    context: &mut Context<'_>,
    name: &str,
    written: &'w document::Consumer,
    plan: Option<&Plan>,
    at: At<'_>,
) -> Option<&'w str> {
    let organization = written.organization.as_deref();
    if let Some(written) = organization {
        plain_name(context, "organization", written, at);
    }
    let by_organization = plan.filter(|plan| plan.counts_by_organization());
    if let Some(plan) = by_organization.filter(|_| organization.is_none()) {
        let message = format!("`{name}` has no organization, so its plan `{}` counts it alone", plan.name());
        context.warning(at, message).help("write `organization:` with the name that its consumers share");
    }
    organization
}

fn identity(
    context: &mut Context<'_>,
    document: &Document,
    written: &document::Identity,
    at: At<'_>,
) -> Option<Identity> {
    const HELP: &str =
        "write `{ issuer: NAME, id: VALUE }`, `{ certificate: \"sha256:…\" }` or `{ certificate_san: \"dns:NAME\" }`";
    match (&written.issuer, &written.id, &written.certificate, &written.certificate_san) {
        (Some(issuer), Some(id), None, None) => {
            let known = document.auth.issuers.keys().chain(document.auth.introspection.keys());
            if !known.clone().any(|name| name == issuer) {
                context.unknown(at.key("issuer"), "issuer", issuer, known.map(String::as_str));
            }
            let tenants = document.auth.issuers.get(issuer).and_then(|issuer| issuer.tenants.as_ref());
            check_tenant(context, tenants, id, at.key("id"));
            Some(Identity::Issuer { issuer: issuer.as_str().into(), id: id.as_str().into() })
        }
        (None, None, Some(thumbprint), None) => {
            let digest = thumbprint.strip_prefix("sha256:").and_then(hex::decode);
            if digest.is_none() {
                context
                    .error(at.key("certificate"), "this is not the thumbprint of a certificate")
                    .help("write `sha256:` and 64 digits, as `openssl x509 -outform der | sha256sum` prints them");
            }
            digest.map(Identity::Certificate)
        }
        (None, None, None, Some(written)) => {
            let name = written.parse::<CertificateName>();
            if let Err(help) = name {
                context.error(at.key("certificate_san"), "this is not a name in a certificate").help(help);
            }
            name.ok().map(Identity::CertificateSan)
        }
        _ => {
            context.missing(at, "an identity is of an issuer or of a client certificate", HELP);
            None
        }
    }
}

/// Reports an id without its tenant, which no token would ever have.
fn check_tenant(context: &mut Context<'_>, tenants: Option<&Vec<String>>, id: &str, at: At<'_>) {
    let Some(tenants) = tenants else { return };
    let tenant = id.split_once('/').map(|(tenant, _)| tenant);
    if !tenant.is_some_and(|tenant| tenants.iter().any(|known| known == tenant)) {
        context
            .error(at, "this id begins with no tenant of its issuer")
            .help("write `TENANT/ID`: the issuer has `tenants`, and each of them has ids of its own");
    }
}

/// The scopes that a key has.
fn scopes(
    context: &mut Context<'_>,
    document: &Document,
    consumer_written: &document::Consumer,
    written: &document::Key,
    at: At<'_>,
) {
    match &consumer_written.roles {
        None => {
            context
                .warning(at, "this key has no scopes: its consumer has no roles")
                .help("an API key has the scopes of its consumer's `roles`");
        }
        Some(roles) => {
            let allowed: HashSet<_> = roles.iter().filter_map(|role| document.roles.get(role)).flatten().collect();
            for (position, scope) in written.scopes.iter().flatten().enumerate() {
                if !allowed.contains(scope) {
                    context
                        .warning(
                            at.key("scopes").index(position),
                            "the roles of the consumer do not include this scope",
                        )
                        .help("`scopes` of a key narrow what its consumer's roles allow; they add nothing");
                }
            }
        }
    }
}

/// `from` of a key.
fn key_networks(
    context: &mut Context<'_>,
    consumer: &Consumer,
    written: &document::Key,
    at: At<'_>,
) -> Option<Networks> {
    let networks = networks::from(context, written.from.as_ref(), at)?;
    if consumer.networks().is_some_and(|of_consumer| !of_consumer.meet(&networks)) {
        context
            .warning(at, "this key cannot be used from anywhere: its consumer's `from` has none of these networks")
            .help("`from` of a key narrows that of its consumer");
    }
    Some(networks)
}

fn key(
    context: &mut Context<'_>,
    written: &document::Key,
    consumer: &Arc<Consumer>,
    at: At<'_>,
) -> Option<(Digest, Key)> {
    let created = context.time(written.created.as_deref(), at.key("created"));
    let not_before = context.time(written.not_before.as_deref(), at.key("not_before"));
    let expires = context.time(written.expires.as_deref(), at.key("expires"));
    if let (Some(not_before), Some(expires)) = (not_before, expires)
        && expires <= not_before
    {
        context.error(at.key("expires"), "this key expires before it becomes valid");
    }
    if expires.is_some_and(|expires| expires <= Timestamp::now()) {
        context.warning(at.key("expires"), "this key has expired").help("remove it, or give it a later `expires`");
    }
    let (Some(id), Some(sha256)) = (&written.id, &written.sha256) else {
        context.missing(
            at,
            "a key needs `id` and `sha256`",
            "write `{ id: NAME, sha256: \"64 hexadecimal digits\" }`, or `rotate:` in place of `sha256`",
        );
        return None;
    };
    let Some(digest) = hex::decode(sha256) else {
        context
            .error(at.key("sha256"), "this is not a SHA-256 digest in hexadecimal")
            .help("64 digits, as `printf %s KEY | sha256sum` prints them");
        return None;
    };
    let scopes = written.scopes.as_ref();
    let scopes = scopes.map(|scopes| scopes.iter().map(|scope| Box::from(scope.as_str())).collect());
    let key = Key {
        id: id.as_str().into(),
        consumer: Arc::clone(consumer),
        scopes,
        networks: None,
        created,
        not_before,
        expires,
    };
    Some((digest, key))
}
