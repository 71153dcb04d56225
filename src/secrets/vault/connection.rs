//! Requests to a vault, without a login.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::error::VaultError;
use super::settings::VaultSettings;
use crate::egress::{Answer, HttpClient};

/// Most bytes of an answer: a value of 1 MiB in JSON.
const LIMIT: usize = 4 << 20;
/// What stays as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Sends requests to one vault. Its connections belong to the runtime that it is used in.
pub(super) struct Connection {
    pub(super) settings: Arc<VaultSettings>,
    client: HttpClient,
}

/// A request below `/v1/`.
#[derive(Clone, Copy)]
pub(super) struct VaultRequest<'a> {
    pub(super) path: &'a str,
    /// With its `?`, or empty.
    pub(super) query: &'a str,
    /// JSON. Present: POST, otherwise GET.
    pub(super) body: Option<&'a str>,
}

impl Connection {
    /// Opens nothing yet.
    pub(super) fn new(settings: &Arc<VaultSettings>) -> Self {
        let client = HttpClient::new(&settings.egress, settings.trust.as_ref(), settings.egress.timeout, LIMIT);
        Self { client, settings: Arc::clone(settings) }
    }

    /// POST, and the JSON of the answer.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
        token: Option<&SecretString>,
    ) -> Result<Value, VaultError> {
        success(&self.send(VaultRequest { path, query: "", body: Some(&body.to_string()) }, token).await?)
    }

    /// Sends a request, with a token.
    pub(super) async fn send(
        &self,
        asked: VaultRequest<'_>,
        token: Option<&SecretString>,
    ) -> Result<Answer, VaultError> {
        let VaultRequest { path, query, body } = asked;
        let base = self.settings.url.uri().to_string();
        let url = format!("{}/v1/{}{query}", base.trim_end_matches('/'), utf8_percent_encode(path, PATH));
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder().method(method).uri(url).header("x-vault-request", "true");
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        if let Some(namespace) = &self.settings.namespace {
            request = request.header("x-vault-namespace", &**namespace);
        }
        if let Some(token) = token {
            let wrong = |_| VaultError::Login("the token has characters that no token has".to_owned());
            let mut value = HeaderValue::from_str(token.expose_secret()).map_err(wrong)?;
            value.set_sensitive(true);
            request = request.header("x-vault-token", value);
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default().to_owned())));
        let request = request.map_err(|error| VaultError::Unexpected(error.to_string()))?;
        self.client.send(request).await.map_err(VaultError::Unreachable)
    }
}

/// The JSON of a success.
pub(super) fn success(answer: &Answer) -> Result<Value, VaultError> {
    if !answer.status.is_success() {
        return Err(VaultError::of(answer));
    }
    if answer.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&answer.body).map_err(|_| VaultError::garbage())
}
