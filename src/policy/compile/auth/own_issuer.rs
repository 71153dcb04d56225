//! The token service as an issuer of the policy.

use jsonwebtoken::Algorithm;

use crate::policy::compile::context::Context;
use crate::policy::document::Document;
use crate::policy::tree::At;
use crate::stages::auth::claim_path::ClaimPaths;
use crate::stages::auth::claims::{AUDIENCE_CLAIMS, OWN_ISSUER, SCOPE_CLAIMS, Settings, USER_CLAIMS};
use crate::stages::auth::jwt::Issuer;
use crate::stages::auth::key_source::KeySource;
use crate::stages::auth::scopes_and_roles::ScopesAndRoles;

/// Tolerated clock skew between nodes, in seconds.
const SKEW: i64 = 30;

/// The token service as an issuer of this policy.
pub(super) fn compile(context: &mut Context<'_>, document: &Document, others: &[Issuer], at: At<'_>) -> Option<Issuer> {
    if at.key("auth").key("issuers").key(OWN_ISSUER).present() {
        context.problems.error(
            at.key("auth").key("issuers").key(OWN_ISSUER).key_place(),
            "this name is taken by the token service",
        );
    }
    let written = document.token_service.as_ref()?;
    let iss = written.issuer.as_deref()?;
    let written_so = document.auth.issuers.iter().find(|(_, issuer)| issuer.issuer.as_deref() == Some(iss));
    let of_tenant = || others.iter().find(|issuer| issuer.iss() == iss).map(Issuer::name);
    if let Some(name) = written_so.map(|(name, _)| name.as_str()).or_else(of_tenant) {
        context
            .error(at.key("token_service").key("issuer"), format!("issuer `{name}` has the same `iss`"))
            .help("the token service is an issuer by itself; remove the other");
    }
    let keys = context.stand_ins.and_then(|stand_ins| stand_ins.issuer(OWN_ISSUER, &[Algorithm::ES256]));
    let settings = Settings {
        name: OWN_ISSUER.into(),
        iss: iss.into(),
        tenant: None,
        audience: written.audience.clone(),
        audience_claim: ClaimPaths::of_names(&AUDIENCE_CLAIMS),
        required: Box::default(),
        // A key of the former algorithm may have signed tokens that are still valid.
        algorithms: vec![Algorithm::ES256, Algorithm::ES384],
        typed: keys.is_none(),
        max_lifetime: None,
        clock_skew: SKEW,
        consumer_claim: ClaimPaths::of_names(&["client_id"]),
        user_claim: ClaimPaths::of_names(&USER_CLAIMS),
        scope_claim: ClaimPaths::of_names(&SCOPE_CLAIMS),
        role_claim: None,
        scopes_and_roles: ScopesAndRoles::Union,
        attributes: Box::default(),
        forward_claims: Box::default(),
        default_plan: None,
    };
    Some(Issuer::new(settings, keys.map_or(KeySource::Own, KeySource::Fixed)))
}
