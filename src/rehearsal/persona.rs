//! Who asks, and what their tokens say.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::stages::auth::api_key::Digest;
use crate::stages::auth::claims::Settings;
use crate::state::registry::entry::hex;

/// How long a token lives when nobody says, in seconds.
const LIFETIME: i64 = 300;
/// Who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Persona {
    /// What is sent in a header.
    pub(crate) sends: Option<Sends>,
    /// What is shown when connecting: `sha256:` and a thumbprint, or a name in a certificate.
    pub(crate) shows: Option<Shows>,
}

/// A credential that goes in a header.
#[derive(Debug, Clone)]
pub(crate) enum Sends {
    /// A token of an issuer.
    Jwt(Claimed),
    /// A token that an introspection endpoint vouches for.
    Introspected(Claimed),
    /// An API key of the policy, by its id.
    Key(String),
    /// An API key that an operator makes while the policy is in force.
    Made {
        /// For this consumer.
        consumer: String,
        /// Narrows what its roles allow.
        scopes: Option<Vec<String>>,
    },
}

/// A client certificate.
#[derive(Debug, Clone)]
pub(crate) enum Shows {
    /// By its thumbprint.
    Thumbprint(Digest),
    /// By a name in it.
    Name(String),
}

/// What a token says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claimed {
    /// Issuer or endpoint, by its name in the policy.
    pub(crate) by: String,
    /// Who its bearer is.
    pub(crate) id: String,
    /// Its scopes.
    pub(crate) scopes: Vec<String>,
    /// Its roles, where the issuer has a claim for them.
    pub(crate) roles: Vec<String>,
    /// Claims in place of those it would have; `null` takes one out.
    pub(crate) claims: Map<String, Value>,
    /// How long ago it was issued, when somebody says.
    pub(crate) issued: Option<Duration>,
    /// When it ends.
    pub(crate) end: End,
    /// Whether it is bound to the certificate that is shown (RFC 8705).
    pub(crate) bound: bool,
    /// Whether it is bound to a key, and comes with proofs of its possession (RFC 9449).
    pub(crate) dpop: bool,
}

/// When a token ends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum End {
    /// After the usual time.
    #[default]
    Usual,
    /// In so long.
    In(Duration),
    /// It did, so long ago.
    Ago(Duration),
}

impl Shows {
    /// Reads one as a policy writes identities. The error says what is wrong.
    pub(crate) fn read(written: &str) -> Result<Self, &'static str> {
        match written.strip_prefix("sha256:") {
            Some(digits) => hex::decode(digits).map(Self::Thumbprint).ok_or("a thumbprint is `sha256:` and 64 digits"),
            None if written.is_empty() => Err("the name of a certificate is not empty"),
            // DNS names know no case; what has a scheme or an @ is none.
            None if written.contains([':', '@']) => Ok(Self::Name(written.to_owned())),
            None => Ok(Self::Name(written.to_ascii_lowercase())),
        }
    }

    /// Of a certificate that is known by a name, one that is made of it.
    pub(super) fn thumbprint(&self) -> Digest {
        match self {
            Self::Thumbprint(thumbprint) => *thumbprint,
            Self::Name(name) => Digest::try_from(digest(&SHA256, name.as_bytes()).as_ref()).unwrap_or_default(),
        }
    }
}

/// What a token of this issuer says.
pub(super) fn claims(
    settings: &Settings,
    claimed: &Claimed,
    confirmation: Map<String, Value>,
    now: Timestamp,
) -> Result<Map<String, Value>, String> {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let now = now.as_second();
    // Nobody who does not ask for it gets a token that lives too long, or ends before it begins.
    let lifetime = settings.max_lifetime.unwrap_or(i64::MAX);
    let usual = LIFETIME.min(lifetime);
    let issued = claimed.issued.map(|ago| now.saturating_sub(seconds(ago)));
    let (issued, end) = match claimed.end {
        End::In(left) => (issued.unwrap_or(now), now.saturating_add(seconds(left))),
        End::Ago(past) => {
            let end = now.saturating_sub(seconds(past));
            (issued.unwrap_or(end.saturating_sub(usual)), end)
        }
        End::Usual => {
            let issued = issued.unwrap_or(now);
            (issued, issued.saturating_add(lifetime).min(now.saturating_add(usual)))
        }
    };
    let consumer = settings.consumer_claim.as_deref().unwrap_or("client_id");
    let scope = settings.scope_claim.as_deref().unwrap_or("scope");
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say("iss", json!(settings.iss));
    say("sub", json!(claimed.id));
    say("iat", json!(issued));
    say("exp", json!(end));
    say("jti", json!(uuid::Uuid::now_v7().to_string()));
    say(consumer, json!(claimed.id));
    say(scope, json!(claimed.scopes.join(" ")));
    if let Some(audience) = settings.audience.first() {
        say("aud", json!(audience));
    }
    match &settings.role_claim {
        Some(claim) if !claimed.roles.is_empty() => drop(say(claim, json!(claimed.roles))),
        None if !claimed.roles.is_empty() => {
            return Err(format!("tokens of `{}` have no roles: it has no `role_claim`", settings.name));
        }
        _ => {}
    }
    if !confirmation.is_empty() {
        say("cnf", Value::Object(confirmation));
    }
    for (name, value) in &claimed.claims {
        match value {
            Value::Null => drop(claims.remove(name)),
            value => drop(claims.insert(name.clone(), value.clone())),
        }
    }
    Ok(claims)
}
