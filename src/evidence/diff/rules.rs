//! What each setting of the policy has to do with who may do what. A test fails while a key of the language is not here.

use super::order::Absent;

/// What a change of a setting means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Callers may do neither more nor less by it, whatever is below it.
    Other,
    /// It decides, but what is more and what is less cannot be told.
    Unordered,
    /// A map of settings, each with its own rule.
    Map,
    /// Named entries: each that is added allows more.
    Entries,
    /// Named entries: each that is added allows less.
    Conditions,
    /// Named entries that do nothing until something else names them.
    Definitions,
    /// Compared route by route, by what the compiled policies say.
    ByRoute,
    /// A larger set allows more.
    Wider(Absent),
    /// A larger set allows less.
    Narrower(Absent),
    /// More networks allow more.
    Networks(Absent),
    /// Networks of proxies: more of them are believed, but where one is not any more, its own address is that of all its clients.
    Proxies,
    /// A larger quantity allows more.
    Larger(Absent),
    /// A larger quantity allows less.
    Smaller(Absent),
    /// Quotas.
    Quotas,
    /// A rate of which the count is also how much is allowed at once.
    Counted(Absent),
    /// URLs of servers.
    Servers,
    /// Words, of which later ones allow more; and the default.
    Ranked(&'static [&'static str], Option<&'static str>),
    /// It allows less while it is there.
    Guard,
    /// It allows more while it is there.
    Opening,
    /// The name of a plan: the plans are compared.
    Plan,
    /// The scopes of a role: it counts for tokens and for consumers that operators add; others are compared one by one.
    Role,
    /// Roles of a consumer: their scopes are compared.
    Roles,
    /// A value that `where` compares with.
    Attribute,
    /// The contracts of a body: a further kind of body allows more, but the first one allows less.
    Contract,
    /// What replaces a masked value.
    Replacement,
}

use Absent::{Default, Depends, Everything, Nothing};
use Rule::{
    Attribute, ByRoute, Conditions, Contract, Counted, Definitions, Entries, Guard, Larger, Map, Narrower, Networks,
    Opening, Other, Plan, Proxies, Quotas, Ranked, Replacement, Role, Roles, Servers, Smaller, Unordered, Wider,
};

