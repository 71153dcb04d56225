//! Tokens that only their issuer can read: decides by asking its introspection endpoint (RFC 7662).
//!
//! One question for all who bring the same token at the same time, and its answer is believed for a while: an active one
//! never past its own end, an inactive one briefly. An endpoint that cannot be reached is no answer.

use std::fmt;
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
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::claims::{Claims, Settings, Voucher, refuse};
use super::fetch::Fetcher;
use crate::refusal::{Reason, Refusal};
use crate::stages::strict_json;
use crate::state::registry::entry::Digest;

/// A whole exchange with an endpoint: a caller waits for it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Answers that are remembered.
const REMEMBERED: usize = 65_536;
/// An inactive token is asked for again after this, in seconds, or sooner where active ones are believed for less.
const INACTIVE: i64 = 5;
/// Longest token that is sent, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// How long an assertion of ours is good, in seconds (RFC 7523 §3).
const ASSERTION: i64 = 60;
/// What a form keeps as it is (WHATWG URL, application/x-www-form-urlencoded).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// How we tell the endpoint who asks.
pub(crate) enum ClientAuthentication {
    /// In the Authorization header (RFC 6749 §2.3.1).
    Basic(SecretString),
    /// In the form (RFC 6749 §2.3.1).
    Post(SecretString),
    /// By an assertion that we sign (RFC 7523 §2.2).
    PrivateKeyJwt {
        /// Signs.
        key: Box<EncodingKey>,
        /// With this.
        algorithm: Algorithm,
        /// Its name, for the endpoint.
        kid: Option<String>,
    },
}

/// An introspection endpoint, as the policy has it.
pub(crate) struct Introspection {
    settings: Settings,
    endpoint: Uri,
    client_id: Box<str>,
    authentication: ClientAuthentication,
    /// How long an active answer is believed, in seconds.
    believed: i64,
    /// The authorities to trust when calling it.
    tls: Arc<ClientConfig>,
    /// Answers in place of the endpoint.
    given: Option<Given>,
}

/// Asks one introspection endpoint, and remembers its answers.
pub(crate) struct IntrospectionClient {
    fetcher: Fetcher,
    /// By digest of the token: what was said, and until when that is believed.
    answers: Cache<Digest, (Said, i64)>,
}

impl IntrospectionClient {
    /// A client that has asked nothing yet.
    pub(super) fn new(endpoint: &Introspection) -> Self {
        Self { fetcher: Fetcher::new(&endpoint.tls, PATIENCE), answers: Cache::new(REMEMBERED) }
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

/// Answers in place of an endpoint, for rehearsals: what a token claims when it is active.
pub(crate) type Given = Arc<dyn Fn(&str) -> Option<serde_json::Map<String, Value>> + Send + Sync>;

/// What an endpoint says of a token.
#[derive(Debug, Clone)]
enum Said {
    /// It is not active here.
    Inactive,
    /// It is, and what it claims.
    Active(Arc<serde_json::Map<String, Value>>),
}

impl Introspection {
    /// Compiles an endpoint; an active answer is believed for `believed`.
    pub(crate) fn new(
        settings: Settings,
        endpoint: Uri,
        client_id: &str,
        authentication: ClientAuthentication,
        believed: Duration,
        tls: &Arc<ClientConfig>,
    ) -> Self {
        Self {
            settings,
            endpoint,
            client_id: client_id.into(),
            authentication,
            believed: i64::try_from(believed.as_secs()).unwrap_or(i64::MAX),
            tls: Arc::clone(tls),
            given: None,
        }
    }

    /// The same, without asking anybody.
    pub(crate) fn given(self, given: Given) -> Self {
        Self { given: Some(given), ..self }
    }

    /// What is asked of its tokens.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &Uri {
        &self.endpoint
    }

    /// Decides whether a token is active here, and what it claims; `None` when the endpoint does not know it. Also
    /// returns until when that may be believed, in seconds since 1970.
    pub(super) async fn verify(
        &self,
        client: &IntrospectionClient,
        token: &str,
        now: Timestamp,
    ) -> Result<Option<(Claims, i64)>, Refusal> {
        if token.len() > MAX_TOKEN {
            return Ok(None);
        }
        let (said, until) = self.ask(client, token, now).await?;
        match said {
            Said::Inactive => Ok(None),
            Said::Active(claims) => {
                let claims = self.settings.judge(&claims, Voucher::Endpoint, now)?;
                Ok(Some((claims, until)))
            }
        }
    }

    /// The cached answer, or a new one; concurrent requests with the same token wait for the same answer.
    async fn ask(&self, client: &IntrospectionClient, token: &str, now: Timestamp) -> Result<(Said, i64), Refusal> {
        let key = Digest::try_from(digest(&SHA256, token.as_bytes()).as_ref()).unwrap_or_default();
        let second = now.as_second();
        if let Some((said, until)) = client.answers.get(&key) {
            if second < until {
                return Ok((said, until));
            }
            client.answers.remove(&key);
        }
        let asked = client.answers.get_or_insert_async(&key, async {
            let said = self.introspect(&client.fetcher, token, now).await?;
            let until = match &said {
                Said::Inactive => second.saturating_add(self.believed.min(INACTIVE)),
                Said::Active(claims) => {
                    let end = claims.get("exp").and_then(Value::as_f64).map_or(i64::MAX, |end| end as i64);
                    second.saturating_add(self.believed).min(end)
                }
            };
            Ok((said, until))
        });
        asked.await.map_err(|why: String| {
            refuse(Reason::IdentityUnavailable, "the token cannot be checked now; try again shortly")
                .cause(format!("introspection at {}: {why}", self.endpoint))
        })
    }

    async fn introspect(&self, fetcher: &Fetcher, token: &str, now: Timestamp) -> Result<Said, String> {
        if let Some(given) = &self.given {
            return Ok(given(token).map_or(Said::Inactive, |claims| Said::Active(Arc::new(claims))));
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
        let answer = strict_json::parse(&answer.body).map_err(|error| format!("the answer is not JSON: {error}"))?;
        match (answer.get("active").and_then(Value::as_bool), answer) {
            (Some(false), _) => Ok(Said::Inactive),
            (Some(true), Value::Object(members)) => Ok(Said::Active(Arc::new(members))),
            _ => Err("the answer does not say whether the token is `active`".to_owned()),
        }
    }

    /// RFC 7523 §3: who we are, for this endpoint alone, once and not for long.
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
            "jti": uuid::Uuid::now_v7().to_string(), "iat": now, "exp": now.saturating_add(ASSERTION),
        });
        let header = Header { kid: kid.cloned(), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims, key).map_err(|error| format!("no assertion could be signed: {error}"))
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, FORM).to_string()
}
