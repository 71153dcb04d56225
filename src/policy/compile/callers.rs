//! Who callers are: issuers, roles, plans, consumers, API keys.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use http::Uri;
use http::header::{self, HeaderName};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use secrecy::{ExposeSecret, SecretString};

use super::context::{Context, check_scopes};
use crate::policy::document::{self, Document};
use crate::policy::tree::At;
use crate::policy::units::Period;
use crate::stages::auth::api_key::{ApiKeys, Digest, Key};
use crate::stages::auth::jwt::{Issuer, Settings};
use crate::stages::auth::key_set::{KeySet, KeySource, RemoteKeySet};
use crate::stages::auth::{Authentication, Consumer, Parts};
use crate::stages::rate_limit::Plan;

/// Default of `auth.api_keys.header`.
const KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");
/// Default of `clock_skew`, in seconds.
const CLOCK_SKEW: i64 = 30;
/// Largest `clock_skew`, in seconds: more would keep expired tokens alive.
const MAX_CLOCK_SKEW: i64 = 300;
/// What `algorithms` may name.
const ALGORITHMS: [&str; 12] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"];

/// What comes out.
pub(super) struct Callers {
    pub(super) auth: Authentication,
    pub(super) key_sets: Vec<Arc<RemoteKeySet>>,
}

/// `auth`, `roles`, `plans`, `consumers`.
pub(super) fn compile(context: &mut Context<'_>, document: &Document, at: At<'_>) -> Callers {
    for (role, scopes) in &document.roles {
        check_scopes(context, scopes, at.key("roles").key(role));
    }
    let plans = plans(context, document, at.key("plans"));
    let (issuers, key_sets) = issuers(context, document, &plans, at.key("auth").key("issuers"));
    let key_header = key_header(context, document, at);

    let mut identities = Vec::new();
    let mut known_identities = HashSet::new();
    let mut keys = ApiKeys::default();
    let mut key_ids = HashSet::new();
    for (name, written) in &document.consumers {
        let at = at.key("consumers").key(name);
        plain_name(context, "consumer", name, at);
        let consumer = Arc::new(consumer(context, document, name, written, &plans, at));
        for (position, identity) in written.identities.iter().enumerate() {
            let at = at.key("identities").index(position);
            if let Some((issuer, id)) = self::identity(context, document, identity, at) {
                if !known_identities.insert((issuer, id)) {
                    context.error(at, "this identity belongs to a consumer already");
                }
                identities.push((issuer.into(), id.into(), Arc::clone(&consumer)));
            }
        }
        for (position, key) in written.keys.iter().enumerate() {
            let at = at.key("keys").index(position);
            if let Some((id, digest, key)) = self::key(context, document, written, key, &consumer, at) {
                if !key_ids.insert(id) {
                    context.error(at.key("id"), "a key with this id is there already");
                }
                if !keys.add(digest, key) {
                    context.error(at.key("sha256"), "a key with this digest is there already");
                }
            }
        }
    }
    let roles = document.roles.iter().map(|(role, scopes)| (Box::from(role.as_str()), boxed(scopes))).collect();
    let ledger = Arc::clone(&context.lasting.ledger);
    Callers { auth: Authentication::new(Parts { issuers, identities, keys, key_header, roles, ledger }), key_sets }
}

fn boxed(scopes: &[String]) -> Box<[Box<str>]> {
    scopes.iter().map(|scope| Box::from(scope.as_str())).collect()
}

/// `ISSUER:ID` names callers that the policy does not list, so names in the policy hold no colon.
fn plain_name(context: &mut Context<'_>, what: &str, name: &str, at: At<'_>) {
    if name.is_empty() || name.contains(':') || name.len() > 128 {
        context
            .problems
            .error(at.key_place(), format!("this cannot be the name of a {what}"))
            .help("a name has 1 to 128 bytes and no `:`");
    }
}

fn plans(context: &mut Context<'_>, document: &Document, at: At<'_>) -> BTreeMap<String, Arc<Plan>> {
    let mut plans = BTreeMap::new();
    for (name, written) in &document.plans {
        let at = at.key(name);
        let visible = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if name.is_empty() || !visible {
            context
                .problems
                .error(at.key_place(), "this cannot be the name of a plan")
                .help("it stands in the `RateLimit` header: use visible ASCII without spaces and quotes");
            continue;
        }
        let Some(rate) = written.rate else {
            context.missing(at.key("rate"), "`rate` is missing", "write how often, such as `rate: 10/s`");
            continue;
        };
        let burst = written.burst.map(NonZeroU32::new);
        if burst == Some(None) {
            context.error(at.key("burst"), "`burst` is at least 1");
            continue;
        }
        match Plan::new(name, rate.count, rate.per, burst.flatten()) {
            Ok(plan) => {
                plans.insert(name.clone(), Arc::new(plan));
            }
            Err(problem) => {
                context.error(at.key("rate"), problem);
            }
        }
    }
    plans
}

