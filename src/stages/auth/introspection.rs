//! Opaque tokens: verifies them at their issuer's introspection endpoint (RFC 7662).
//!
//! Concurrent requests with the same token share one introspection, and the response is cached: for an active token never
//! longer than until it expires, for an inactive one briefly. If the endpoint cannot be reached, or too many tokens are
//! being introspected, the request is refused with 503.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_cache::sync::Cache;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::claims::{Claims, Settings, VerifiedBy, invalid, is_other, refuse};
use super::fetch::Fetcher;
use crate::egress::{Egress, Trust};
use crate::refusal::{Members, Reason, Refusal};
use crate::stages::strict_json;
use crate::state::registry::entry::Digest;

/// Timeout of one introspection, and of a caller that waits for the one of another request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
/// Most cached responses.
const MAX_CACHED: usize = 65_536;
/// How long an inactive token is cached, in seconds, unless active ones are cached for less.
const INACTIVE_TTL: i64 = 5;
/// Longest token that is sent, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// Lifetime of a client assertion, in seconds (RFC 7523 §3).
const ASSERTION_LIFETIME: i64 = 60;
/// All bytes that a form percent-encodes (WHATWG URL, application/x-www-form-urlencoded).
const FORM_ENCODE_SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// How we authenticate to the endpoint.
pub(crate) enum ClientAuthentication {
    /// In the Authorization header (RFC 6749 §2.3.1).
    Basic(SecretString),
    /// In the form (RFC 6749 §2.3.1).
    Post(SecretString),
    /// By an assertion that we sign (RFC 7523 §2.2).
    PrivateKeyJwt {
        /// The private key.
        key: Box<EncodingKey>,
        /// Its algorithm.
        algorithm: Algorithm,
        /// Its `kid`.
        kid: Option<String>,
    },
}

/// An introspection endpoint of the policy.
pub(crate) struct Introspection {
    settings: Settings,
    endpoint: Uri,
    client_id: Box<str>,
    authentication: ClientAuthentication,
    /// How long an active token is cached, in seconds.
    cache_ttl: i64,
    /// Most introspections at once.
    concurrent: usize,
    /// Which authorities to trust when calling it.
    trust: Trust,
    egress: Arc<Egress>,
    /// Answers in place of the endpoint, in a rehearsal.
    stand_in: Option<EndpointStandIn>,
}

/// Asks one introspection endpoint, and caches its answers.
pub(crate) struct IntrospectionClient {
    fetcher: Fetcher,
    /// By digest of the token: its state, and until when to use it.
    answers: Cache<Digest, (TokenState, i64)>,
    /// One permit for each introspection that may be under way.
    permits: Semaphore,
}

/// Why a token was not introspected.
enum Failure {
    /// Too many others are.
    Busy,
    /// The endpoint did not answer, or its answer cannot be used.
    Endpoint(String),
}

impl IntrospectionClient {
    /// A client that has asked nothing yet.
    pub(super) fn new(endpoint: &Introspection) -> Self {
        Self {
            fetcher: Fetcher::new(&endpoint.egress, &endpoint.trust, TIMEOUT.min(endpoint.egress.timeout)),
            answers: Cache::new(MAX_CACHED),
            permits: Semaphore::new(endpoint.concurrent),
        }
    }
}

impl fmt::Debug for IntrospectionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntrospectionClient({} answers)", self.answers.len())
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Introspection({})", self.endpoint)
    }
}

/// Answers in place of an endpoint, in rehearsals: returns the claims of an active token.
pub(crate) type EndpointStandIn = Arc<dyn Fn(&str) -> Option<serde_json::Map<String, Value>> + Send + Sync>;

/// The state of a token at the endpoint.
#[derive(Debug, Clone)]
enum TokenState {
    /// It is not active.
    Inactive,
    /// It is active, and has these claims.
    Active(Arc<serde_json::Map<String, Value>>),
}

impl TokenState {
    /// Reads the answer of an endpoint (RFC 7662 §2.2).
    fn read(answer: &[u8]) -> Result<Self, String> {
        let answer = strict_json::parse(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
        match (answer.get("active").and_then(Value::as_bool), answer) {
            (Some(false), _) => Ok(Self::Inactive),
            (Some(true), Value::Object(members)) => Ok(Self::Active(Arc::new(members))),
            _ => Err("the answer does not say whether the token is `active`".to_owned()),
        }
    }
}

/// Returns whether an answer of an endpoint says that the token is active.
pub(crate) fn is_active(answer: &[u8]) -> Result<bool, String> {
    TokenState::read(answer).map(|state| matches!(state, TokenState::Active(_)))
}

impl Introspection {
    /// Compiles an endpoint. Active tokens are cached for `cache_ttl`; no more than `concurrent` are introspected at once.
    pub(crate) fn new(
        settings: Settings,
        endpoint: Uri,
        client_id: &str,
        authentication: ClientAuthentication,
        (cache_ttl, concurrent): (Duration, NonZeroU16),
        (trust, egress): (Trust, Arc<Egress>),
    ) -> Self {
        Self {
            settings,
            endpoint,
            client_id: client_id.into(),
            authentication,
            cache_ttl: i64::try_from(cache_ttl.as_secs()).unwrap_or(i64::MAX),
            concurrent: concurrent.get().into(),
            trust,
            egress,
            stand_in: None,
        }
    }

