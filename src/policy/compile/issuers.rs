//! `auth.issuers` and `auth.introspection`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey};
use secrecy::{ExposeSecret, SecretString};

use super::callers::{plain_name, plan};
use super::context::Context;
use super::edge::private_key;
use crate::policy::document::{self, ClaimNames, Document};
use crate::policy::tree::At;
use crate::policy::units::Period;
use crate::stages::auth::claim_path::{ClaimPath, ClaimPaths};
use crate::stages::auth::claims::{CONSUMER_CLAIMS, SCOPE_CLAIMS};
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
/// Where a PEM block begins (RFC 7468 §2).
const PEM: &str = "-----BEGIN ";
/// What `type` may be.
const ACCESS_TOKEN: &str = "at+jwt";
/// A secret with less entropy than this is refused, however long it is, in bits.
const MIN_ENTROPY: f64 = 96.0;
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
        let help = "write the audience of its tokens, such as `audience: [orders-api]`";
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
    let consumer_claim = claim(context, written.consumer_claim.as_ref(), at.key("consumer_claim"));
    let scope_claim = claim(context, written.scope_claim.as_ref(), at.key("scope_claim"));
    let role_claim = claim(context, written.role_claim.as_ref(), at.key("role_claim"));
    let max_lifetime = written.max_lifetime.map(|Period(most)| i64::try_from(most.as_secs()).unwrap_or(i64::MAX));
    match max_lifetime {
        None if !at.damaged() => {
            context
                .problems
                .warning(at.key_place(), format!("nothing bounds how long tokens of `{name}` live"))
                .help("write `max_lifetime:` with the lifetime that the issuer gives, such as `1h`");
        }
        Some(most) if most > LONG_LIFETIME => {
            context
                .warning(at.key("max_lifetime"), "tokens may live for more than a day")
                .help("a leaked token does less harm when tokens are short-lived and renewed");
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
        consumer_claim: consumer_claim.unwrap_or_else(|| ClaimPaths::of_names(&CONSUMER_CLAIMS)),
        scope_claim: scope_claim.unwrap_or_else(|| ClaimPaths::of_names(&SCOPE_CLAIMS)),
        role_claim,
        default_plan,
    })
}

/// The claims of a setting, in the order they are tried.
fn claim(context: &mut Context<'_>, written: Option<&ClaimNames>, at: At<'_>) -> Option<ClaimPaths> {
    let ClaimNames(names) = written?;
    if names.is_empty() && !at.damaged() {
        context.error(at, "this list names no claim").help("name one, or remove the key");
    }
    let mut paths = Vec::new();
    for (position, name) in names.iter().enumerate() {
        match ClaimPath::parse(name) {
            Ok(path) if paths.contains(&path) => {
                context.error(at.index(position), "this claim occurs twice");
            }
            Ok(path) => paths.push(path),
            Err(problem) => {
                context.error(at.index(position), problem);
            }
        }
    }
    Some(ClaimPaths::new(paths))
}

fn algorithms(context: &mut Context<'_>, written: &document::Issuer, at: At<'_>) -> Vec<Algorithm> {
    if written.algorithms.is_empty() {
        context.missing(at, "`algorithms` is missing", "write the algorithms that sign its tokens, such as `[RS256]`");
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
                    .help("write `secret:` and no `jwks:` or `public_key:`; or name an algorithm with public keys");
            }
            Err(_) if name == "none" => {
                context.error(at, "unsigned tokens are never accepted");
            }
            Err(_) => context.unknown(at, "algorithm", name, ALGORITHMS),
        }
    }
    algorithms
}