/// The plan of a name; what is wrong with the plan itself has been told.
fn plan(
    context: &mut Context<'_>,
    document: &Document,
    plans: &BTreeMap<String, Arc<Plan>>,
    name: &str,
    at: At<'_>,
) -> Option<Arc<Plan>> {
    if !document.plans.contains_key(name) {
        context.unknown(at, "plan", name, document.plans.keys().map(String::as_str));
    }
    plans.get(name).cloned()
}

fn key_header(context: &mut Context<'_>, document: &Document, at: At<'_>) -> HeaderName {
    let at = at.key("auth").key("api_keys").key("header");
    let Some(text) = &document.auth.api_keys.header else { return KEY_HEADER };
    let taken = [header::AUTHORIZATION, header::HOST, header::COOKIE, header::CONNECTION, header::CONTENT_LENGTH];
    match text.parse::<HeaderName>() {
        Ok(name) if !taken.contains(&name) && !text.contains('_') => name,
        _ => {
            context.error(at, "this header cannot carry API keys").help("use a header of its own, such as `x-api-key`");
            KEY_HEADER
        }
    }
}

fn consumer(
    context: &mut Context<'_>,
    document: &Document,
    name: &str,
    written: &document::Consumer,
    plans: &BTreeMap<String, Arc<Plan>>,
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
    let plan = written.plan.as_ref().and_then(|plan| self::plan(context, document, plans, plan, at.key("plan")));
    if written.plan.is_none() && !document.plans.is_empty() && !at.damaged() {
        context
            .problems
            .warning(at.key_place(), format!("`{name}` has no plan, so nothing limits how often it calls"))
            .help("write `plan:` with the name of a plan");
    }
    Consumer::new(name, roles, ceiling, plan, context.lasting.ledger.listed(name))
}

fn identity<'d>(
    context: &mut Context<'_>,
    document: &Document,
    written: &'d document::Identity,
    at: At<'_>,
) -> Option<(&'d str, &'d str)> {
    let (Some(issuer), Some(id)) = (&written.issuer, &written.id) else {
        context.missing(at, "an identity needs `issuer` and `id`", "write `{ issuer: NAME, id: VALUE }`");
        return None;
    };
    if !document.auth.issuers.contains_key(issuer) {
        context.unknown(at.key("issuer"), "issuer", issuer, document.auth.issuers.keys().map(String::as_str));
    }
    Some((issuer, id))
}

fn key<'d>(
    context: &mut Context<'_>,
    document: &Document,
    consumer_written: &document::Consumer,
    written: &'d document::Key,
    consumer: &Arc<Consumer>,
    at: At<'_>,
) -> Option<(&'d str, Digest, Key)> {
    let not_before = time(context, written.not_before.as_deref(), at.key("not_before"));
    let expires = time(context, written.expires.as_deref(), at.key("expires"));
    if let (Some(not_before), Some(expires)) = (not_before, expires)
        && expires <= not_before
    {
        context.error(at.key("expires"), "this key ends before it begins");
    }
    if expires.is_some_and(|expires| expires <= Timestamp::now()) {
        context.warning(at.key("expires"), "this key has expired").help("remove it, or give it a later end");
    }
    match &consumer_written.roles {
        None => {
            context
                .warning(at, "this key can do nothing: its consumer has no roles")
                .help("an API key has the scopes of its consumer's `roles`");
        }
        Some(roles) => {
            let allowed: HashSet<_> = roles.iter().filter_map(|role| document.roles.get(role)).flatten().collect();
            for (position, scope) in written.scopes.iter().flatten().enumerate() {
                if !allowed.contains(scope) {
                    context
                        .warning(at.key("scopes").index(position), "the consumer's roles do not have this scope")
                        .help("`scopes` of a key narrow what its consumer's roles allow; they add nothing");
                }
            }
        }
    }
    let (Some(id), Some(sha256)) = (&written.id, &written.sha256) else {
        context.missing(at, "a key needs `id` and `sha256`", "write `{ id: NAME, sha256: \"64 hexadecimal digits\" }`");
        return None;
    };
    let Some(digest) = hexadecimal(sha256) else {
        context
            .error(at.key("sha256"), "this is not a SHA-256 in hexadecimal")
            .help("64 digits, as `printf %s KEY | sha256sum` prints them");
        return None;
    };
    Some((id, digest, Key::new(id, consumer, written.scopes.clone(), not_before, expires)))
}

