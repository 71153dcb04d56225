//! `token_service`: its own issuer, its endpoints, its keys.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::apis::Apis;
use super::auth::keys::{MIN_ENTROPY, max_entropy};
use super::context::Context;
use crate::policy::document::{self, Document, Secret};
use crate::policy::path_mapping::PathMapping;
use crate::policy::router::{Conflict, Pattern};
use crate::policy::token_service::{API, OwnEndpoint, RefreshSettings, TokenService};
use crate::policy::tree::At;
use crate::policy::{Access, Api, Own, Reporting, Route};
use crate::stages::auth::client::{ClientCredential, Clients};
use crate::stages::auth::locations::CredentialLocations;
use crate::stages::rate_limit::{Limit, RouteLimits};
use crate::stages::schema::{Bounds, Requirement};
use crate::state::ledger::LimitId;
use crate::state::registry::StoreConfig;
use crate::state::signing::{SealSource, SigningAlgorithm, SigningSettings};
use crate::url::{Form, HttpUrl};

/// Default of `access_token.lifetime`, and its bounds.
const LIFETIME: Duration = Duration::from_secs(600);
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
/// Defaults of `refresh_token`.
const REFRESH_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
const REFRESH_IDLE: Duration = Duration::from_secs(7 * 24 * 3600);
const REFRESH_GRACE: Duration = Duration::from_secs(10);
/// Longest `refresh_token.grace`: a stolen token could be used for as long.
const MAX_GRACE: Duration = Duration::from_secs(300);
/// Default of `keys.rotate`, and its shortest value.
const ROTATE: Duration = Duration::from_secs(30 * 24 * 3600);
const MIN_ROTATE: Duration = Duration::from_secs(3600);
/// Shortest `keys.seal`, in bytes.
const MIN_SEAL: usize = 32;
/// Largest body of a request.
const MAX_BODY: u64 = 64 * 1024;
/// How long a request may take to arrive.
const DEADLINE: Duration = Duration::from_secs(10);

/// `token_service`; adds its endpoints to the routes.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    (store, clients): (Option<&StoreConfig>, &Clients),
    apis: &mut Apis,
    at: At<'_>,
) -> Option<TokenService> {
    if document.apis.contains_key(API) {
        let at = at.key("apis").key(API);
        context.problems.error(at.key_place(), "this name is taken by the token service").help("rename the API");
    }
    let written = document.token_service.as_ref()?;
    let at = at.key("token_service");
    if document.store.is_none() {
        context.missing(
            at,
            "the token service needs a store for its keys and refresh tokens",
            "write `store: state/` for one node, or `store: { redis: URL }` for several",
        );
    }
    if clients.is_empty() && document.self_service.is_none() && !at.damaged() {
        context.problems.warning(at.key_place(), "the token service has no clients").help(
            "write `clients:` under a consumer, such as `{ id: acme-1, secret_sha256: \"64 hexadecimal digits\" }`, or \
             `self_service:`, so that consumers can be invited",
        );
    }
    if written.audience.is_empty() {
        let help = "write what its tokens are for, such as `audience: [orders-api]`";
        context.missing(at.key("audience"), "`audience` is missing", help);
    }
    let signing = signing(context, document, written, store, at);
    let refresh = written.refresh_token.as_ref().map(|one| refresh(context, one, at.key("refresh_token")));
    let url = issuer_url(context, written, at.key("issuer"))?;
    let service = TokenService {
        issuer: written.issuer.as_deref()?.into(),
        audience: written.audience.iter().map(|name| Box::from(name.as_str())).collect(),
        refresh,
        signing: signing.filter(|_| store.is_some()),
        has_certificates: clients.values().any(|one| matches!(one.credential, ClientCredential::Certificate(_))),
    };
    endpoints(context, written, &url, apis, at);
    Some(service)
}

fn issuer_url(context: &mut Context<'_>, written: &document::TokenService, at: At<'_>) -> Option<HttpUrl> {
    let Some(text) = &written.issuer else {
        let help = "write the URL under which clients reach this proxy, such as `https://api.example.com`";
        context.missing(at, "`issuer` is missing", help);
        return None;
    };
    match HttpUrl::parse(text, Form::IDENTIFIER) {
        Ok(url) if url.is_safe() => Some(url),
        Ok(_) => {
            context.error(at, "an issuer has an https URL: tokens can be stolen in transit over plain http");
            None
        }
        Err(error) => {
            context.error(at, error.message).help(error.help);
            None
        }
    }
}

