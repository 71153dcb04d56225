//! Who callers are: issuers, roles, plans, consumers, API keys.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use http::header::{self, HeaderName};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::context::{Context, check_scopes};
use super::{issuers, store};
use crate::policy::Listener;
use crate::policy::document::{self, Document};
use crate::policy::tree::At;
use crate::policy::units::{Period, Rate};
use crate::stages::auth::api_key::{ApiKeys, Digest, Key};
use crate::stages::auth::directory::Directory;
use crate::stages::auth::dpop;
use crate::stages::auth::failed_attempts::Failures;
use crate::stages::auth::{Consumer, Rules};
use crate::stages::rate_limit::Plan;
use crate::state::registry::StoreConfig;
use crate::state::registry::entry::{Identity, hex};

/// Default of `auth.api_keys.header`.
const KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");
/// Default of `auth.dpop.max_age`, in seconds.
const PROOF_AGE: i64 = 60;
/// Largest, in seconds: proofs are remembered for so long.
const MAX_PROOF_AGE: i64 = 600;
/// Tolerated difference of clocks in proofs, in seconds.
const PROOF_SKEW: i64 = 5;
/// What proofs may be signed with, unless the policy says.
const PROOF_ALGORITHMS: [&str; 5] = ["ES256", "ES384", "EdDSA", "PS256", "RS256"];

/// What comes out.
pub(super) struct Callers {
    pub(super) rules: Rules,
    pub(super) store: Option<StoreConfig>,
}

/// `auth`, `roles`, `plans`, `consumers`, `store`.
pub(super) fn compile(context: &mut Context<'_>, document: &Document, listeners: &[Listener], at: At<'_>) -> Callers {
    for (role, scopes) in &document.roles {
        check_scopes(context, scopes, at.key("roles").key(role));
    }
    let plans = plans(context, document, at.key("plans"));
    let auth = at.key("auth");
    let (issuers, key_sets) = issuers::issuers(context, document, &plans, auth.key("issuers"));
    let introspection = issuers::introspection(context, document, &plans, auth.key("introspection"));
    let key_header = key_header(context, document, at);
    let max_key_age = document
        .auth
        .api_keys
        .max_key_age
        .map(|Period(most)| SignedDuration::try_from(most).unwrap_or(SignedDuration::MAX));
    let dpop = dpop(context, &document.auth.dpop, auth.key("dpop"));
    let failures = failures(context, document.auth.failed_attempts, auth.key("failed_attempts"));
    let (store, serve_stale) = store::compile(context, document.store.as_ref(), at.key("store"));

    let mut identities = Vec::new();
    let mut known_identities = HashSet::new();
    let mut keys = ApiKeys::new(max_key_age);
    let mut listed = Vec::new();
    let mut key_ids = HashSet::new();
    for (name, written) in &document.consumers {
        let at = at.key("consumers").key(name);
        plain_name(context, "consumer", name, at);
        let consumer = Arc::new(consumer(context, document, name, written, &plans, at));
        listed.push(Arc::clone(&consumer));
        for (position, identity) in written.identities.iter().enumerate() {
            let at = at.key("identities").index(position);
            if let Some(identity) = self::identity(context, document, identity, at) {
                if !known_identities.insert(identity.clone()) {
                    context.error(at, "this identity already belongs to a consumer");
                }
                identities.push((identity, Arc::clone(&consumer)));
            }
        }
        for (position, key) in written.keys.iter().enumerate() {
            let at = at.key("keys").index(position);
            if let Some((digest, key)) = self::key(context, document, written, key, &consumer, at) {
                if max_key_age.is_some() && key.created.or(key.not_before).is_none() {
                    context
                        .error(at, "how old this key is cannot be told, and `max_key_age` bounds it")
                        .help("write `created:` with the time it was made at");
                }
                if !key_ids.insert(key.id.clone()) {
                    context.error(at.key("id"), "another key has this id");
                }
                if !keys.add(digest, key) {
                    context.error(at.key("sha256"), "another key has this digest");
                }
            }
        }
    }
    if let Some(stand_ins) = context.stand_ins {
        keys = keys.redigested(|id| stand_ins.api_key(id));
    }
    let roles = document.roles.iter().map(|(role, scopes)| (Box::from(role.as_str()), boxed(scopes))).collect();
    let directory = Directory::new(identities, listed, roles, plans);
    let trusts = listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref().and_then(|tls| Some((listener.address, tls.trust.clone()?))));
    let rules = Rules {
        issuers: issuers.into_iter().map(|issuer| (issuer.iss().into(), issuer)).collect(),
        key_sets,
        introspection,
        keys,
        key_header,
        directory,
        trusts: trusts.collect(),
        dpop,
        failures,
        serve_stale,
    };
    Callers { rules, store }
}

fn dpop(context: &mut Context<'_>, written: &document::Dpop, at: At<'_>) -> dpop::Settings {
    let max_age = written.max_age.map_or(PROOF_AGE, |Period(most)| i64::try_from(most.as_secs()).unwrap_or(i64::MAX));
    if !(1..=MAX_PROOF_AGE).contains(&max_age) {
        context.error(at.key("max_age"), format!("a proof is good for 1s to {MAX_PROOF_AGE}s"));
    }
    let mut algorithms = Vec::new();
    let names = written.algorithms.as_ref().map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
    for (position, name) in names.unwrap_or(PROOF_ALGORITHMS.to_vec()).into_iter().enumerate() {
        match name.parse::<Algorithm>() {
            Ok(algorithm) if algorithm.family() != AlgorithmFamily::Hmac => algorithms.push(algorithm),
            _ => context.unknown(at.key("algorithms").index(position), "algorithm", name, PROOF_ALGORITHMS),
        }
    }
    let nonce = written.nonce.unwrap_or(false);
    dpop::Settings { max_age, skew: PROOF_SKEW, nonce, algorithms }
}