/// The rules, by path; `*` is the name of an entry.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("", Map),
    ("version", Other),
    // What the files define is compared as if it were in the policy itself.
    ("include", Other),
    ("catalog", Unordered),
    ("workers", Other),
    ("strict", Other),
    ("allow", Other),
    ("powerful_scopes", Other),
    ("listen", Entries),
    ("listen/*/address", Unordered),
    ("listen/*/redirect", Guard),
    ("listen/*/proxy_protocol", Unordered),
    ("listen/*/client_certificate_header", Opening),
    ("listen/*/client_certificate_header/format", Unordered),
    ("listen/*/client_certificate_header/client_ca", Unordered),
    ("listen/*/client_certificate_header/client_crls", Narrower(Nothing)),
    ("listen/*/tls", Guard),
    ("listen/*/tls/certificate", Other),
    ("listen/*/tls/key", Other),
    ("listen/*/tls/issue", Other),
    ("listen/*/tls/certificates", Other),
    ("listen/*/tls/client_ca", Unordered),
    ("listen/*/tls/client_certificate", Ranked(&["required", "optional"], Some("optional"))),
    ("listen/*/tls/client_crls", Narrower(Nothing)),
    ("trusted_proxies", Proxies),
    ("headers", Map),
    ("headers/drop", Narrower(Nothing)),
    ("admin", Opening),
    ("admin/address", Unordered),
    ("admin/tls", Guard),
    ("admin/tls/certificate", Other),
    ("admin/tls/key", Other),
    ("admin/tls/issue", Other),
    ("admin/tls/certificates", Other),
    ("admin/tls/client_ca", Unordered),
    ("admin/tls/client_certificate", Ranked(&["required", "optional"], Some("optional"))),
    ("admin/tls/client_crls", Narrower(Nothing)),
    ("admin/socket", Opening),
    ("admin/socket/path", Unordered),
    ("admin/socket/mode", Unordered),
    ("admin/token", Opening),
    ("admin/tokens", Entries),
    ("admin/tokens/*/name", Other),
    ("admin/tokens/*/token", Unordered),
    ("admin/tokens/*/rights", Ranked(&["read", "operate"], Some("read"))),
    ("timeouts", Other),
    ("limits", Map),
    ("limits/header_size", Larger(Default("32KiB"))),
    ("limits/headers", Larger(Default("100"))),
    ("limits/body_size", Larger(Default("10MiB"))),
    ("limits/connections", Larger(Default("10000"))),
    ("limits/per_client", Larger(Default("1000"))),
    ("limits/memory", Larger(Default("256MiB"))),
    ("secrets", Map),
    ("secrets/watch", Other),
    ("secrets/vault", Unordered),
    ("egress", Other),
    ("store", Unordered),
    ("store/redis", Unordered),
    ("store/prefix", Unordered),
    ("store/ca", Unordered),
    ("store/timeout", Other),
    ("store/on_failure", Ranked(&["refuse", "serve"], Some("refuse"))),
    ("store/limits", Map),
    ("store/limits/on_failure", Ranked(&["refuse", "local", "allow"], Some("refuse"))),
    ("store/limits/timeout", Other),
    ("auth", Map),
    ("auth/issuers", Entries),
    ("auth/issuers/*/issuer", Unordered),
    ("auth/issuers/*/tenants", Wider(Depends)),
    ("auth/issuers/*/audience", Wider(Nothing)),
    ("auth/issuers/*/audience_claim", Unordered),
    // An upstream may decide by them.
    ("auth/issuers/*/forward_claims", Unordered),
    ("auth/issuers/*/require", Conditions),
    ("auth/issuers/*/require/*", Wider(Everything)),
    ("auth/issuers/*/jwks", Unordered),
    ("auth/issuers/*/public_key", Unordered),
    ("auth/issuers/*/stale_for", Larger(Default("24h"))),
    ("auth/issuers/*/ca", Unordered),
    ("auth/issuers/*/secret", Unordered),
    ("auth/issuers/*/algorithms", Wider(Nothing)),
    ("auth/issuers/*/type", Guard),
    ("auth/issuers/*/max_lifetime", Larger(Everything)),
    ("auth/issuers/*/clock_skew", Larger(Default("30s"))),
    ("auth/issuers/*/consumer_claim", Unordered),
    ("auth/issuers/*/user_claim", Unordered),
    ("auth/issuers/*/scope_claim", Unordered),
    ("auth/issuers/*/role_claim", Unordered),
    ("auth/issuers/*/scopes_and_roles", Ranked(&["intersect", "union"], None)),
    ("auth/issuers/*/attributes", Unordered),
    ("auth/issuers/*/default_plan", Plan),
    ("auth/introspection", Entries),
    ("auth/introspection/*/endpoint", Unordered),
    ("auth/introspection/*/client_id", Other),
    ("auth/introspection/*/client_auth", Other),
    ("auth/introspection/*/client_secret", Other),
    ("auth/introspection/*/private_key", Other),
    ("auth/introspection/*/key_id", Other),
    ("auth/introspection/*/algorithm", Other),
    ("auth/introspection/*/ca", Unordered),
    ("auth/introspection/*/audience", Wider(Everything)),
    ("auth/introspection/*/cache", Larger(Default("10s"))),
    ("auth/introspection/*/concurrent", Larger(Default("64"))),
    ("auth/introspection/*/consumer_claim", Unordered),
    ("auth/introspection/*/user_claim", Unordered),
    ("auth/introspection/*/scope_claim", Unordered),
    ("auth/introspection/*/role_claim", Unordered),
    ("auth/introspection/*/scopes_and_roles", Ranked(&["intersect", "union"], None)),
    ("auth/introspection/*/attributes", Unordered),
    ("auth/introspection/*/forward_claims", Unordered),
    ("auth/introspection/*/default_plan", Plan),
    ("auth/api_keys", Map),
    ("auth/api_keys/header", Unordered),
    ("auth/api_keys/authorization", Unordered),
    ("auth/api_keys/query", Unordered),
    ("auth/api_keys/max_key_age", Larger(Everything)),
    ("auth/tokens", Map),
    ("auth/tokens/from", Unordered),
    ("auth/dpop", Map),
    ("auth/dpop/max_age", Larger(Default("60s"))),
    ("auth/dpop/nonce", Ranked(&["true", "false"], Some("false"))),
    ("auth/dpop/algorithms", Wider(Default("ES256 ES384 EdDSA PS256 RS256"))),
    ("auth/failed_attempts", Counted(Everything)),
    ("token_service", Opening),
    ("token_service/issuer", Unordered),
    ("token_service/audience", Wider(Nothing)),
    ("token_service/access_token", Map),
    ("token_service/access_token/lifetime", Larger(Default("10m"))),
    ("token_service/access_token/algorithm", Unordered),
    ("token_service/refresh_token", Opening),
    ("token_service/refresh_token/lifetime", Larger(Default("30d"))),
    ("token_service/refresh_token/idle", Larger(Default("7d"))),
    ("token_service/refresh_token/grace", Larger(Default("10s"))),
    ("token_service/keys", Map),
    ("token_service/keys/rotate", Larger(Default("30d"))),
    ("token_service/keys/seal", Unordered),
    ("token_service/keys/seal_before", Wider(Nothing)),
    ("token_service/rate", Larger(Everything)),
    ("self_service", Opening),
    ("self_service/path", Unordered),
    ("self_service/rate", Counted(Default("60/min"))),
    ("roles", Definitions),
    ("roles/*", Role),
    ("plans", Definitions),
    ("plans/*/rate", Larger(Everything)),
    ("plans/*/burst", Larger(Depends)),
    ("plans/*/quota", Quotas),
    ("plans/*/per_user", Larger(Everything)),
    ("plans/*/concurrent", Larger(Everything)),
    ("plans/*/count_by", Unordered),
    ("plans/*/classes", Conditions),
    ("plans/*/classes/*/rate", Larger(Everything)),
    ("plans/*/classes/*/burst", Larger(Depends)),
    ("plans/*/classes/*/quota", Quotas),
    ("consumers", Entries),
    ("consumers/*/roles", Roles),
    ("consumers/*/plan", Plan),
    ("consumers/*/organization", Unordered),
    ("consumers/*/from", Networks(Everything)),
    ("consumers/*/attributes", Map),
    ("consumers/*/attributes/*", Attribute),
    ("consumers/*/identities", Entries),
    ("consumers/*/identities/*/issuer", Unordered),
    ("consumers/*/identities/*/id", Unordered),
    ("consumers/*/identities/*/certificate", Unordered),
    ("consumers/*/identities/*/certificate_san", Unordered),
    ("consumers/*/keys", Entries),
    ("consumers/*/keys/*/id", Other),
    ("consumers/*/keys/*/sha256", Unordered),
    ("consumers/*/keys/*/created", Larger(Depends)),
    ("consumers/*/keys/*/expires", Larger(Everything)),
    ("consumers/*/keys/*/not_before", Smaller(Default("1970-01-01T00:00:00Z"))),
    ("consumers/*/keys/*/scopes", Wider(Everything)),
    ("consumers/*/keys/*/from", Networks(Everything)),
    ("consumers/*/keys/*/rotate", Unordered),
    ("consumers/*/clients", Entries),
    ("consumers/*/clients/*/id", Unordered),
    ("consumers/*/clients/*/secret_sha256", Unordered),
    ("consumers/*/clients/*/jwks", Unordered),
    ("consumers/*/clients/*/certificate", Unordered),
    ("consumers/*/clients/*/created", Larger(Depends)),
    ("consumers/*/clients/*/expires", Larger(Everything)),
    ("consumers/*/clients/*/dpop", Ranked(&["true", "false"], Some("false"))),
    ("consumers/*/clients/*/exchange", Wider(Nothing)),
    ("consumers/*/clients/*/introspect", Ranked(&["false", "true"], Some("false"))),
    ("apis", Definitions),
    ("apis/*/authenticate_by", Wider(Everything)),
    ("apis/*/hosts", ByRoute),
    ("apis/*/strip", Unordered),
    ("apis/*/upstream", Map),
    ("apis/*/upstream/servers", Servers),
    ("apis/*/upstream/resolve", Other),
    ("apis/*/upstream/protocol", Other),
    // An upstream may decide by it.
    ("apis/*/upstream/host", Unordered),
    ("apis/*/upstream/balance", Other),
    ("apis/*/upstream/health", Other),
    ("apis/*/upstream/eject", Other),
    ("apis/*/upstream/none_left", Other),
    ("apis/*/upstream/retries", Other),
    ("apis/*/upstream/connections", Other),
    ("apis/*/upstream/requests", Larger(Everything)),
    ("apis/*/upstream/tls", Map),
    ("apis/*/upstream/tls/ca", Unordered),
    ("apis/*/upstream/tls/certificate", Other),
    ("apis/*/upstream/tls/key", Other),
    ("apis/*/upstream/tls/server_name", Unordered),
    ("apis/*/upstream/tls/pin", Wider(Everything)),
    ("apis/*/upstream/connect_timeout", Other),
    ("apis/*/upstream/response_timeout", Other),
    ("apis/*/upstream/idle_timeout", Other),
    ("apis/*/upstream/forward_credentials", Ranked(&["false", "true"], Some("false"))),
    ("apis/*/openapi", Unordered),
    ("apis/*/openapi/document", Unordered),
    ("apis/*/openapi/responses", Ranked(&["block", "report", "off"], Some("block"))),
    ("apis/*/openapi/undescribed", Ranked(&["block", "report", "allow"], None)),
    ("apis/*/openapi/read_only", Ranked(&["block", "report", "allow"], Some("block"))),
    ("apis/*/openapi/write_only", Ranked(&["block", "report", "allow"], Some("block"))),
    ("apis/*/openapi/max_size", Larger(Default("1MiB"))),
    ("apis/*/openapi/strict", Ranked(&["true", "false"], Some("false"))),
    ("apis/*/openapi/skip", Narrower(Nothing)),
    ("apis/*/openapi/scopes", Narrower(Depends)),
    ("apis/*/mode", ByRoute),
    ("apis/*/headers", Map),
    ("apis/*/headers/request", Map),
    ("apis/*/headers/request/keep", Wider(Nothing)),
    ("apis/*/headers/request/set", Unordered),
    ("apis/*/headers/request/remove", Unordered),
    ("apis/*/headers/response", Unordered),
    // Without it, what the upstream says goes on to pages.
    ("apis/*/cors", Unordered),
    ("apis/*/cors/origins", Wider(Nothing)),
    ("apis/*/cors/headers", Wider(Nothing)),
    ("apis/*/cors/expose", Wider(Nothing)),
    ("apis/*/cors/credentials", Ranked(&["false", "true"], Some("false"))),
    ("apis/*/cors/max_age", Larger(Default("10m"))),
    ("apis/*/cors/preflights", Larger(Default("100/s"))),
    ("apis/*/routes", ByRoute),
    ("apis/*/routes/*", Map),
    ("apis/*/routes/*/scopes", ByRoute),
    ("apis/*/routes/*/public", ByRoute),
    ("apis/*/routes/*/only", Wider(Everything)),
    ("apis/*/routes/*/from", Networks(Everything)),
    ("apis/*/routes/*/where", Conditions),
    ("apis/*/routes/*/where/*", Unordered),
    ("apis/*/routes/*/proof_of_possession", Wider(Everything)),
    ("apis/*/routes/*/max_age", Larger(Everything)),
    ("apis/*/routes/*/class", Guard),
    ("apis/*/routes/*/cost", Smaller(Default("1"))),
    ("apis/*/routes/*/rate", Larger(Everything)),
    ("apis/*/routes/*/rewrite", Unordered),
    ("apis/*/routes/*/encoded_slash", Ranked(&["refuse", "keep"], Some("refuse"))),
    ("apis/*/routes/*/mode", ByRoute),
    ("apis/*/routes/*/request", Contract),
    ("apis/*/routes/*/request/max_size", Larger(Depends)),
    ("apis/*/routes/*/request/timeout", Other),
    ("apis/*/routes/*/request/path", Guard),
    ("apis/*/routes/*/request/query", Guard),
    ("apis/*/routes/*/request/headers", Guard),
    ("apis/*/routes/*/request/cookies", Guard),
    ("apis/*/routes/*/request/strict", Ranked(&["true", "false"], Some("false"))),
    ("apis/*/routes/*/response", Contract),
    ("apis/*/routes/*/response/mode", Ranked(&["block", "report"], Some("block"))),
    ("apis/*/routes/*/response/max_size", Larger(Default("1MiB"))),
    ("apis/*/routes/*/response/mask", Conditions),
    ("apis/*/routes/*/response/mask/*/visible_to", Wider(Nothing)),
    ("apis/*/routes/*/response/mask/*/else", Replacement),
    ("apis/*/routes/*/upgrade", Opening),
    ("apis/*/routes/*/upgrade/websocket", Opening),
    ("apis/*/routes/*/upgrade/websocket/idle", Larger(Default("5m"))),
    ("apis/*/routes/*/upgrade/websocket/lifetime", Larger(Default("24h"))),
    ("audit", Other),
    ("telemetry", Other),
];