fn keys(context: &mut Context<'_>, written: &document::Issuer, at: At<'_>) -> Option<Keys> {
    let given = [
        ("jwks", written.jwks.is_some()),
        ("public_key", written.public_key.is_some()),
        ("secret", written.secret.is_some()),
    ];
    let mut given = given.into_iter().filter_map(|(key, given)| given.then_some(key));
    if let (Some(one), Some(other)) = (given.next(), given.next()) {
        context.error(at.key(other), format!("an issuer has `{one}` or `{other}`, not both"));
        return None;
    }
    match (&written.jwks, &written.public_key, &written.secret) {
        (Some(jwks), ..) if jwks.contains("://") => remote_keys(context, written, jwks, at),
        (Some(jwks), ..) => jwks_file(context, jwks, at.key("jwks")),
        (_, Some(path), _) => public_key(context, path, at.key("public_key")),
        (.., Some(secret)) => shared_secret(context, written, secret, at.key("secret")),
        (None, None, None) => discovered_keys(context, written, at),
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
    if max_entropy(secret) < MIN_ENTROPY {
        context
            .error(at, "the secret is long enough, but can be guessed (RFC 8725 §3.5)")
            .help("it repeats a few characters; generate one: `openssl rand -hex 32`");
        return None;
    }
    Some(fixed(KeySet::from_secret(secret)))
}

/// Upper bound of a secret's entropy in bits: as if each byte were chosen at random from those that occur in it.
fn max_entropy(secret: &[u8]) -> f64 {
    let mut different = secret.to_vec();
    different.sort_unstable();
    different.dedup();
    secret.len() as f64 * (different.len() as f64).log2()
}

fn remote_keys(context: &mut Context<'_>, written: &document::Issuer, jwks: &str, at: At<'_>) -> Option<Keys> {
    let url = safe_url(context, jwks, at.key("jwks"))?;
    fetched(context, written, Location::Jwks(url), at)
}

fn discovered_keys(context: &mut Context<'_>, written: &document::Issuer, at: At<'_>) -> Option<Keys> {
    // Its absence is reported elsewhere; so is a key that may be a misspelt `jwks`.
    let issuer = written.issuer.as_ref().filter(|_| !at.key("jwks").damaged())?;
    let Some(location) = Location::discover(issuer) else {
        context
            .error(at.key("issuer"), "the keys of this issuer cannot be discovered: it is not an https URL")
            .help("write `jwks:` with the URL or file of its key set, or `public_key:` with a PEM file");
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

/// Parses a URL whose responses cannot be replaced on the way.
fn safe_url(context: &mut Context<'_>, text: &str, at: At<'_>) -> Option<Uri> {
    let url = text.parse::<Uri>().ok().filter(|url| matches!(url.scheme_str(), Some("https" | "http")));
    match url {
        Some(url) if is_safe(&url) => Some(url),
        Some(_) => {
            context
                .error(at, "what comes over plain http can be replaced on the way")
                .help("use https (`ca:` names a private authority); http is accepted on this machine only");
            None
        }
        None => {
            context.error(at, "this is not an https URL");
            None
        }
    }
}

fn jwks_file(context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<Keys> {
    let text = context.read(at, path)?;
    if text.text.contains(PEM) {
        context
            .error(at, format!("{} is a PEM file, not a JWKS", text.name))
            .help("write `public_key:` in place of `jwks:`");
        return None;
    }
    let set = KeySet::from_jwks(text.text.as_bytes()).map(|(set, skipped)| {
        for reason in skipped {
            context.warning(at, format!("{}: {reason}; it is not used", text.name));
        }
        set
    });
    set.map_err(|problem| context.error(at, format!("{} {problem}", text.name))).ok().map(fixed)
}

fn public_key(context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<Keys> {
    const HELP: &str = "write `jwks:` for the URL or file of a key set";
    if path.contains("://") {
        context.error(at, "this is a URL, not a PEM file").help(HELP);
        return None;
    }
    let text = context.read(at, path)?;
    match KeySet::from_pem(&text.text) {
        Ok(set) => Some(fixed(set)),
        Err(problem) => {
            let problem = context.error(at, format!("{} {problem}", text.name));
            if !text.text.contains(PEM) {
                problem.help(HELP);
            }
            None
        }
    }
}

fn fixed(set: KeySet) -> Keys {
    Keys::Fixed(Arc::new(set))
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
            .warning(at.key("cache"), "a token that the issuer has revoked is accepted for this long")
            .help("a few seconds avoid most requests to the endpoint");
    }
    let consumer_claim = claim(context, written.consumer_claim.as_ref(), at.key("consumer_claim"));
    let scope_claim = claim(context, written.scope_claim.as_ref(), at.key("scope_claim"));
    let role_claim = claim(context, written.role_claim.as_ref(), at.key("role_claim"));
    let authentication = client_authentication(context, written, at);
    let (Some(endpoint), Some(client_id)) = (&written.endpoint, &written.client_id) else {
        context.missing(
            at,
            "introspection needs `endpoint` and `client_id`",
            "write the URL, and the client ID of the proxy",
        );
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
        consumer_claim: consumer_claim.unwrap_or_else(|| ClaimPaths::of_names(&CONSUMER_CLAIMS)),
        scope_claim: scope_claim.unwrap_or_else(|| ClaimPaths::of_names(&SCOPE_CLAIMS)),
        role_claim,
        default_plan,
    };
    let mut compiled = Introspection::new(settings, endpoint, client_id, authentication?, believed, &trust.config);
    if let Some(stand_in) = context.stand_ins.and_then(|stand_ins| stand_ins.endpoint(name)) {
        compiled = compiled.with_stand_in(stand_in);
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
