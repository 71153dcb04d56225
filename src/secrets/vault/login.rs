//! Logs in to a vault, and says how long the token is good.
//!
//! Tokens are never renewed: a vault says `renewable` of tokens that it then lets end, so that a new login is the one way that
//! always works.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::connection::Connection;
use super::error::VaultError;
use super::settings::Login;
use crate::{error_text, open_file};

/// Largest file of a service account's token.
const TOKEN_LIMIT: u64 = 64 * 1024;
/// How many opened wrappings are kept: that of the policy in force, and those of some that could not be put in force.
const UNWRAPPED: usize = 4;
/// Shortest and longest pause after a login that failed.
const AFTER_FAILURE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// Shortest and longest pause after a login that changed nothing about a refusal.
const AFTER_FUTILE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

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

    /// Whether it has ended.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        self.lifetime.is_some_and(|lifetime| now.duration_since(self.made) >= lifetime)
    }
}

/// A pause before the next attempt. Each is twice as long as the one before.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Pause {
    fn after(before: Option<Self>, (shortest, longest): (Duration, Duration), now: Instant) -> Self {
        let length = before.map_or(shortest, |before| (before.length * 2).min(longest));
        Self { until: now + length, length }
    }
}

/// The secret ids that were wrapped, by the token of their wrapping, which can be opened once in the life of a process: whatever
/// becomes of the policy that brought it.
#[derive(Default)]
pub(super) struct Unwrapped(Mutex<Vec<(SecretString, SecretString)>>);

impl Unwrapped {
    fn get(&self, wrapping: &SecretString) -> Option<SecretString> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(token, _): &&(SecretString, SecretString)| token.expose_secret() == wrapping.expose_secret();
        known.iter().find(same).map(|(_, id)| id.clone())
    }

    fn put(&self, wrapping: &SecretString, id: &SecretString) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= UNWRAPPED {
            known.remove(0);
        }
        known.push((wrapping.clone(), id.clone()));
    }
}

/// A login, which outlives sessions.
pub(super) struct LoginOf {
    pub(super) state: tokio::sync::Mutex<LoginState>,
    /// How often it succeeded.
    pub(super) succeeded: AtomicU64,
    /// How often it failed.
    pub(super) failed: AtomicU64,
    unwrapped: Arc<Unwrapped>,
}

impl LoginOf {
    pub(super) fn new(unwrapped: &Arc<Unwrapped>) -> Self {
        let state = tokio::sync::Mutex::default();
        Self { state, succeeded: AtomicU64::new(0), failed: AtomicU64::new(0), unwrapped: Arc::clone(unwrapped) }
    }
}

/// What is known of a login.
#[derive(Default)]
pub(super) struct LoginState {
    pub(super) token: Option<Token>,
    /// Why the last login failed, and when the next one is due.
    failed: Option<(VaultError, Pause)>,
    /// A new token was refused as the one before. Until then, a refusal alone is no reason to log in.
    futile: Option<Pause>,
}

impl LoginState {
    /// Why there is no login now, if the last one failed a moment ago.
    pub(super) fn pausing(&self, now: Instant) -> Option<VaultError> {
        self.failed.as_ref().filter(|(_, pause)| now < pause.until).map(|(error, _)| error.clone())
    }

    /// Notes that a login failed. Returns whether those before did not.
    pub(super) fn fail(&mut self, error: &VaultError, now: Instant) -> bool {
        let before = self.failed.take();
        let is_first = before.is_none();
        self.failed = Some((error.clone(), Pause::after(before.map(|(_, pause)| pause), AFTER_FAILURE, now)));
        is_first
    }

    /// Notes that a login succeeded.
    pub(super) fn succeed(&mut self) {
        self.failed = None;
    }

    /// Whether a login after a refusal was of no use a while ago.
    pub(super) fn is_futile(&self, now: Instant) -> bool {
        self.futile.is_some_and(|pause| now < pause.until)
    }

