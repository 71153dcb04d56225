//! The claims of a token: decides whether they are acceptable, and reads who sent it.
//!
//! Used both for tokens that are verified here (RFC 7519) and for those that an introspection endpoint says are active
//! (RFC 7662 §2.2). Neither signatures nor the request matter here.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::attributes::ClaimedAttributes;
use super::claim_path::{Blocked, ClaimPaths};
use super::forwarded_claims;
use super::required_claim::{RequiredClaim, Tenant};
use super::scopes_and_roles::ScopesAndRoles;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::rate_limit::Plan;
use crate::state::registry::entry::Digest;
use crate::state::registry::revocation_key::RevocationKey;

/// Default claim for the audience (RFC 7519 §4.1.3).
pub(crate) const AUDIENCE_CLAIMS: [&str; 1] = ["aud"];
/// Default claims for the consumer.
pub(crate) const CONSUMER_CLAIMS: [&str; 3] = ["client_id", "azp", "sub"];
/// Default claim for the user.
pub(crate) const USER_CLAIMS: [&str; 1] = ["sub"];
/// Default claims for the scopes.
pub(crate) const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];
/// The name of the token service among the issuers.
pub(crate) const OWN_ISSUER: &str = "token_service";
/// The claim of exchanged tokens with what ends the token that was exchanged.
pub(crate) const SOURCES: &str = "revoked_with";
/// Most entries of it.
const MAX_SOURCES: usize = 16;
/// Longest `kid`, subject and `jti`, in bytes: they are kept and recorded.
pub(super) const MAX_NAME: usize = 256;
/// Claims that only ID tokens have (OpenID Connect Core 1.0 §3.3.2.11; FAPI 1.0 §5.2.2.1). Not `nonce`: some issuers
/// copy it into access tokens.
const OF_ID_TOKENS: [&str; 3] = ["at_hash", "c_hash", "s_hash"];
/// How Keycloak, Amazon Cognito and Ory Hydra mark tokens that are not access tokens, in the token or at introspection.
const OF_OTHERS: [(&str, &[&str]); 3] = [
    ("typ", &["ID", "Refresh", "Offline", "Logout"]),
    ("token_use", &["id", "id_token", "refresh", "refresh_token"]),
    ("token_type", &["id_token", "refresh_token"]),
];
/// Most scopes of a token.
const MAX_SCOPES: usize = 256;

/// What the policy requires of an issuer's tokens.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Name in the policy.
    pub(crate) name: Box<str>,
    /// The exact `iss`.
    pub(crate) iss: Box<str>,
    /// The tenant that `iss` names, where the policy lists tenants.
    pub(crate) tenant: Option<Tenant>,
    /// One of them must be in the audience claim; empty: the introspection endpoint has checked it.
    pub(crate) audience: Vec<String>,
    /// Claims with the audience.
    pub(crate) audience_claim: ClaimPaths,
    /// Claims that must have certain values.
    pub(crate) required: Box<[RequiredClaim]>,
    /// The only algorithms that are accepted.
    pub(crate) algorithms: Vec<Algorithm>,
    /// Whether they must be marked as access tokens (RFC 9068 §4).
    pub(crate) typed: bool,
    /// Longest `exp - iat`, in seconds.
    pub(crate) max_lifetime: Option<i64>,
    /// Tolerated clock skew, in seconds.
    pub(crate) clock_skew: i64,
    /// Claims that name the consumer.
    pub(crate) consumer_claim: ClaimPaths,
    /// Claims that name the user that the consumer acts for.
    pub(crate) user_claim: ClaimPaths,
    /// Claims with the scopes.
    pub(crate) scope_claim: ClaimPaths,
    /// Claims with role names.
    pub(crate) role_claim: Option<ClaimPaths>,
    /// What a token with scopes and roles grants.
    pub(crate) scopes_and_roles: ScopesAndRoles,
    /// Attributes of callers, each with the claims that have it.
    pub(crate) attributes: Box<[(Box<str>, ClaimPaths)]>,
    /// Headers in which the upstream gets claims, each with the claims that have its value.
    pub(crate) forward_claims: Box<[(HeaderName, ClaimPaths)]>,
    /// Plan of callers that the policy does not list.
    pub(crate) default_plan: Option<Arc<Plan>>,
}

