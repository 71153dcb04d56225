//! Who vouches for callers: issuers of tokens and introspection endpoints.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey};
use secrecy::{ExposeSecret, SecretString};

use super::callers::{plain_name, plan};
use super::context::Context;
use super::edge::private_key;
use crate::policy::document::{self, Document};
use crate::policy::tree::At;
use crate::policy::units::Period;
use crate::stages::auth::fetch::is_safe;
use crate::stages::auth::introspection::{ClientAuthentication, Introspection};
use crate::stages::auth::jwt::{Issuer, Settings};
use crate::stages::auth::key_set::KeySet;
use crate::stages::auth::key_source::{KeySource, Location, RemoteKeys};
use crate::stages::rate_limit::Plan;

/// Default of `clock_skew`, in seconds.
const CLOCK_SKEW: i64 = 30;
/// Largest `clock_skew`, in seconds: more would keep expired tokens alive.
const MAX_CLOCK_SKEW: i64 = 300;
/// A longer `max_lifetime` gets a warning, in seconds: a leaked token is valid for that long.
const LONG_LIFETIME: i64 = 24 * 3600;
/// Default of `stale_for`.
const STALE_FOR: Duration = Duration::from_secs(24 * 3600);
/// A longer time gets a warning: withdrawn keys stay valid for that long when the issuer cannot be reached.
const LONG_STALE_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// Default of an endpoint's `cache`.
const BELIEVED: Duration = Duration::from_secs(10);
/// A longer time gets a warning: a token that the endpoint revokes stays valid for that long.
const LONG_BELIEVED: Duration = Duration::from_secs(300);
/// What `type` may be.
const ACCESS_TOKEN: &str = "at+jwt";
/// A secret that cannot have more bits of chance than this is refused, however long it is.
const LEAST_CHANCE: f64 = 96.0;
/// What `algorithms` may name.
const ALGORITHMS: [&str; 12] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"];

/// The keys of one issuer.
enum Keys {
    /// Those of a file or a secret.
    Fixed(Arc<KeySet>),
    /// Those to fetch.
    Remote(Box<RemoteKeys>),
}

/// Names the keys of an issuer; issuers with the same key set share it.
fn source(keys: Keys, key_sets: &mut Vec<RemoteKeys>) -> KeySource {
    match keys {
        Keys::Fixed(set) => KeySource::Fixed(set),
        Keys::Remote(keys) => {
            KeySource::Remote(key_sets.iter().position(|known| *known == *keys).unwrap_or_else(|| {
                key_sets.push(*keys);
                key_sets.len() - 1
            }))
        }
    }
}

/// `auth.issuers`.
pub(super) fn issuers(
    context: &mut Context<'_>,
    document: &Document,
    plans: &BTreeMap<String, Arc<Plan>>,
    at: At<'_>,
) -> (Vec<Issuer>, Vec<RemoteKeys>) {
    let mut issuers = Vec::new();
    let mut key_sets: Vec<RemoteKeys> = Vec::new();
    let mut known: HashMap<&str, &str> = HashMap::new();
    for (name, written) in &document.auth.issuers {
        let at = at.key(name);
        plain_name(context, "issuer", name, at);
        let settings = settings(context, document, name, written, plans, at);
        let mut keys = keys(context, written, at);
        if let (Some(settings), Some(keys)) = (&settings, &keys) {
            warn_of_idle_algorithms(context, settings, keys, at);
        }
        if let Some(settings) = &settings
            && let Some(set) = context.stand_ins.and_then(|stand_ins| stand_ins.issuer(name, &settings.algorithms))
        {
            keys = keys.map(|_| Keys::Fixed(set));
        }
        if let Some(iss) = &written.issuer
            && let Some(other) = known.insert(iss, name)
        {
            context.error(at.key("issuer"), format!("issuer `{other}` has the same `iss`"));
        }
        if let (Some(settings), Some(keys)) = (settings, keys) {
            issuers.push(Issuer::new(settings, source(keys, &mut key_sets)));
        }
    }
    (issuers, key_sets)
}