    /// Notes whether a login after a refusal was of use.
    pub(super) fn after_refusal(&mut self, is_futile: bool, now: Instant) {
        self.futile = is_futile.then(|| Pause::after(self.futile, AFTER_FUTILE, now));
    }
}

/// Logs in, or returns the token that is given.
pub(super) async fn log_in(connection: &Connection, login: &LoginOf, now: Instant) -> Result<Token, VaultError> {
    let (mount, body) = match &connection.settings.login {
        Login::Token(text) => return Ok(Token { text: text.clone(), made: now, lifetime: None }),
        Login::AppRole { role_id, secret_id, wrapped, mount } => {
            let secret_id =
                if *wrapped { unwrap(connection, &login.unwrapped, secret_id).await? } else { secret_id.clone() };
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
    unwrapped: &Unwrapped,
    wrapping: &SecretString,
) -> Result<SecretString, VaultError> {
    if let Some(known) = unwrapped.get(wrapping) {
        return Ok(known);
    }
    let answer = connection.post("sys/wrapping/unwrap", &json!({}), Some(wrapping)).await.map_err(|error| match error {
        VaultError::Denied | VaultError::NotFound | VaultError::Unexpected(_) => VaultError::Login(
            "the wrapped `secret_id` was opened before, or is too old; if nobody of yours did, somebody else may have it".to_owned(),
        ),
        other => other,
    })?;
    let text = answer.pointer("/data/secret_id").and_then(Value::as_str);
    let text = text.ok_or_else(|| VaultError::Login("what is wrapped is no secret id".to_owned()))?;
    let id = text.into();
    unwrapped.put(wrapping, &id);
    Ok(id)
}

fn read(file: &Path) -> Result<SecretString, VaultError> {
    let failed = |why: &str| VaultError::Login(format!("the token file {}: {why}", file.display()));
    let metadata = std::fs::metadata(file).map_err(|error| failed(&error_text::system(&error)))?;
    if !metadata.is_file() || metadata.len() > TOKEN_LIMIT {
        return Err(failed("not a file of at most 64 KiB"));
    }
    let text = open_file::regular(file).and_then(std::io::read_to_string);
    let text = text.map_err(|error| failed(&error_text::system(&error)))?;
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
        let token = Token { text: "t".into(), made, lifetime: Some(Duration::from_secs(9)) };
        assert_eq!([8, 9].map(|seconds| token.has_ended(made + Duration::from_secs(seconds))), [false, true]);
    }

    #[test]
    fn pauses_after_failures_grow_and_end() {
        let (start, mut state) = (Instant::now(), LoginState::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(state.fail(&VaultError::Sealed, at(0)), "the first one is logged");
        assert_eq!([0, 1].map(|now| state.pausing(at(now)).is_some()), [true, false]);
        assert!(!state.fail(&VaultError::Sealed, at(1)));
        assert_eq!([2, 3].map(|now| state.pausing(at(now)).is_some()), [true, false]);
        (0..9).for_each(|_| assert!(!state.fail(&VaultError::Sealed, at(100))));
        assert_eq!([114, 115].map(|now| state.pausing(at(now)).is_some()), [true, false]);
        state.succeed();
        assert_eq!(state.pausing(at(100)), None);

        state.after_refusal(true, at(0));
        assert_eq!([59, 60].map(|now| state.is_futile(at(now))), [true, false]);
        (0..9).for_each(|_| state.after_refusal(true, at(60)));
        assert_eq!([3659, 3660].map(|now| state.is_futile(at(now))), [true, false]);
        state.after_refusal(false, at(60));
        assert!(!state.is_futile(at(61)));
    }

    #[test]
    fn wrappings_that_were_opened_are_kept_but_not_for_ever() {
        let (unwrapped, name) = (Unwrapped::default(), |number: usize| SecretString::from(number.to_string()));
        (0..5).for_each(|number| unwrapped.put(&name(number), &name(number * 10)));
        let get = |number| unwrapped.get(&name(number)).map(|id| id.expose_secret().to_owned());
        assert_eq!((get(0), get(1), get(4)), (None, Some("10".to_owned()), Some("40".to_owned())));
    }
}