/// When a credential is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) expires: i64,
    pub(crate) not_before: Option<i64>,
    pub(crate) skew: i64,
}

impl Times {
    /// Decides whether a token is valid at `now` (RFC 7519 §4.1.4 and §4.1.5). Checked on every request, cached tokens
    /// included.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), Refusal> {
        let now = now.as_second();
        if now >= self.expires.saturating_add(self.skew) {
            return Err(refuse(Reason::ExpiredToken, "the token has expired; get a new one"));
        }
        if self.not_before.is_some_and(|start| now < start.saturating_sub(self.skew)) {
            return Err(invalid("the token is not valid yet (`nbf`)"));
        }
        Ok(())
    }
}

/// What the bearer of a token must prove possession of (RFC 7800 `cnf`).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Confirmation {
    /// The client certificate with this thumbprint (RFC 8705 §3.1, `x5t#S256`).
    pub(crate) certificate: Option<Digest>,
    /// The key with this thumbprint (RFC 9449 §6.1, `jkt`).
    pub(crate) key: Option<Box<str>>,
}

/// The claims of a verified token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The value of the consumer claim.
    pub(crate) subject: Box<str>,
    /// The user that the consumer acts for; none if it acts for itself.
    pub(crate) user: Option<Box<str>>,
    /// `sub`, for revocations.
    pub(crate) sub: Option<Box<str>>,
    /// Scopes in the token.
    pub(crate) scopes: Vec<Box<str>>,
    /// Roles in the token.
    pub(crate) roles: Vec<Box<str>>,
    /// Attributes in the token.
    pub(crate) attributes: ClaimedAttributes,
    /// What the upstream gets of them in headers.
    pub(crate) forwarded: Box<[(HeaderName, HeaderValue)]>,
    pub(crate) jti: Option<Box<str>>,
    /// The family of a token of the token service, if a refresh token belongs to it (`sid`).
    pub(crate) family: Option<Box<str>>,
    /// What ends the token that a token of the token service was exchanged for.
    pub(crate) sources: Vec<RevocationKey>,
    /// When it was issued (`iat`), in seconds since 1970.
    pub(crate) issued: Option<i64>,
    /// What it is bound to.
    pub(crate) confirmation: Confirmation,
    /// When it is valid.
    pub(crate) times: Times,
}

/// What proves that a token is authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VerifiedBy {
    /// Its signature.
    Signature,
    /// An introspection endpoint, which need not say when the token expires.
    Endpoint,
}