fn settings(
    context: &mut Context<'_>,
    document: &Document,
    name: &str,
    written: &document::Issuer,
    plans: &BTreeMap<String, Arc<Plan>>,
    at: At<'_>,
) -> Option<Settings> {
    if written.audience.is_empty() {
        let help = "write who tokens must be meant for, such as `audience: [orders-api]`";
        context.missing(at.key("audience"), "`audience` is missing", help);
    }
    let algorithms = algorithms(context, written, at.key("algorithms"));
    match written.token_type.as_deref() {
        None | Some(ACCESS_TOKEN) => {}
        Some(other) => context.unknown(at.key("type"), "type of access token", other, [ACCESS_TOKEN]),
    }
    let skew = written.clock_skew.map_or(CLOCK_SKEW, |Period(skew)| i64::try_from(skew.as_secs()).unwrap_or(i64::MAX));
    if skew > MAX_CLOCK_SKEW {
        context.error(at.key("clock_skew"), "a clock skew of more than 5m would keep expired tokens alive");
    }
    let default_plan = written.default_plan.as_ref();
    let default_plan = default_plan.and_then(|plan| self::plan(context, document, plans, plan, at.key("default_plan")));
    let Some(iss) = &written.issuer else {
        context.missing(at.key("issuer"), "`issuer` is missing", "write the exact `iss` of its tokens");
        return None;
    };
    let max_lifetime = written.max_lifetime.map(|Period(most)| i64::try_from(most.as_secs()).unwrap_or(i64::MAX));
    match max_lifetime {
        None if !at.damaged() => {
            context
                .problems
                .warning(at.key_place(), format!("nothing bounds how long tokens of `{name}` live"))
                .help("write `max_lifetime:` with what the issuer gives, such as `1h`");
        }
        Some(most) if most > LONG_LIFETIME => {
            context
                .warning(at.key("max_lifetime"), "tokens may live for more than a day")
                .help("short tokens that are renewed lose less when one leaks");
        }
        _ => {}
    }
    Some(Settings {
        name: name.into(),
        iss: iss.as_str().into(),
        audience: written.audience.clone(),
        algorithms,
        typed: written.token_type.is_some(),
        max_lifetime,
        clock_skew: skew,
        consumer_claim: written.consumer_claim.clone(),
        scope_claim: written.scope_claim.clone(),
        role_claim: written.role_claim.clone(),
        default_plan,
    })
}

fn algorithms(context: &mut Context<'_>, written: &document::Issuer, at: At<'_>) -> Vec<Algorithm> {
    if written.algorithms.is_empty() {
        context.missing(at, "`algorithms` is missing", "write what its tokens are signed with, such as `[RS256]`");
    }
    let shared = written.secret.is_some();
    let mut algorithms = Vec::new();
    for (position, name) in written.algorithms.iter().enumerate() {
        let at = at.index(position);
        match name.parse::<Algorithm>() {
            Ok(algorithm) if (algorithm.family() == AlgorithmFamily::Hmac) == shared => algorithms.push(algorithm),
            Ok(_) if shared => {
                context.error(at, "`secret` goes with HS256, HS384 and HS512 only");
            }
            Ok(_) => {
                context
                    .error(at, "HS* is signed with a shared secret")
                    .help("write `secret:` in place of `keys:`, or an algorithm with public keys");
            }
            Err(_) if name == "none" => {
                context.error(at, "tokens that are not signed are never taken");
            }
            Err(_) => context.unknown(at, "algorithm", name, ALGORITHMS),
        }
    }
    algorithms
}

fn keys(context: &mut Context<'_>, written: &document::Issuer, at: At<'_>) -> Option<Keys> {
    match (&written.keys, &written.secret) {
        (None, None) => {
            let help = "write `keys:` with a JWKS URL, or a JWKS or PEM file; `secret:` for HS*";
            context.missing(at.key("keys"), "`keys` is missing", help);
            None
        }
        (Some(_), Some(_)) => {
            context.error(at.key("secret"), "an issuer has `keys` or `secret`, not both");
            None
        }
        (None, Some(secret)) => shared_secret(context, written, secret, at.key("secret")),
        (Some(keys), None) if keys == "discover" => discovered_keys(context, written, at),
        (Some(keys), None) if keys.contains("://") => {
            let url = safe_url(context, keys, at.key("keys"))?;
            fetched(context, written, Location::Jwks(url), at)
        }
        (Some(keys), None) => key_file(context, keys, at.key("keys")),
    }
}

