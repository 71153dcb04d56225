//! Logs in to a vault, and says how long the token is good.
//!
//! Tokens are never renewed: a vault says `renewable` of tokens that it then lets end, so that a new login is the one way that
//! always works.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::connection::Connection;
use super::error::VaultError;
use super::settings::Login;
use crate::error_text;

/// Largest file of a service account's token.
const TOKEN_LIMIT: u64 = 64 * 1024;

/// The token of a login.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) text: SecretString,
    /// When it was made.
    pub(super) made: Instant,
    /// How long it is good; absent: for ever, or nobody says.
    lifetime: Option<Duration>,
}

impl Token {
    /// Whether another is to be fetched: two thirds of its time are over.
    pub(super) fn is_used_up(&self, now: Instant) -> bool {
        self.lifetime.is_some_and(|lifetime| now.duration_since(self.made) >= lifetime / 3 * 2)
    }
}

/// A login, which outlives sessions.
#[derive(Default)]
pub(super) struct LoginOf {
    pub(super) state: tokio::sync::Mutex<LoginState>,
    /// How often it succeeded.
    pub(super) succeeded: AtomicU64,
    /// How often it failed.
    pub(super) failed: AtomicU64,
}

/// What is known of a login.
#[derive(Default)]
pub(super) struct LoginState {
    pub(super) token: Option<Token>,
    /// The secret id that was wrapped: its wrapping can be opened once.
    unwrapped: Option<SecretString>,
}

/// Logs in, or returns the token that is given.
pub(super) async fn log_in(connection: &Connection, state: &mut LoginState, now: Instant) -> Result<Token, VaultError> {
    let (mount, body) = match &connection.settings.login {
        Login::Token(text) => return Ok(Token { text: text.clone(), made: now, lifetime: None }),
        Login::AppRole { role_id, secret_id, wrapped, mount } => {
            let secret_id = if *wrapped { unwrap(connection, state, secret_id).await? } else { secret_id.clone() };
            let body = json!({"role_id": role_id.expose_secret(), "secret_id": secret_id.expose_secret()});
            (mount, body)
        }
        Login::Kubernetes { role, mount, token_file } => {
            let jwt = read(token_file)?;
            (mount, json!({"role": role, "jwt": jwt.expose_secret()}))
        }
        Login::Certificate { role: Some(role), mount } => (mount, json!({"name": role})),
        Login::Certificate { role: None, mount } => (mount, json!({})),
    };
    let answer = connection.post(&format!("auth/{mount}/login"), &body, None).await.map_err(refused)?;
    let auth = answer.get("auth").ok_or_else(VaultError::garbage)?;
    let text = auth.get("client_token").and_then(Value::as_str).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| VaultError::Login("the vault gave no token".to_owned()))?;
    let lifetime = auth.get("lease_duration").and_then(Value::as_u64).filter(|seconds| *seconds > 0);
    Ok(Token { text: text.into(), made: now, lifetime: lifetime.map(Duration::from_secs) })
}

/// What is not the vault's fault is the login's.
fn refused(error: VaultError) -> VaultError {
    match error {
        VaultError::Denied => VaultError::Login("permission denied (403)".to_owned()),
        VaultError::NotFound => VaultError::Login("the method is not mounted there (404)".to_owned()),
        VaultError::Unexpected(why) => VaultError::Login(why),
        other => other,
    }
}

/// Opens the wrapping of a secret id, once in the life of the process.
async fn unwrap(
    connection: &Connection,
    state: &mut LoginState,
    wrapping: &SecretString,
) -> Result<SecretString, VaultError> {
    if let Some(known) = &state.unwrapped {
        return Ok(known.clone());
    }
    let answer = connection.post("sys/wrapping/unwrap", &json!({}), Some(wrapping)).await.map_err(|error| match error {
        VaultError::Denied | VaultError::NotFound | VaultError::Unexpected(_) => VaultError::Login(
            "the wrapped `secret_id` was opened before, or is too old; if nobody of yours did, somebody else may have it".to_owned(),
        ),
        other => other,
    })?;
    let text = answer.pointer("/data/secret_id").and_then(Value::as_str);
    let text = text.ok_or_else(|| VaultError::Login("what is wrapped is no secret id".to_owned()))?;
    Ok(state.unwrapped.insert(text.into()).clone())
}

fn read(file: &Path) -> Result<SecretString, VaultError> {
    let failed = |why: &str| VaultError::Login(format!("the token file {}: {why}", file.display()));
    let metadata = std::fs::metadata(file).map_err(|error| failed(&error_text::system(&error)))?;
    if !metadata.is_file() || metadata.len() > TOKEN_LIMIT {
        return Err(failed("not a file of at most 64 KiB"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error_text::system(&error)))?;
    match text.trim() {
        "" => Err(failed("it is empty")),
        text => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_when_two_thirds_of_its_time_are_over() {
        let made = Instant::now();
        for (lifetime, seconds, used_up) in
            [(Some(9), 5, false), (Some(9), 6, true), (Some(1), 1, true), (None, 1 << 20, false)]
        {
            let token = Token { text: "t".into(), made, lifetime: lifetime.map(Duration::from_secs) };
            assert_eq!(token.is_used_up(made + Duration::from_secs(seconds)), used_up, "{lifetime:?} {seconds}");
        }
    }
}
