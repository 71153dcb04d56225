//! `tenants` of an issuer: what its name becomes for each of them.

use crate::policy::compile::context::Context;
use crate::policy::document;
use crate::policy::tree::At;
use crate::stages::auth::required_claim::Tenant;

/// The exact `iss` of every tenant, or the one `iss` of an issuer without tenants. Empty: a problem was reported.
pub(super) fn compile(
    context: &mut Context<'_>,
    written: &document::Issuer,
    at: At<'_>,
) -> Vec<(Box<str>, Option<Tenant>)> {
    let Some(issuer) = written.issuer.as_deref() else {
        context.missing(at.key("issuer"), "`issuer` is missing", "write the exact `iss` of its tokens");
        return Vec::new();
    };
    let pattern = issuer.split_once('{').and_then(|(before, rest)| {
        let (claim, after) = rest.split_once('}')?;
        let is_one = !claim.is_empty() && !before.contains('}') && !after.contains(['{', '}']);
        is_one.then_some((before, claim, after))
    });
    let at_tenants = at.key("tenants");
    match (pattern, &written.tenants) {
        (None, _) if issuer.contains(['{', '}']) => {
            context.error(at.key("issuer"), "an issuer has at most one claim in braces, such as `{tid}`");
            Vec::new()
        }
        (None, None) => vec![(issuer.into(), None)],
        (Some(_), None) => {
            // A damaged list was reported.
            if !at_tenants.damaged() {
                context
                    .error(at.key("issuer"), "this stands for many issuers, and `tenants` is missing")
                    .help("write `tenants:` with the values that the claim in braces may have");
            }
            Vec::new()
        }
        (None, Some(_)) => {
            context
                .error(at_tenants, "`issuer` does not say where the tenant is")
                .help("write the claim that names it in braces: `https://login.example.com/{tid}/v2.0`");
            Vec::new()
        }
        (Some((before, claim, after)), Some(tenants)) => {
            check(context, tenants, at_tenants);
            let named = |tenant: &String| {
                let bound = Tenant { claim: claim.into(), value: tenant.as_str().into() };
                (format!("{before}{tenant}{after}").into(), Some(bound))
            };
            tenants.iter().map(named).collect()
        }
    }
}

/// Reports tenants that cannot be part of an issuer's name.
fn check(context: &mut Context<'_>, tenants: &[String], at: At<'_>) {
    if tenants.is_empty() && !at.damaged() {
        context.error(at, "this list has no tenant, so no token is accepted").help("write the tenants that may call");
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    for (position, tenant) in tenants.iter().enumerate() {
        let first = tenants.iter().position(|other| other == tenant);
        if tenant.is_empty() || tenant.len() > Tenant::MAX || !tenant.bytes().all(is_plain) {
            context
                .error(at.index(position), "this cannot be a tenant")
                .help("write the exact value of its claim: letters, digits, `-`, `_` and `.`, at most 128");
        } else if first != Some(position) {
            context.error(at.index(position), "this tenant occurs twice");
        }
    }
}