    /// Replaces the endpoint by a stand-in.
    pub(crate) fn with_stand_in(self, stand_in: EndpointStandIn) -> Self {
        Self { stand_in: Some(stand_in), ..self }
    }

    /// What its tokens are checked against.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its URL.
    pub(crate) fn endpoint(&self) -> &Uri {
        &self.endpoint
    }

    /// Returns the claims of an active token, and until when to cache them, in seconds since 1970. `None` if the token is not
    /// active.
    pub(super) async fn verify(
        &self,
        client: &IntrospectionClient,
        token: &str,
        now: Timestamp,
    ) -> Result<Option<(Claims, i64)>, Refusal> {
        if token.len() > MAX_TOKEN {
            return Ok(None);
        }
        let (state, until) = self.cached_or_introspect(client, token, now).await?;
        match state {
            TokenState::Inactive => Ok(None),
            TokenState::Active(claims) => {
                // RFC 7662 §2.2: refresh tokens may be active, too.
                if is_other(&claims) {
                    return Err(invalid("the token is not an access token; send the access token"));
                }
                let claims = self.settings.read(&claims, VerifiedBy::Endpoint)?;
                Ok(Some((claims, until)))
            }
        }
    }

    /// Returns the cached state, or asks the endpoint; concurrent requests with the same token share one introspection.
    async fn cached_or_introspect(
        &self,
        client: &IntrospectionClient,
        token: &str,
        now: Timestamp,
    ) -> Result<(TokenState, i64), Refusal> {
        let key = Digest::try_from(digest(&SHA256, token.as_bytes()).as_ref()).unwrap_or_default();
        let second = now.as_second();
        if let Some((state, until)) = client.answers.get(&key) {
            if second < until {
                return Ok((state, until));
            }
            client.answers.remove(&key);
        }
        let answer = client.answers.get_or_insert_async(&key, async {
            let _permit = client.permits.try_acquire().map_err(|_| Failure::Busy)?;
            let state = self.introspect(&client.fetcher, token, now).await.map_err(Failure::Endpoint)?;
            let until = match &state {
                TokenState::Inactive => second.saturating_add(self.cache_ttl.min(INACTIVE_TTL)),
                TokenState::Active(claims) => {
                    let end = claims.get("exp").and_then(Value::as_f64).map_or(i64::MAX, |end| end as i64);
                    second.saturating_add(self.cache_ttl).min(end)
                }
            };
            Ok((state, until))
        });
        // The introspection of another request may fail after this one has waited for it, and then this one would begin.
        let answer = tokio::time::timeout(TIMEOUT, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(Failure::Endpoint(format!("no answer within {TIMEOUT:?}"))));
        answer.map_err(|failure| match failure {
            Failure::Endpoint(why) => {
                refuse(Reason::IdentityUnavailable, "the token cannot be checked now; try again shortly")
                    .cause(format!("introspection at {}: {why}", self.endpoint))
            }
            Failure::Busy => refuse(Reason::Overloaded, "too many tokens are being checked; try again shortly")
                .members(Members { retry_after: Some(1), ..Members::default() })
                .cause(format!("{} introspections at {} are under way", self.concurrent, self.endpoint)),
        })
    }

    async fn introspect(&self, fetcher: &Fetcher, token: &str, now: Timestamp) -> Result<TokenState, String> {
        if let Some(stand_in) = &self.stand_in {
            return Ok(stand_in(token).map_or(TokenState::Inactive, |claims| TokenState::Active(Arc::new(claims))));
        }
        let mut form = vec![("token", token.to_owned()), ("token_type_hint", "access_token".to_owned())];
        let mut authorization = None;
        match &self.authentication {
            ClientAuthentication::Basic(secret) => {
                // Both are form-encoded before they are joined (RFC 6749 §2.3.1).
                let pair = format!("{}:{}", encoded(&self.client_id), encoded(secret.expose_secret()));
                let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
                let mut value = value.map_err(|error| error.to_string())?;
                value.set_sensitive(true);
                authorization = Some(value);
            }
            ClientAuthentication::Post(secret) => {
                form.push(("client_id", self.client_id.to_string()));
                form.push(("client_secret", secret.expose_secret().to_owned()));
            }
            ClientAuthentication::PrivateKeyJwt { key, algorithm, kid } => {
                form.push(("client_id", self.client_id.to_string()));
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                form.push(("client_assertion_type", kind.to_owned()));
                form.push(("client_assertion", self.assertion(key, *algorithm, kid.as_ref(), now)?));
            }
        }
        let form: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let fetched = fetcher.post(&self.endpoint, form.join("&"), authorization.as_ref()).await;
        let answer = fetched.map_err(|error| error.to_string())?;
        TokenState::read(&answer.body)
    }

    /// Makes a client assertion, for this endpoint only (RFC 7523 §3).
    fn assertion(
        &self,
        key: &EncodingKey,
        algorithm: Algorithm,
        kid: Option<&String>,
        now: Timestamp,
    ) -> Result<String, String> {
        let now = now.as_second();
        let claims = json!({
            "iss": &*self.client_id, "sub": &*self.client_id, "aud": self.endpoint.to_string(),
            "jti": uuid::Uuid::now_v7().to_string(), "iat": now, "exp": now.saturating_add(ASSERTION_LIFETIME),
        });
        let header = Header { kid: kid.cloned(), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims, key)
            .map_err(|error| format!("the client assertion cannot be signed: {error}"))
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, FORM_ENCODE_SET).to_string()
}
