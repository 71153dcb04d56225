//! What the service says of itself (RFC 8414).

use serde_json::{Value, json};

use super::grants;
use super::service::Service;
use crate::policy::token_service::OwnEndpoint;

/// How clients may authenticate (RFC 8414 §2, RFC 8705 §2.2).
const METHODS: [&str; 4] =
    ["client_secret_basic", "client_secret_post", "private_key_jwt", "self_signed_tls_client_auth"];
/// Algorithms of assertions.
const ALGORITHMS: [&str; 9] = ["ES256", "ES384", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// The document. It has no `mtls_endpoint_aliases` (RFC 8705 §5): certificates are asked for on the same ports as everything else,
/// and clients that prefer aliases use the endpoints themselves where there are none.
pub(super) fn of(service: &Service<'_>) -> Value {
    let config = service.config;
    let proofs = &service.in_force.policy.auth().dpop.algorithms;
    let proofs: Vec<_> = proofs.iter().map(|algorithm| format!("{algorithm:?}")).collect();
    // A partner may be invited to bring a certificate, if some listener asks for one.
    let may_bring = service.in_force.policy.self_service().is_some() && service.in_force.auth.takes_certificates();
    let has_certificates = config.has_certificates || may_bring;
    let methods: Vec<_> = METHODS.into_iter().filter(|name| has_certificates || !name.contains("tls")).collect();
    json!({
        "issuer": config.issuer,
        "token_endpoint": config.url(OwnEndpoint::Token),
        "revocation_endpoint": config.url(OwnEndpoint::Revoke),
        "introspection_endpoint": config.url(OwnEndpoint::Introspect),
        "jwks_uri": config.url(OwnEndpoint::Keys),
        "grant_types_supported": grants::kinds(config),
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "dpop_signing_alg_values_supported": proofs,
        "tls_client_certificate_bound_access_tokens": has_certificates,
    })
}
