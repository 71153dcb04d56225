//! `authenticate_by` of an API: which kinds of credentials it takes, and where they are.

use std::sync::Arc;

use crate::policy::compile::context::Context;
use crate::policy::cors::Cors;
use crate::policy::document::{self, CredentialKind, Document};
use crate::policy::source::Place;
use crate::policy::tree::At;
use crate::policy::{Access, Api, Route};
use crate::stages::auth::locations::CredentialLocations;
use crate::stages::scope::ownership::Owned;
use crate::stages::scope::{Alternative, By, ProofOfPossession, Requirement};

/// Where credentials are at an API with this `cors`.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    locations: &CredentialLocations,
    (written, cors): (&document::Api, Option<&Cors>),
    at: At<'_>,
) -> CredentialLocations {
    let acting = cors.filter(|cors| cors.credentials).and_then(|cors| cors.origins.clone());
    let all = CredentialLocations { cookie_origins: acting.unwrap_or_default(), ..locations.clone() };
    let Some(kinds) = &written.authenticate_by else { return all };
    if kinds.is_empty() {
        context
            .error(at, "an API that takes no credential can have public routes alone")
            .help("list `token`, `api_key` or `certificate`, or remove the key");
    }
    for (position, kind) in kinds.iter().enumerate() {
        let at = at.index(position);
        if kinds.iter().take(position).any(|before| before == kind) {
            context.error(at, "this kind is listed twice");
        } else if let Some((message, help)) = is_impossible(document, *kind) {
            context.warning(at, message).help(help);
        }
    }
    let takes = |kind| kinds.contains(&kind);
    CredentialLocations {
        tokens: if takes(CredentialKind::Token) { all.tokens } else { Box::default() },
        key: all.key.filter(|_| takes(CredentialKind::ApiKey)),
        certificate: takes(CredentialKind::Certificate),
        cookie_origins: all.cookie_origins,
    }
}

/// Says why nobody can have a credential of this kind, and what to do, if so.
fn is_impossible(document: &Document, kind: CredentialKind) -> Option<(&'static str, &'static str)> {
    let auth = &document.auth;
    match kind {
        CredentialKind::Token => {
            let none = auth.issuers.is_empty() && auth.introspection.is_empty() && document.token_service.is_none();
            none.then_some(("nobody issues tokens", "write `auth: { issuers: … }`, or remove `token` here"))
        }
        CredentialKind::ApiKey => {
            let none = document.store.is_none() && document.consumers.values().all(|consumer| consumer.keys.is_empty());
            none.then_some(("no consumer has an API key", "give one of them `keys`, or remove `api_key` here"))
        }
        CredentialKind::Certificate => {
            let takes = |listener: &document::Listen| {
                listener.client_certificate_header.is_some()
                    || listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
            };
            let none = !document.listen.iter().any(takes);
            none.then_some((
                "no listener takes client certificates",
                "write `tls: { client_ca: … }` at one, or remove `certificate` here",
            ))
        }
    }
}

/// Reports routes whose callers would need a credential that the API does not take.
pub(super) fn check_routes(context: &mut Context<'_>, api: &Api, routes: &[(Arc<Route>, Place)]) {
    for (route, place) in routes {
        let Access::Scoped(requirement) = &route.access else { continue };
        if let Some((what, help)) = unreachable(requirement, api.credentials()) {
            let message = format!("nobody can call `{}`: {what}", route.name());
            context.problems.error(place.clone(), message).help(help);
        }
    }
}

/// Says what no caller with one of these credentials can have, and what to do, if there is such a thing.
fn unreachable(requirement: &Requirement, taken: &CredentialLocations) -> Option<(&'static str, &'static str)> {
    const LIST: &str = "list it under `authenticate_by` of the API";
    let takes_tokens = !taken.tokens.is_empty();
    let can_meet = |alternative: &Alternative| {
        let kind = match alternative.by {
            None => true,
            Some(By::Token) => takes_tokens,
            Some(By::Key) => taken.key.is_some(),
        };
        kind && (!alternative.certificate || taken.certificate)
    };
    if !requirement.alternatives().iter().any(can_meet) {
        return Some(("it needs a kind of credential that the API does not take", LIST));
    }
    let can_prove = |proof: &ProofOfPossession| match proof {
        ProofOfPossession::Certificate => taken.certificate,
        ProofOfPossession::BoundToken => takes_tokens,
        // The scheme says that there is a proof.
        ProofOfPossession::Dpop => taken.has_bearer(),
    };
    if requirement.proofs().is_some_and(|proofs| !proofs.is_empty() && !proofs.iter().any(can_prove)) {
        let help = "`certificate` and `token` are listed under `authenticate_by` of the API; `dpop` needs `authorization` in `auth.tokens.from`";
        return Some(("no credential that the API takes has a proof of possession of `proof_of_possession`", help));
    }
    if !takes_tokens && requirement.oldest().is_some() {
        return Some(("`max_age` is about tokens, which the API does not take", LIST));
    }
    let compares_user = requirement.ownership().unwrap_or_default().iter().any(|one| *one.owned() == Owned::User);
    if !takes_tokens && compares_user {
        return Some(("`caller.user` is the user of a token, which the API does not take", LIST));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::auth::locations::{KeyLocation, TokenLocation};

    fn taken(kinds: &str) -> CredentialLocations {
        let bearer = kinds.contains("bearer").then_some(TokenLocation::Authorization);
        let cookie = kinds.contains("cookie").then_some(TokenLocation::Cookie("session".into()));
        CredentialLocations {
            tokens: bearer.into_iter().chain(cookie).collect(),
            key: kinds.contains("key").then_some(KeyLocation::Query("key".into())),
            certificate: kinds.contains("certificate"),
            ..CredentialLocations::none()
        }
    }

    #[test]
    fn a_route_that_nobody_can_call_is_found() {
        use ProofOfPossession::{BoundToken, Certificate, Dpop};
        let by = |by, certificate| Alternative { by, certificate, ..Alternative::default() };
        for (alternatives, proofs, max_age, kinds, reachable) in [
            (vec![by(None, false)], None, None, "key", true),
            (vec![by(Some(By::Token), false)], None, None, "key", false),
            (vec![by(Some(By::Token), false), by(Some(By::Key), false)], None, None, "key", true),
            (vec![by(Some(By::Key), false)], None, None, "bearer certificate", false),
            (vec![by(None, true)], None, None, "bearer key", false),
            (vec![by(Some(By::Key), true)], None, None, "key certificate", true),
            (vec![by(None, false)], Some(vec![Certificate]), None, "bearer key", false),
            (vec![by(None, false)], Some(vec![Certificate, Dpop]), None, "bearer key", true),
            (vec![by(None, false)], Some(vec![Dpop]), None, "cookie", false),
            (vec![by(None, false)], Some(vec![BoundToken]), None, "cookie", true),
            (vec![by(None, false)], Some(vec![BoundToken, Dpop]), None, "key certificate", false),
            (vec![by(None, false)], None, Some(60), "key certificate", false),
            (vec![by(None, false)], None, Some(60), "cookie", true),
        ] {
            let requirement = Requirement::any_of(alternatives.clone(), None);
            let requirement = requirement.proof_of_possession(proofs.clone()).issued_within(max_age);
            let got = unreachable(&requirement, &taken(kinds));
            assert_eq!(got.is_none(), reachable, "{alternatives:?} {proofs:?} {max_age:?} {kinds}");
        }
    }
}