/// RFC 7518 §3.2: the secret is at least as long as the hash.
fn shared_secret(
    context: &mut Context<'_>,
    written: &document::Issuer,
    secret: &SecretString,
    at: At<'_>,
) -> Option<Keys> {
    let least = match written.algorithms.iter().map(String::as_str).max() {
        Some("HS512") => 64,
        Some("HS384") => 48,
        _ => 32,
    };
    let secret = secret.expose_secret().as_bytes();
    if secret.len() < least {
        context.error(at, format!("the secret is too short: it needs at least {least} bytes (RFC 7518)"));
        return None;
    }
    if most_chance(secret) < LEAST_CHANCE {
        context
            .error(at, "the secret is long, and can be guessed all the same (RFC 8725 §3.5)")
            .help("it repeats a few characters; make one by chance: `openssl rand -hex 32`");
        return None;
    }
    Some(Keys::Fixed(Arc::new(KeySet::from_secret(secret))))
}

/// Bits of chance that a secret has at most: those of its length, if each byte were drawn from those that are in it.
fn most_chance(secret: &[u8]) -> f64 {
    let mut different = secret.to_vec();
    different.sort_unstable();
    different.dedup();
    secret.len() as f64 * (different.len() as f64).log2()
}

fn discovered_keys(context: &mut Context<'_>, written: &document::Issuer, at: At<'_>) -> Option<Keys> {
    // Its absence is reported elsewhere.
    let issuer = written.issuer.as_ref()?;
    let Some(location) = Location::discover(issuer) else {
        context
            .error(at.key("issuer"), "this issuer cannot be asked where its keys are: it is no https URL")
            .help("write `keys:` with the URL of its JWKS in place of `discover`");
        return None;
    };
    fetched(context, written, location, at)
}

fn fetched(context: &mut Context<'_>, written: &document::Issuer, location: Location, at: At<'_>) -> Option<Keys> {
    let stale_for = context.period(at.key("stale_for"), written.stale_for, STALE_FOR);
    if stale_for > LONG_STALE_FOR {
        context
            .warning(at.key("stale_for"), "keys that the issuer has withdrawn are used for this long when it is down")
            .help("a day or two outlasts most outages");
    }
    let trust = context.trust(written.ca.as_ref(), at)?;
    let keys = RemoteKeys { location, stale_for, tls: trust.config, trust: trust.identity };
    Some(Keys::Remote(Box::new(keys)))
}

/// A URL whose answers cannot be replaced on the way.
fn safe_url(context: &mut Context<'_>, text: &str, at: At<'_>) -> Option<Uri> {
    let url = text.parse::<Uri>().ok().filter(|url| matches!(url.scheme_str(), Some("https" | "http")));
    match url {
        Some(url) if is_safe(&url) => Some(url),
        Some(_) => {
            context
                .error(at, "what comes over plain http can be replaced on the way")
                .help("use https; `ca:` names the authority of a private one; http is for this machine alone");
            None
        }
        None => {
            context.error(at, "this is not an https URL");
            None
        }
    }
}

