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

    /// One request. If it is refused, the token may have ended without notice: once, a new login is tried.
    async fn authorized(&self, asked: VaultRequest<'_>) -> Result<Answer, VaultError> {
        let token = self.token(None).await?;
        let answer = self.connection.send(asked, Some(&token.text)).await?;
        let may_be_old = token.made < self.begun && self.settings().login.is_repeatable();
        if answer.status != StatusCode::FORBIDDEN || !may_be_old {
            return Ok(answer);
        }
        let token = self.token(Some(&token)).await?;
        self.connection.send(asked, Some(&token.text)).await
    }

    /// The token of the login: the one that is there, or a new one.
    async fn token(&self, refused: Option<&Token>) -> Result<Token, VaultError> {
        // Held while logging in: what others would do meanwhile is the same login.
        let mut state = self.login.state.lock().await;
        let now = Instant::now();
        let is_refused = |token: &Token| refused.is_some_and(|refused| refused.made == token.made);
        if let Some(token) = state.token.as_ref().filter(|token| !token.is_used_up(now) && !is_refused(token)) {
            return Ok(token.clone());
        }
        match login::log_in(&self.connection, &mut state, now).await {
            Ok(token) => {
                self.login.succeeded.fetch_add(1, Relaxed);
                Ok(state.token.insert(token).clone())
            }
            Err(error) => {
                self.login.failed.fetch_add(1, Relaxed);
                Err(error)
            }
        }
    }
}