fn signing(
    context: &mut Context<'_>,
    document: &Document,
    written: &document::TokenService,
    store: Option<&StoreConfig>,
    at: At<'_>,
) -> Option<SigningSettings> {
    let (access, keys) = (at.key("access_token"), at.key("keys"));
    let lifetime = context.period(access.key("lifetime"), written.access_token.lifetime, LIFETIME);
    if !(LIFETIMES.0..=LIFETIMES.1).contains(&lifetime) {
        context.error(access.key("lifetime"), "an access token is valid for 1m to 24h");
    }
    let name = written.access_token.algorithm.as_deref().unwrap_or("ES256");
    let algorithm =
        SigningAlgorithm::ALL.into_iter().find_map(|(known, algorithm)| (known == name).then_some(algorithm));
    if algorithm.is_none() {
        context.unknown(access.key("algorithm"), "algorithm", name, SigningAlgorithm::ALL.map(|(known, _)| known));
    }
    let rotate = context.period(keys.key("rotate"), written.keys.rotate, ROTATE);
    if rotate < MIN_ROTATE {
        context.error(keys.key("rotate"), "a key signs for at least 1h");
    }
    let seal = seal(context, document, written, store, keys);
    for (position, Secret(seal)) in written.keys.seal_before.iter().enumerate() {
        check_seal(context, seal, keys.key("seal_before").index(position));
    }
    let seals_before = written.keys.seal_before.iter().map(|Secret(seal)| seal.clone()).collect();
    Some(SigningSettings { algorithm: algorithm?, rotate, lifetime, seal: seal?, seals_before })
}

/// A seal protects what it seals only if nobody can guess it.
fn check_seal(context: &mut Context<'_>, seal: &SecretString, at: At<'_>) {
    let secret = seal.expose_secret().as_bytes();
    if secret.len() < MIN_SEAL || max_entropy(secret) < MIN_ENTROPY {
        context
            .error(at, "the seal can be guessed: it needs at least 32 random characters")
            .help("generate one: `openssl rand -hex 32`");
    }
}

/// `keys.seal`.
fn seal(
    context: &mut Context<'_>,
    document: &Document,
    written: &document::TokenService,
    store: Option<&StoreConfig>,
    keys: At<'_>,
) -> Option<SealSource> {
    match (&written.keys.seal, store) {
        (Some(seal), _) => {
            check_seal(context, seal, keys.key("seal"));
            Some(SealSource::Secret(seal.clone()))
        }
        (None, Some(StoreConfig::Embedded { folder })) => Some(SealSource::Folder(folder.clone())),
        (None, _) => {
            if document.store.as_ref().is_some_and(|store| store.redis.is_some()) {
                context.missing(
                    keys.key("seal"),
                    "`seal` is missing: keys in Redis are encrypted with it",
                    "write a reference to a secret that all nodes have, such as `seal: \"${env:SEAL}\"`",
                );
            }
            None
        }
    }
}

fn refresh(context: &mut Context<'_>, written: &document::RefreshToken, at: At<'_>) -> RefreshSettings {
    let lifetime = context.period(at.key("lifetime"), written.lifetime, REFRESH_LIFETIME);
    let idle = context.period(at.key("idle"), written.idle, REFRESH_IDLE);
    let grace = context.period(at.key("grace"), written.grace, REFRESH_GRACE);
    if grace > MAX_GRACE {
        context.error(at.key("grace"), "`grace` is at most 5m: a stolen token can be used for as long");
    }
    RefreshSettings { lifetime, idle, grace }
}

/// Adds the endpoints to the routes, as those of an API of the issuer's host.
fn endpoints(context: &mut Context<'_>, written: &document::TokenService, url: &HttpUrl, apis: &mut Apis, at: At<'_>) {
    let hosts: Box<[Box<str>]> = Box::new([url.host().to_ascii_lowercase().into()]);
    let index = apis.apis.len();
    let api = Arc::new(Api::own(index, API, hosts, CredentialLocations::none()));
    apis.apis.push(Arc::clone(&api));
    for (endpoint, method, _) in OwnEndpoint::ALL {
        let name = format!("{method} {}", endpoint.path(url.uri().path()));
        let Ok(pattern) = Pattern::parse(&name) else {
            context.error(at.key("issuer"), "the path of this URL cannot be part of a route");
            return;
        };
        let rate = written.rate.and_then(|rate| {
            let limit = Limit::rate(LimitId::route(API, &name), "route", rate.count, rate.per, None);
            limit.map_err(|problem| context.error(at.key("rate"), problem)).ok()
        });
        let route = Arc::new(Route {
            index: apis.routes.len(),
            name: name.as_str().into(),
            api: Arc::clone(&api),
            access: Access::Public,
            networks: None,
            limits: RouteLimits { rate, class: None, cost: std::num::NonZeroU32::MIN },
            request: Requirement::new(Bounds { max_size: MAX_BODY, outer_size: MAX_BODY, deadline: DEADLINE }),
            response: None,
            reporting: Reporting::default(),
            mask_reporting: Reporting::default(),
            mapping: PathMapping::Same,
            keeps_encoded_slash: false,
            own: Some(Own::TokenService(endpoint)),
            shown: None,
            websocket: None,
        });
        match apis.router.add(api.hosts(), &pattern, &route) {
            Ok(()) => apis.routes.push(route),
            Err(Conflict(other)) => {
                let message = format!("`{}` of `{}` matches the same requests", other.name(), other.api().name());
                context.error(at, message).help("give the API other `hosts`, or the issuer a path");
            }
        }
    }
}
