//! The issuer of the demo: signs tokens for anyone with a key created at start, and publishes the public key.
//!
//! It authenticates nobody, so it is only suitable for a demonstration on loopback.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::server::{MAX_BODY, json_answer};

/// Id of the key in tokens and in the key set.
const KEY_ID: &str = "demo";
/// Audience of the tokens.
const AUDIENCE: &str = "orders-api";
/// Lifetime of tokens: a working day, within the policy's `max_lifetime`.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The issuer and its key.
pub(super) struct Issuer {
    url: String,
    key: EncodingKey,
    jwks: Value,
}

impl Issuer {
    /// Creates a key. Fails if the system has no randomness.
    pub(super) fn new(address: SocketAddr) -> io::Result<Self> {
        let made = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .and_then(|pair| pair.to_pkcs8v1().map(|document| (pair, document)));
        let (pair, document) = made.map_err(|_| io::Error::other("cannot create the issuer's key"))?;
        // SEC 1 §2.3.3: 4, then x and y of equal length.
        let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        let key = EncodingKey::from_ec_der(document.as_ref());
        Ok(Self { url: format!("http://{address}"), key, jwks: json!({"keys": [jwk]}) })
    }

    /// A token for a client, with these scopes.
    pub(super) fn token(&self, client: &str, scope: &str) -> io::Result<String> {
        let now = Timestamp::now().as_second();
        let claims = json!({
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": client,
            "scope": scope,
            "iat": now,
            "exp": now.saturating_add_unsigned(LIFETIME.as_secs()),
            "jti": uuid::Uuid::now_v7().to_string(),
        });
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(io::Error::other)
    }

    /// Answers one request.
    pub(super) async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/jwks.json") => json_answer(StatusCode::OK, &self.jwks),
            (&Method::GET, "/.well-known/openid-configuration") => json_answer(
                StatusCode::OK,
                &json!({
                    "issuer": self.url,
                    "jwks_uri": format!("{}/jwks.json", self.url),
                    "token_endpoint": format!("{}/token", self.url),
                    "grant_types_supported": ["client_credentials"],
                }),
            ),
            (&Method::POST, "/token") => {
                let form = Limited::new(body, MAX_BODY).collect().await.map(|body| body.to_bytes());
                let form = form.unwrap_or_default();
                let form = String::from_utf8_lossy(&form);
                let scope = field(&form, "scope").unwrap_or_default();
                match field(&form, "client_id").map(|client| self.token(&client, &scope)) {
                    Some(Ok(token)) => json_answer(
                        StatusCode::OK,
                        &json!({
                            "access_token": token, "token_type": "Bearer", "expires_in": LIFETIME.as_secs(), "scope": scope,
                        }),
                    ),
                    Some(Err(_)) => json_answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": "server_error"})),
                    None => json_answer(StatusCode::BAD_REQUEST, &json!({"error": "invalid_request"})),
                }
            }
            _ => json_answer(StatusCode::NOT_FOUND, &json!({"error": "not_found"})),
        }
    }
}

/// A field of a form (`application/x-www-form-urlencoded`).
fn field(form: &str, name: &str) -> Option<String> {
    let (_, value) = form.split('&').filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name)?;
    let value = value.replace('+', " ");
    Some(percent_decode_str(&value).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read() {
        let form = "client_id=finance&scope=orders%3Aread+orders:refund&empty=";
        assert_eq!(field(form, "client_id").as_deref(), Some("finance"));
        assert_eq!(field(form, "scope").as_deref(), Some("orders:read orders:refund"));
        assert_eq!(field(form, "empty").as_deref(), Some(""));
        assert_eq!(field(form, "id"), None);
    }

    #[test]
    fn tokens_verify_with_the_published_key() {
        let issuer = Issuer::new(super::super::places::loopback(9002)).unwrap();
        let token = issuer.token("shop", "orders:read").unwrap();
        let jwk = serde_json::from_value(issuer.jwks["keys"][0].clone()).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        assert!(jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, Algorithm::ES256).unwrap());
    }
}