impl Settings {
    /// Decides whether the claims of an authentic token are acceptable, except whether it is valid now: that is
    /// [`Self::check_times`]'s business.
    pub(super) fn read(&self, claims: &Map<String, Value>, verified_by: VerifiedBy) -> Result<Claims, Refusal> {
        let times = self.times(claims, verified_by)?;
        if !self.is_for_us(claims) {
            return Err(invalid(format!("the token is not meant for this API ({})", self.audience_claim)));
        }
        self.tenant.as_ref().map_or(Ok(()), |tenant| tenant.check(claims)).map_err(invalid)?;
        self.required.iter().try_for_each(|required| required.check(claims)).map_err(invalid)?;
        let subject = match self.consumer_claim.find(claims) {
            Ok(Some(Value::String(text))) if !text.is_empty() && text.len() <= MAX_NAME => text.as_str(),
            // It is not among the claims of a JWT, because it has found these settings.
            Ok(None) if self.consumer_claim.is_only("iss") && verified_by == VerifiedBy::Signature => &*self.iss,
            Ok(None) => {
                return Err(invalid("the token does not identify its consumer")
                    .cause(format!("the token has no {}", self.consumer_claim)));
            }
            Ok(Some(_)) | Err(Blocked) => {
                return Err(invalid("the claim that names the token's consumer is not a short string"));
            }
        };
        let user = match self.user_claim.find(claims) {
            Ok(None) => None,
            Ok(Some(Value::String(text))) if text.len() <= MAX_NAME => {
                Some(text.as_str()).filter(|text| !text.is_empty() && *text != subject)
            }
            Ok(Some(_)) | Err(Blocked) => {
                return Err(invalid("the claim that names the token's user is not a short string"));
            }
        };
        let names = |paths: &ClaimPaths| paths.find(claims).map_err(|Blocked| ()).and_then(names);
        let (Ok(scopes), Ok(roles)) = (names(&self.scope_claim), self.role_claim.as_ref().map_or(Ok(None), names))
        else {
            return Err(invalid("the token's scopes or roles are not a list of names"));
        };
        // Tokens are revoked by these claims: if one were too long to keep, the token could not be revoked.
        let short = |claim: &str| match claims.get(claim) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_NAME => Ok(Some(Box::from(text.as_str()))),
            Some(_) => Err(invalid(format!("the token's `{claim}` is not a short string"))),
        };
        let exchanged = *self.name == *OWN_ISSUER && claims.contains_key(SOURCES);
        Ok(Claims {
            subject: self.tenant.as_ref().map_or_else(|| subject.into(), |tenant| tenant.name(subject).into()),
            user: user.map(Box::from),
            sub: short("sub")?,
            scopes: scopes.unwrap_or_default(),
            roles: roles.unwrap_or_default(),
            attributes: match exchanged {
                true => ClaimedAttributes::exchanged(claims)
                    .ok_or_else(|| invalid("the token's attributes are not lists of names"))?,
                false => ClaimedAttributes::read(&self.attributes, claims),
            },
            forwarded: forwarded_claims::read(&self.forward_claims, claims).map_err(invalid)?,
            jti: short("jti")?.filter(|jti| !jti.is_empty()),
            family: if *self.name == *OWN_ISSUER { short("sid")? } else { None },
            sources: if *self.name == *OWN_ISSUER { sources(claims)? } else { Vec::new() },
            issued: date(claims, "iat")?,
            confirmation: confirmation(claims.get("cnf"))?,
            times,
        })
    }

    /// What the policy reads from tokens, and this one lacks, with the claims that were looked for: for operators.
    pub(crate) fn absent(&self, claims: &Map<String, Value>) -> Vec<String> {
        let lacks = |paths: &ClaimPaths| paths.find(claims) == Ok(None);
        let known = [("scopes", Some(&self.scope_claim)), ("roles", self.role_claim.as_ref())];
        let known = known.into_iter().chain([("user", Some(&self.user_claim))]);
        let known = known.filter_map(|(what, paths)| Some((what.to_owned(), paths?)));
        let attributes = self.attributes.iter().map(|(name, paths)| (format!("attribute {name}"), paths));
        let forwarded = self.forward_claims.iter().map(|(name, paths)| (format!("header {name}"), paths));
        known
            .chain(attributes)
            .chain(forwarded)
            .filter(|(_, paths)| lacks(paths))
            .map(|(what, paths)| format!("{what} ({paths})"))
            .collect()
    }

    /// Reads `exp` and `nbf` (RFC 7519 §4.1.4 and §4.1.5).
    fn times(&self, claims: &Map<String, Value>, verified_by: VerifiedBy) -> Result<Times, Refusal> {
        let expires = match (date(claims, "exp")?, verified_by) {
            (Some(expires), _) => expires,
            (None, VerifiedBy::Endpoint) => i64::MAX,
            (None, VerifiedBy::Signature) => return Err(invalid("the token has no expiry (`exp`)")),
        };
        Ok(Times { expires, not_before: date(claims, "nbf")?, skew: self.clock_skew })
    }

    /// Decides whether a token with these claims is valid at `now`, and for no longer than it may be.
    pub(super) fn check_times(&self, claims: &Claims, now: Timestamp) -> Result<(), Refusal> {
        let Claims { times, issued, .. } = claims;
        times.check(now)?;
        if issued.is_some_and(|issued| issued > now.as_second().saturating_add(self.clock_skew)) {
            return Err(invalid("the token was issued in the future (`iat`)"));
        }
        if let Some(most) = self.max_lifetime {
            match issued {
                Some(issued) if times.expires.saturating_sub(*issued) <= most => {}
                _ => {
                    return Err(refuse(
                        Reason::TokenLifetimeTooLong,
                        format!("get a token whose `exp` is at most {most} s after its `iat`"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// RFC 7519 §4.1.3: the audience is one string or a list of them.
    fn is_for_us(&self, claims: &Map<String, Value>) -> bool {
        let ours = |value: &Value| value.as_str().is_some_and(|text| self.audience.iter().any(|a| a == text));
        if self.audience.is_empty() {
            return true;
        }
        match self.audience_claim.find(claims) {
            Ok(Some(Value::Array(list))) => list.iter().all(Value::is_string) && list.iter().any(ours),
            Ok(Some(value)) => ours(value),
            Ok(None) | Err(Blocked) => false,
        }
    }
}

/// Whether these are the claims of another kind of token, such as an ID token (RFC 8725 §3.12).
pub(super) fn is_other(claims: &Map<String, Value>) -> bool {
    let says = |(claim, values): &(&str, &[&str])| {
        claims.get(*claim).and_then(Value::as_str).is_some_and(|value| values.contains(&value))
    };
    OF_ID_TOKENS.iter().any(|claim| claims.contains_key(*claim)) || OF_OTHERS.iter().any(says)
}

/// What a token is bound to. A binding that is not supported refuses the token, because it could not be proven.
fn confirmation(cnf: Option<&Value>) -> Result<Confirmation, Refusal> {
    let unknown = || invalid("the token is bound in a way that is not supported (`cnf`)");
    let Some(cnf) = cnf else { return Ok(Confirmation::default()) };
    let cnf = cnf.as_object().ok_or_else(unknown)?;
    let mut confirmation = Confirmation::default();
    if let Some(thumbprint) = cnf.get("x5t#S256") {
        let bytes = thumbprint.as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let digest = bytes.and_then(|bytes| Digest::try_from(bytes.as_slice()).ok());
        confirmation.certificate = Some(digest.ok_or_else(unknown)?);
    }
    if let Some(thumbprint) = cnf.get("jkt") {
        let thumbprint = thumbprint.as_str().filter(|text| !text.is_empty() && text.len() <= MAX_NAME);
        confirmation.key = Some(thumbprint.ok_or_else(unknown)?.into());
    }
    if confirmation == Confirmation::default() { Err(unknown()) } else { Ok(confirmation) }
}

/// The keys by which the token that this one was exchanged for can be revoked.
pub(crate) fn sources(claims: &Map<String, Value>) -> Result<Vec<RevocationKey>, Refusal> {
    let read = |value: &Value| value.as_str().and_then(RevocationKey::of_id);
    match claims.get(SOURCES) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_SOURCES => {
            list.iter().map(read).collect::<Option<_>>().ok_or_else(|| invalid("the token names no valid source"))
        }
        Some(_) => Err(invalid("the token names no valid source")),
    }
}

/// A NumericDate (RFC 7519 §2): seconds, with any fraction cut off. Anything else refuses the token.
fn date(claims: &Map<String, Value>, claim: &str) -> Result<Option<i64>, Refusal> {
    /// The year 10000; later dates make no sense.
    const MOST: f64 = 253_402_300_800.0;
    match claims.get(claim) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if (0.0..MOST).contains(&seconds) => Ok(Some(seconds as i64)),
            _ => Err(invalid(format!("the token's `{claim}` is not a date in seconds"))),
        },
    }
}

/// Names separated by spaces (RFC 6749 §3.3), or a list of them. Absent is `Ok(None)`.
fn names(value: Option<&Value>) -> Result<Option<Vec<Box<str>>>, ()> {
    let names: Vec<Box<str>> = match value {
        None => return Ok(None),
        Some(Value::String(text)) => text.split(' ').filter(|name| !name.is_empty()).map(Box::from).collect(),
        Some(Value::Array(list)) => {
            list.iter().map(|item| item.as_str().map(Box::from).ok_or(())).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(()),
    };
    if names.len() > MAX_SCOPES { Err(()) } else { Ok(Some(names)) }
}

/// Refuses a token for this reason.
pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Refusal {
    refuse(Reason::InvalidToken, detail)
}

/// Refuses a request in the authentication stage.
pub(super) fn refuse(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Stage::Auth, reason, detail)
}
