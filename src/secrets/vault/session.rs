//! Requests to a vault with the token of its login.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::StatusCode;
use serde_json::Value;

use super::connection::{Connection, VaultRequest, success};
use super::error::VaultError;
use super::login::{self, LoginOf, Token};
use super::settings::VaultSettings;
use crate::egress::Answer;

/// Requests to a vault that belong together. In one session there is at most one login after a refused token.
pub(super) struct Session {
    connection: Connection,
    login: Arc<LoginOf>,
    begun: Instant,
}

impl Session {
    /// Begins one, with a login that outlives it.
    pub(super) fn begin(settings: &Arc<VaultSettings>, login: &Arc<LoginOf>) -> Self {
        Self { connection: Connection::new(settings), login: Arc::clone(login), begun: Instant::now() }
    }

    pub(super) fn settings(&self) -> &VaultSettings {
        &self.connection.settings
    }

    /// GET below `/v1/`, and the answer as it is. The query comes with its `?`.
    pub(super) async fn get(&self, path: &str, query: &str) -> Result<Answer, VaultError> {
        self.authorized(VaultRequest { path, query, body: None }).await
    }

    /// POST below `/v1/`, and the JSON of the answer.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, VaultError> {
        self.post_text(path, &body.to_string()).await
    }

    /// The same, with a body that is text already.
    pub(super) async fn post_text(&self, path: &str, body: &str) -> Result<Value, VaultError> {
        success(&self.authorized(VaultRequest { path, query: "", body: Some(body) }).await?)
    }

    /// One request. If it is refused, the token may have ended without notice, or have fewer rights than a new one: once, a
    /// new login is tried. When that is of no use, only a token that the vault does not know any more is a reason for another.
    async fn authorized(&self, asked: VaultRequest<'_>) -> Result<Answer, VaultError> {
        let token = self.token(None).await?;
        let answer = self.connection.send(asked, Some(&token.text)).await?;
        let may_be_old = token.made < self.begun && self.settings().login.is_repeatable();
        if answer.status != StatusCode::FORBIDDEN || !may_be_old {
            return Ok(answer);
        }
        let is_futile = self.login.state.lock().await.is_futile(Instant::now());
        if is_futile && self.is_known(&token).await? {
            return Ok(answer);
        }
        let token = self.token(Some(&token)).await?;
        let answer = self.connection.send(asked, Some(&token.text)).await?;
        let is_refused = answer.status == StatusCode::FORBIDDEN;
        self.login.state.lock().await.after_refusal(is_refused, Instant::now());
        Ok(answer)
    }

    /// Whether the vault knows a token.
    async fn is_known(&self, token: &Token) -> Result<bool, VaultError> {
        let asked = VaultRequest { path: "auth/token/lookup-self", query: "", body: None };
        Ok(self.connection.send(asked, Some(&token.text)).await?.status != StatusCode::FORBIDDEN)
    }

    /// The token of the login: the one that is there, or a new one. When there is no new one, the one that is there is used
    /// until its end.
    async fn token(&self, refused: Option<&Token>) -> Result<Token, VaultError> {
        // Held while logging in: what others would do meanwhile is the same login.
        let mut state = self.login.state.lock().await;
        let now = Instant::now();
        let is_refused = |token: &Token| refused.is_some_and(|refused| refused.made == token.made);
        let known = state.token.as_ref().filter(|token| !token.has_ended(now) && !is_refused(token)).cloned();
        if let Some(known) = known.as_ref().filter(|token| !token.is_used_up(now)) {
            return Ok(known.clone());
        }
        if let Some(error) = state.pausing(now) {
            return known.ok_or(error);
        }
        match login::log_in(&self.connection, &self.login, now).await {
            Ok(token) => {
                self.login.succeeded.fetch_add(1, Relaxed);
                state.succeed();
                Ok(state.token.insert(token).clone())
            }
            Err(error) => {
                self.login.failed.fetch_add(1, Relaxed);
                if state.fail(&error, now) && known.is_some() {
                    tracing::warn!(
                        why = error.why(),
                        "no new login to the vault; the token of the last one is used until it ends"
                    );
                }
                known.ok_or(error)
            }
        }
    }
}