fn key_file(context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<Keys> {
    let text = context.read(at, path)?;
    let set = if text.text.contains("-----BEGIN ") {
        KeySet::from_pem(&text.text)
    } else {
        KeySet::from_jwks(text.text.as_bytes()).map(|(set, skipped)| {
            for reason in skipped {
                context.warning(at, format!("{}: {reason}; it is not used", text.name));
            }
            set
        })
    };
    match set {
        Ok(set) => Some(Keys::Fixed(Arc::new(set))),
        Err(problem) => {
            context.error(at, format!("{} {problem}", text.name));
            None
        }
    }
}

fn warn_of_idle_algorithms(context: &mut Context<'_>, settings: &Settings, keys: &Keys, at: At<'_>) {
    let Keys::Fixed(set) = keys else { return };
    for algorithm in &settings.algorithms {
        if !set.verifies(*algorithm) {
            context.warning(at.key("algorithms"), format!("no key of this issuer can verify {algorithm:?}"));
        }
    }
}

/// `auth.introspection`.
pub(super) fn introspection(
    context: &mut Context<'_>,
    document: &Document,
    plans: &BTreeMap<String, Arc<Plan>>,
    at: At<'_>,
) -> Vec<Introspection> {
    let mut endpoints = Vec::new();
    for (name, written) in &document.auth.introspection {
        let at = at.key(name);
        plain_name(context, "introspection endpoint", name, at);
        if document.auth.issuers.contains_key(name) {
            context.problems.error(at.key_place(), "an issuer already has this name");
        }
        endpoints.extend(endpoint(context, document, name, written, plans, at));
    }
    endpoints
}

fn endpoint(
    context: &mut Context<'_>,
    document: &Document,
    name: &str,
    written: &document::Introspection,
    plans: &BTreeMap<String, Arc<Plan>>,
    at: At<'_>,
) -> Option<Introspection> {
    let plan = written.default_plan.as_ref();
    let default_plan = plan.and_then(|plan| self::plan(context, document, plans, plan, at.key("default_plan")));
    let believed = context.period(at.key("cache"), written.cache, BELIEVED);
    if believed > LONG_BELIEVED {
        context
            .warning(at.key("cache"), "a token that the issuer takes back is let through for this long")
            .help("a few seconds spare the endpoint most questions");
    }
    let authentication = client_authentication(context, written, at);
    let (Some(endpoint), Some(client_id)) = (&written.endpoint, &written.client_id) else {
        context.missing(at, "introspection needs `endpoint` and `client_id`", "write the URL, and who asks there");
        return None;
    };
    let endpoint = safe_url(context, endpoint, at.key("endpoint"))?;
    let trust = context.trust(written.ca.as_ref(), at)?;
    let settings = Settings {
        name: name.into(),
        iss: "".into(),
        audience: written.audience.clone(),
        algorithms: Vec::new(),
        typed: false,
        max_lifetime: None,
        clock_skew: CLOCK_SKEW,
        consumer_claim: written.consumer_claim.clone(),
        scope_claim: written.scope_claim.clone(),
        role_claim: written.role_claim.clone(),
        default_plan,
    };
    let mut compiled = Introspection::new(settings, endpoint, client_id, authentication?, believed, &trust.config);
    if let Some(given) = context.stand_ins.and_then(|stand_ins| stand_ins.endpoint(name)) {
        compiled = compiled.given(given);
    }
    Some(compiled)
}

fn client_authentication(
    context: &mut Context<'_>,
    written: &document::Introspection,
    at: At<'_>,
) -> Option<ClientAuthentication> {
    const WAYS: [&str; 3] = ["basic", "post", "private_key_jwt"];
    let way = written.client_auth.as_deref().unwrap_or("basic");
    let secret = match (way, &written.client_secret) {
        ("basic" | "post", Some(secret)) => secret.clone(),
        ("basic" | "post", None) => {
            let help = "write `client_secret:` as a reference, or `client_auth: private_key_jwt`";
            context.missing(at.key("client_secret"), "`client_secret` is missing", help);
            return None;
        }
        ("private_key_jwt", _) => return signing_key(context, written, at),
        (other, _) => {
            context.unknown(at.key("client_auth"), "way of client authentication", other, WAYS);
            return None;
        }
    };
    Some(if way == "basic" { ClientAuthentication::Basic(secret) } else { ClientAuthentication::Post(secret) })
}

fn signing_key(
    context: &mut Context<'_>,
    written: &document::Introspection,
    at: At<'_>,
) -> Option<ClientAuthentication> {
    let name = written.algorithm.as_deref().unwrap_or("RS256");
    let algorithm = name.parse::<Algorithm>().ok().filter(|algorithm| algorithm.family() != AlgorithmFamily::Hmac);
    if algorithm.is_none() {
        context.unknown(at.key("algorithm"), "algorithm", name, ALGORITHMS.into_iter().take(9));
    }
    let Some(key) = &written.private_key else {
        context.missing(at.key("private_key"), "`private_key` is missing", "write the path of a PEM private key");
        return None;
    };
    let (algorithm, key) = (algorithm?, private_key(context, key, at.key("private_key"))?);
    let pem = key.expose_secret().as_bytes();
    let parsed = match algorithm.family() {
        AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    };
    match parsed {
        Ok(key) => {
            Some(ClientAuthentication::PrivateKeyJwt { key: Box::new(key), algorithm, kid: written.key_id.clone() })
        }
        Err(_) => {
            context.error(at.key("private_key"), format!("this is not a PEM private key for {name}"));
            None
        }
    }
}