fn time(context: &mut Context<'_>, written: Option<&str>, at: At<'_>) -> Option<Timestamp> {
    let time = written?.parse().ok();
    if time.is_none() {
        context.error(at, "this is not a time").help("write it as RFC 3339 does, such as `2027-02-28T00:00:00Z`");
    }
    time
}

fn hexadecimal(text: &str) -> Option<Digest> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut digest = Digest::default();
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

fn issuers(
    context: &mut Context<'_>,
    document: &Document,
    plans: &BTreeMap<String, Arc<Plan>>,
    at: At<'_>,
) -> (Vec<Issuer>, Vec<Arc<RemoteKeySet>>) {
    let mut issuers = Vec::new();
    let mut key_sets: Vec<Arc<RemoteKeySet>> = Vec::new();
    let mut known: HashMap<&str, &str> = HashMap::new();
    for (name, written) in &document.auth.issuers {
        let at = at.key(name);
        plain_name(context, "issuer", name, at);
        let keys = keys(context, written, at);
        if let Some(KeySource::Remote(remote)) = &keys
            && !key_sets.iter().any(|known| Arc::ptr_eq(known, remote))
        {
            key_sets.push(Arc::clone(remote));
        }
        let settings = settings(context, document, name, written, plans, at);
        if let Some(iss) = &written.issuer
            && let Some(other) = known.insert(iss, name)
        {
            context.error(at.key("issuer"), format!("issuer `{other}` has the same `iss`"));
        }
        if let (Some(settings), Some(keys)) = (settings, keys) {
            warn_of_idle_algorithms(context, &settings, &keys, at);
            issuers.push(Issuer::new(settings, keys));
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
    Some(Settings {
        name: name.into(),
        iss: iss.as_str().into(),
        audience: written.audience.clone(),
        algorithms,
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

fn keys(context: &mut Context<'_>, written: &document::Issuer, at: At<'_>) -> Option<KeySource> {
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
        (Some(keys), None) if keys == "discover" => {
            context
                .error(at.key("keys"), "`discover` is part of the policy language but not built yet in this version")
                .help("write the issuer's JWKS URL: it is the `jwks_uri` of its /.well-known/openid-configuration");
            None
        }
        (Some(keys), None) if keys.contains("://") => remote_keys(context, written, keys, at),
        (Some(keys), None) => key_file(context, keys, at.key("keys")),
    }
}

/// RFC 7518 §3.2: the secret is at least as long as the hash.
fn shared_secret(
    context: &mut Context<'_>,
    written: &document::Issuer,
    secret: &SecretString,
    at: At<'_>,
) -> Option<KeySource> {
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
    Some(KeySource::Fixed(Arc::new(KeySet::from_secret(secret))))
}

fn remote_keys(context: &mut Context<'_>, written: &document::Issuer, keys: &str, at: At<'_>) -> Option<KeySource> {
    let url = keys.parse::<Uri>().ok().filter(|url| matches!(url.scheme_str(), Some("https" | "http")));
    let Some((url, host)) = url.and_then(|url| url.host().map(str::to_owned).map(|host| (url, host))) else {
        context.error(at.key("keys"), "this is not an http or https URL");
        return None;
    };
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme_str() == Some("http") && !loopback {
        context
            .warning(at.key("keys"), "keys that come over plain http can be replaced on the way")
            .help("use https; `ca:` names the authority of a private one");
    }
    let trust = context.trust(written.ca.as_ref(), at)?;
    Some(KeySource::Remote(context.lasting.key_set(&url, &trust)))
}

fn key_file(context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<KeySource> {
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
        Ok(set) => Some(KeySource::Fixed(Arc::new(set))),
        Err(problem) => {
            context.error(at, format!("{} {problem}", text.name));
            None
        }
    }
}

fn warn_of_idle_algorithms(context: &mut Context<'_>, settings: &Settings, keys: &KeySource, at: At<'_>) {
    let KeySource::Fixed(set) = keys else { return };
    for algorithm in &settings.algorithms {
        if !set.verifies(*algorithm) {
            context.warning(at.key("algorithms"), format!("no key of this issuer can verify {algorithm:?}"));
        }
    }
}