/// Keys with a short form, and the key of the long form that its value is of.
pub(super) const SHORT: &[(&str, &str)] =
    &[("plans/*/classes/*", "rate"), ("apis/*/upstream", "servers"), ("apis/*/openapi", "document")];

/// Lists of entries with a name, by the key that has it. Others are known by all that they say.
pub(super) const NAMED: &[(&str, &[&str])] = &[
    ("listen", &["address"]),
    ("admin/tokens", &["name"]),
    ("consumers/*/keys", &["id"]),
    ("consumers/*/clients", &["id", "secret_sha256", "jwks", "certificate"]),
    ("consumers/*/identities", &["issuer", "id", "certificate", "certificate_san"]),
];

/// Whether a path is that of a rule. Both are texts between slashes; `*` of the rule is any text.
pub(super) fn is_at(rule: &str, path: &[&str]) -> bool {
    let mut parts = path.iter();
    let mut rule = rule.split('/').filter(|part| !part.is_empty());
    rule.by_ref().all(|part| parts.next().is_some_and(|known| part == "*" || part == *known)) && parts.next().is_none()
}

/// The rule of a setting. What no rule knows is judged as what cannot be ordered.
pub(super) fn rule_of(path: &[&str]) -> Rule {
    RULES.iter().find(|(rule, _)| is_at(rule, path)).map_or(Rule::Unordered, |(_, rule)| *rule)
}

