//! `auth`: issuers, introspection, API keys, DPoP and failed attempts; with `roles`, `consumers` and `store`, the rules by
//! which callers are authenticated.

mod claims;
mod introspection;
mod issuers;
pub(super) mod keys;
pub(super) mod locations;
mod own_issuer;
mod tenants;

use jiff::SignedDuration;
use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::consumers::{self, Consumers};
use super::context::Context;
use super::names::check_scopes;
use super::{plans, store};
use crate::policy::Listener;
use crate::policy::document::{self, Document};
use crate::policy::tree::At;
use crate::policy::units::{Period, Rate};
use crate::stages::auth::Rules;
use crate::stages::auth::directory::Directory;
use crate::stages::auth::dpop;
use crate::stages::auth::failed_attempts::Failures;
use crate::stages::auth::locations::CredentialLocations;
use crate::state::registry::StoreConfig;

/// Default of `auth.dpop.max_age`, in seconds.
const PROOF_AGE: i64 = 60;

/// Largest `auth.dpop.max_age`, in seconds: proofs are remembered for this time.
const MAX_PROOF_AGE: i64 = 600;

/// Tolerated clock skew of proofs, in seconds.
const PROOF_SKEW: i64 = 5;

/// Default of `auth.dpop.algorithms`.
const PROOF_ALGORITHMS: [&str; 5] = ["ES256", "ES384", "EdDSA", "PS256", "RS256"];

/// `auth`, `roles`, `plans`, `consumers` and `store`: the rules, and where the store is.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    listeners: &[Listener],
    locations: &CredentialLocations,
    at: At<'_>,
) -> (Rules, Option<StoreConfig>) {
    for (role, scopes) in &document.roles {
        check_scopes(context, scopes, at.key("roles").key(role));
    }
    let plans = plans::compile(context, document, at.key("plans"));
    let auth = at.key("auth");
    let (mut issuers, key_sets) = issuers::compile(context, document, &plans, auth.key("issuers"));
    let own = own_issuer::compile(context, document, &issuers, at);
    issuers.extend(own);
    let introspection = introspection::compile(context, document, &plans, auth.key("introspection"));
    let max_key_age = document.auth.api_keys.max_key_age;
    let max_key_age = max_key_age.map(|Period(most)| SignedDuration::try_from(most).unwrap_or(SignedDuration::MAX));
    let dpop = dpop(context, &document.auth.dpop, auth.key("dpop"));
    let failures = failures(context, document.auth.failed_attempts, auth.key("failed_attempts"));
    let (store, serve_stale) = store::compile(context, document.store.as_ref(), at.key("store"));
    let consumers = consumers::compile(context, document, &plans, max_key_age, at.key("consumers"));
    let Consumers { listed, identities, keys, clients } = consumers;
    let roles = document.roles.iter().map(|(role, scopes)| (Box::from(role.as_str()), boxed(scopes))).collect();
    let trusts = listeners.iter().filter_map(|listener| {
        let forwarded = listener.forwarded_certificates.as_ref().map(|forwarded| &forwarded.trust);
        let own = listener.tls.as_ref().and_then(|tls| tls.trust.as_ref());
        Some((listener.address, own.or(forwarded)?.clone()))
    });
    let rules = Rules {
        issuers: issuers.into_iter().map(|issuer| (issuer.iss().into(), issuer)).collect(),
        key_sets,
        introspection,
        clients,
        keys,
        locations: locations.clone(),
        directory: Directory::new(identities, listed, roles, plans),
        trusts: trusts.collect(),
        dpop,
        failures,
        serve_stale,
    };
    (rules, store)
}

fn dpop(context: &mut Context<'_>, written: &document::Dpop, at: At<'_>) -> dpop::Settings {
    let max_age = written.max_age.map_or(PROOF_AGE, |most| context.seconds(at.key("max_age"), most));
    if !(1..=MAX_PROOF_AGE).contains(&max_age) {
        context.error(at.key("max_age"), format!("the lifetime of a proof is between 1s and {MAX_PROOF_AGE}s"));
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