fn failures(context: &mut Context<'_>, written: Option<Rate>, at: At<'_>) -> Option<Failures> {
    let rate = written?;
    match Failures::new(rate.count, rate.per) {
        Ok(failures) => Some(failures),
        Err(problem) => {
            context.error(at, problem);
            None
        }
    }
}

fn boxed(scopes: &[String]) -> Box<[Box<str>]> {
    scopes.iter().map(|scope| Box::from(scope.as_str())).collect()
}

/// `ISSUER:ID` names callers that the policy does not list, so names in the policy hold no colon.
pub(super) fn plain_name(context: &mut Context<'_>, what: &str, name: &str, at: At<'_>) {
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
        if !names_limit(context, name, "plan", at) {
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
            Ok(mut plan) => {
                classes(context, &mut plan, &written.classes, at.key("classes"));
                plans.insert(name.clone(), Arc::new(plan));
            }
            Err(problem) => {
                context.error(at.key("rate"), problem);
            }
        }
    }
    plans
}

/// Whether a limit can have this name.
fn names_limit(context: &mut Context<'_>, name: &str, what: &str, at: At<'_>) -> bool {
    let visible = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if name.is_empty() || !visible {
        context
            .problems
            .error(at.key_place(), format!("this cannot be the name of a {what}"))
            .help("it stands in the `RateLimit` header: use visible ASCII without spaces and quotes");
    }
    !name.is_empty() && visible
}

fn classes(context: &mut Context<'_>, plan: &mut Plan, written: &BTreeMap<String, Rate>, at: At<'_>) {
    for (name, rate) in written {
        if !names_limit(context, name, "class", at.key(name)) {
            continue;
        }
        if let Err(problem) = plan.class(name, rate.count, rate.per) {
            context.error(at.key(name), problem);
        }
    }
}

/// The plan of a name; what is wrong with the plan itself has been told.
pub(super) fn plan(
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
    Consumer::new(name, roles, ceiling, plan)
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
            let name = subject_alternative_name(written);
            if name.is_none() {
                context
                    .error(at.key("certificate_san"), "this is not a name in a certificate")
                    .help("write `\"dns:NAME\"` (or the name alone), `\"uri:URI\"` or `\"email:ADDRESS\"`");
            }
            name.map(Identity::CertificateSan)
        }
        _ => {
            context.missing(at, "an identity is that of an issuer or of a client certificate", HELP);
            None
        }
    }
}

/// Reads `dns:NAME`, `uri:URI` or `email:ADDRESS`; a bare name is a DNS name. The colon of a URI and the `@` of an address
/// keep the three kinds apart without their prefix, which is how certificates are compared.
fn subject_alternative_name(written: &str) -> Option<Box<str>> {
    match written.split_once(':') {
        Some(("uri", uri)) => uri.contains(':').then(|| uri.into()),
        Some(("email", address)) => (address.contains('@') && !address.contains(':')).then(|| address.into()),
        // DNS names are compared without regard to case.
        Some(("dns", name)) => dns_name(name),
        Some(_) => None,
        None => dns_name(written),
    }
}

fn dns_name(name: &str) -> Option<Box<str>> {
    let plain = !name.is_empty() && !name.contains([':', '@']);
    plain.then(|| name.to_ascii_lowercase().into())
}

fn key(
    context: &mut Context<'_>,
    document: &Document,
    consumer_written: &document::Consumer,
    written: &document::Key,
    consumer: &Arc<Consumer>,
    at: At<'_>,
) -> Option<(Digest, Key)> {
    let created = time(context, written.created.as_deref(), at.key("created"));
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
    let Some(digest) = hex::decode(sha256) else {
        context
            .error(at.key("sha256"), "this is not a SHA-256 in hexadecimal")
            .help("64 digits, as `printf %s KEY | sha256sum` prints them");
        return None;
    };
    let scopes = written.scopes.as_ref();
    let scopes = scopes.map(|scopes| scopes.iter().map(|scope| Box::from(scope.as_str())).collect());
    let key = Key { id: id.as_str().into(), consumer: Arc::clone(consumer), scopes, created, not_before, expires };
    Some((digest, key))
}

fn time(context: &mut Context<'_>, written: Option<&str>, at: At<'_>) -> Option<Timestamp> {
    let time = written?.parse().ok();
    if time.is_none() {
        context.error(at, "this is not a time").help("write it as RFC 3339 does, such as `2027-02-28T00:00:00Z`");
    }
    time
}

#[cfg(test)]
mod tests {
    use super::subject_alternative_name;

    #[test]
    fn names_in_certificates_have_a_kind() {
        for (written, name) in [
            ("dns:Acme.Example", Some("acme.example")),
            ("Acme.Example", Some("acme.example")),
            ("uri:spiffe://acme/Batch", Some("spiffe://acme/Batch")),
            ("email:Ops@acme.example", Some("Ops@acme.example")),
            ("spiffe://acme/batch", None),
            ("ops@acme.example", None),
            ("uri:acme.example", None),
            ("email:acme.example", None),
            ("dns:", None),
            ("", None),
        ] {
            assert_eq!(subject_alternative_name(written).as_deref(), name, "{written}");
        }
    }
}