/// Whether some rule is about something below this path.
pub(super) fn has_below(path: &[&str]) -> bool {
    let deeper = |rule: &str| {
        let parts: Vec<&str> = rule.split('/').collect();
        parts.len() > path.len() && parts.iter().zip(path).all(|(part, known)| *part == "*" || part == known)
    };
    RULES.iter().any(|(rule, _)| deeper(rule))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::policy::document::schema;

    /// The paths of all settings of the language, with their defaults: the names of entries are `*`.
    fn settings(schema: &Value, root: &Value, path: &str, found: &mut BTreeSet<(String, Option<String>)>) {
        let of = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        if let Some(name) = schema["$ref"].as_str() {
            settings(root.pointer(name.strip_prefix('#').unwrap()).unwrap(), root, path, found);
        }
        for either in ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| schema[*key].as_array()).flatten() {
            settings(either, root, path, found);
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let default = inner["default"].as_str().map_or_else(
                || Some(&inner["default"]).filter(|value| !value.is_null()).map(ToString::to_string),
                |text| Some(text.to_owned()),
            );
            found.insert((of(name), default));
            settings(inner, root, &of(name), found);
        }
        for inner in [&schema["additionalProperties"], &schema["items"]].into_iter().filter(|inner| inner.is_object()) {
            let is_map = schema["additionalProperties"].is_object() || path_is_of_entries(path);
            settings(inner, root, &if is_map { of("*") } else { path.to_owned() }, found);
        }
    }

    fn path_is_of_entries(path: &str) -> bool {
        NAMED.iter().any(|(rule, _)| *rule == path)
    }

    fn all() -> BTreeSet<(String, Option<String>)> {
        let (schema, mut found) = (schema::policy(), BTreeSet::new());
        settings(&schema, &schema, "", &mut found);
        found
    }

    /// Whether everything below a path is covered by its rule.
    fn covers(rule: &str) -> bool {
        let path: Vec<&str> = rule.split('/').collect();
        let is_ended = matches!(rule_of(&path), Other | Unordered | Guard | Contract | Quotas | Definitions | ByRoute);
        is_ended && (!has_below(&path) || matches!(rule_of(&path), Contract))
    }

    #[test]
    fn every_key_of_the_language_has_a_rule() {
        let known: BTreeSet<&str> = RULES.iter().map(|(rule, _)| *rule).collect();
        assert_eq!(known.len(), RULES.len(), "a rule is there twice");
        let all = all();
        assert!(all.len() > 250, "{}", all.len());
        let is_known = |path: &str| {
            known.contains(path)
                || path.match_indices('/').any(|(end, _)| known.contains(&path[..end]) && covers(&path[..end]))
        };
        let missing: Vec<_> = all.iter().filter(|(path, _)| !is_known(path)).collect();
        assert!(missing.is_empty(), "say in RULES what these mean: {missing:#?}");
        let names = |rule: &str| all.iter().any(|(path, _)| path == rule || path.starts_with(&format!("{rule}/")));
        let gone: Vec<_> =
            known.iter().filter(|rule| !rule.is_empty() && !rule.ends_with('*') && !names(rule)).collect();
        assert!(gone.is_empty(), "these are no keys: {gone:#?}");
    }

    #[test]
    fn defaults_are_those_of_the_language() {
        for (path, default) in all() {
            let Some(default) = default else { continue };
            let parts: Vec<&str> = path.split('/').collect();
            let own = match rule_of(&parts) {
                Larger(Default(own)) | Counted(Default(own)) | Smaller(Default(own)) | Wider(Default(own)) => {
                    Some(own.to_owned())
                }
                Ranked(_, own) => own.map(str::to_owned),
                Larger(Depends | Everything | Nothing) | Counted(Depends | Everything | Nothing) => None,
                _ => continue,
            };
            let plain = default.replace(['[', ']', '"'], "").replace(',', " ");
            assert_eq!(own, Some(plain), "{path}");
        }
    }
}
