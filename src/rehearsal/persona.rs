//! The caller of a rehearsal, and the claims of its token.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::exchange::CertificateName;
use crate::stages::auth::api_key::Digest;
use crate::stages::auth::claims::Settings;
use crate::state::registry::entry::hex;

/// Default lifetime of a token, in seconds.
const LIFETIME: i64 = 300;

/// The caller of a rehearsal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Persona {
    /// The credential that is sent in a header.
    pub(crate) sends: Option<HeaderCredential>,
    /// The client certificate: its thumbprint, or a name in it.
    pub(crate) shows: Option<ShownCertificate>,
}

/// A credential that goes in a header.
#[derive(Debug, Clone)]
pub(crate) enum HeaderCredential {
    /// A token of an issuer.
    Jwt(TokenClaims),
    /// An opaque token that an introspection endpoint knows.
    Introspected(TokenClaims),
    /// An API key of the policy, by its id.
    Key(String),
    /// An API key made at run time.
    Made {
        /// For this consumer.
        consumer: String,
        /// Restricts it to a subset of what the consumer's roles allow.
        scopes: Option<Vec<String>>,
    },
}

/// A client certificate.
#[derive(Debug, Clone)]
pub(crate) enum ShownCertificate {
    /// By its thumbprint.
    Thumbprint(Digest),
    /// By a name in it.
    Name(CertificateName),
}

/// The claims of a token.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenClaims {
    /// Issuer or endpoint, by its name in the policy.
    pub(crate) by: String,
    /// The id of its bearer.
    pub(crate) id: String,
    /// Its scopes.
    pub(crate) scopes: Vec<String>,
    /// Its roles, where the issuer has a claim for them.
    pub(crate) roles: Vec<String>,
    /// Claims that override the generated ones; `null` removes one.
    pub(crate) claims: Map<String, Value>,
    /// How long ago it was issued. Default: such that it is valid now.
    pub(crate) issued: Option<Duration>,
    /// When it expires.
    pub(crate) end: TokenExpiry,
    /// Whether it is bound to the client certificate (RFC 8705).
    pub(crate) bound: bool,
    /// Whether it is bound to a key, and sent with DPoP proofs (RFC 9449).
    pub(crate) dpop: bool,
}

/// When a token expires.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum TokenExpiry {
    /// After the default lifetime.
    #[default]
    Usual,
    /// This long from now.
    In(Duration),
    /// This long ago.
    Ago(Duration),
}

impl ShownCertificate {
    /// Parses a certificate identity as written in a policy. The error says what is wrong.
    pub(crate) fn read(written: &str) -> Result<Self, &'static str> {
        match written.strip_prefix("sha256:") {
            Some(digits) => hex::decode(digits)
                .map(Self::Thumbprint)
                .ok_or("a thumbprint must be `sha256:` and 64 hexadecimal digits"),
            None => written.parse().map(Self::Name),
        }
    }

    /// The thumbprint; for a certificate known by a name, one derived from the name.
    pub(super) fn thumbprint(&self) -> Digest {
        match self {
            Self::Thumbprint(thumbprint) => *thumbprint,
            Self::Name(name) => {
                Digest::try_from(digest(&SHA256, name.to_string().as_bytes()).as_ref()).unwrap_or_default()
            }
        }
    }
}

/// Returns the claims of a token of this issuer.
pub(super) fn claims(
    settings: &Settings,
    claimed: &TokenClaims,
    confirmation: Map<String, Value>,
    now: Timestamp,
) -> Result<Map<String, Value>, String> {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let now = now.as_second();
    // Unless asked for, a token never exceeds the maximum lifetime, and never expires before it was issued.
    let lifetime = settings.max_lifetime.unwrap_or(i64::MAX);
    let usual = LIFETIME.min(lifetime);
    let issued = claimed.issued.map(|ago| now.saturating_sub(seconds(ago)));
    let (issued, end) = match claimed.end {
        TokenExpiry::In(left) => (issued.unwrap_or(now), now.saturating_add(seconds(left))),
        TokenExpiry::Ago(past) => {
            let end = now.saturating_sub(seconds(past));
            (issued.unwrap_or(end.saturating_sub(usual)), end)
        }
        TokenExpiry::Usual => {
            let issued = issued.unwrap_or(now);
            (issued, issued.saturating_add(lifetime).min(now.saturating_add(usual)))
        }
    };
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say("iss", json!(settings.iss));
    say("sub", json!(claimed.id));
    say("iat", json!(issued));
    say("exp", json!(end));
    say("jti", json!(uuid::Uuid::now_v7().to_string()));
    if !confirmation.is_empty() {
        say("cnf", Value::Object(confirmation));
    }
    if !claim_required(settings, &mut claims) {
        return Err(crowded(settings));
    }
    let roles = match &settings.role_claim {
        Some(claim) if !claimed.roles.is_empty() => Some((claim, json!(claimed.roles))),
        None if !claimed.roles.is_empty() => {
            return Err(format!("tokens of `{}` cannot have roles: the issuer has no `role_claim`", settings.name));
        }
        _ => None,
    };
    let consumer = (&settings.consumer_claim, json!(claimed.id));
    let scopes = (&settings.scope_claim, json!(claimed.scopes.join(" ")));
    for (claim, value) in [consumer, scopes].into_iter().chain(roles) {
        if !claim.set(&mut claims, value) {
            return Err(crowded(settings));
        }
    }
    for (name, value) in &claimed.claims {
        match value {
            Value::Null => drop(claims.remove(name)),
            value => drop(claims.insert(name.clone(), value.clone())),
        }
    }
    Ok(claims)
}

/// Sets what every token of this issuer has: its tenant, its audience, and the values that are required. Returns whether it could.
fn claim_required(settings: &Settings, claims: &mut Map<String, Value>) -> bool {
    if let Some(tenant) = &settings.tenant {
        claims.insert(tenant.claim.to_string(), json!(tenant.value));
    }
    let audience = settings.audience.first();
    audience.is_none_or(|audience| settings.audience_claim.set(claims, json!(audience)))
        && settings.required.iter().all(|one| one.example().is_none_or(|value| one.claim().set(claims, value)))
}

/// Why no token can be made.
fn crowded(settings: &Settings) -> String {
    format!("no token of `{}` can hold all the claims that the policy reads", settings.name)
}
