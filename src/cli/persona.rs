//! The caller in a policy test or in `bartizan explain --as`, resolved against the policy.

use serde::Deserialize;

use crate::policy::diagnostic::{Problems, did_you_mean};
use crate::policy::yaml_file::Anything;
use crate::policy::{At, Period, Policy};
use crate::rehearsal::persona::{HeaderCredential, Persona, ShownCertificate, TokenClaims, TokenExpiry};
use crate::stages::auth::claims::Settings;
use crate::stages::auth::introspection::Introspection;
use crate::stages::auth::jwt::Issuer;

/// A caller in YAML: one of `issuer`, `introspected`, `key` and `consumer`, a certificate, or both.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WrittenPersona {
    /// Sends a token of this issuer.
    issuer: Option<String>,
    /// Sends a token that this introspection endpoint knows.
    introspected: Option<String>,
    /// Sends the API key of the policy with this id.
    key: Option<String>,
    /// Sends an API key that an operator created for this consumer.
    consumer: Option<String>,
    /// Presents a client certificate: `dns:`, `uri:` or `email:` and a name in it, or `sha256:` and its thumbprint.
    certificate: Option<String>,
    /// Subject of the token.
    id: Option<String>,
    scopes: Option<Vec<String>>,
    roles: Option<Vec<String>>,
    /// Claims to replace; `null` removes one.
    claims: Option<Anything>,
    /// How long ago it was issued.
    issued: Option<Period>,
    /// Time until it expires.
    expires: Option<Period>,
    /// How long ago it expired.
    expired: Option<Period>,
    /// Whether it is bound to the certificate (RFC 8705).
    bound: Option<bool>,
    /// Whether it is bound to a key and sent with DPoP proofs (RFC 9449).
    dpop: Option<bool>,
}

/// Members that only a token can have.
const OF_TOKENS: [&str; 9] = ["id", "scopes", "roles", "claims", "issued", "expires", "expired", "bound", "dpop"];

impl WrittenPersona {
    /// Resolves the caller against the policy. Reports problems and returns `None` if there are any.
    pub(super) fn persona(&self, at: At<'_>, policy: &Policy, problems: &mut Problems) -> Option<Persona> {
        let auth = policy.auth();
        let issuers: Vec<&str> = auth.issuers().map(|issuer| issuer.name()).collect();
        let endpoints: Vec<&str> = auth.introspection.iter().map(|endpoint| &*endpoint.settings().name).collect();
        let keys: Vec<&str> = auth.keys.listed().map(|key| &*key.id).collect();

        let before = problems.len();
        let sends = match (&self.issuer, &self.introspected, &self.key, &self.consumer) {
            (Some(issuer), None, None, None) => {
                known("issuer", issuer, &issuers, at.key("issuer"), problems);
                let settings = auth.issuers().map(Issuer::settings).find(|settings| *settings.name == *issuer);
                self.has_roles(settings, at.key("roles"), problems);
                self.claimed(issuer, at, problems).map(HeaderCredential::Jwt)
            }
            (None, Some(endpoint), None, None) => {
                known("introspection endpoint", endpoint, &endpoints, at.key("introspected"), problems);
                let mut settings = auth.introspection.iter().map(Introspection::settings);
                self.has_roles(settings.find(|settings| *settings.name == **endpoint), at.key("roles"), problems);
                self.claimed(endpoint, at, problems).map(HeaderCredential::Introspected)
            }
            (None, None, None, Some(consumer)) => {
                let consumers: Vec<&str> = auth.directory.listed().keys().map(|name| &**name).collect();
                known("consumer", consumer, &consumers, at.key("consumer"), problems);
                Some(HeaderCredential::Made { consumer: consumer.clone(), scopes: self.scopes.clone() })
            }
            (None, None, Some(key), None) => {
                known("API key", key, &keys, at.key("key"), problems);
                Some(HeaderCredential::Key(key.clone()))
            }
            (None, None, None, None) if self.certificate.is_some() || at.damaged() => None,
            (None, None, None, None) => {
                let help = "write one of `issuer`, `introspected`, `key`, `consumer`, `certificate`; remove `as` to send no credential";
                problems.error(at.place(), "no credential is given").help(help);
                None
            }
            _ => {
                problems
                    .error(at.place(), "a request has one credential")
                    .help("write one of `issuer`, `introspected`, `key` and `consumer`");
                None
            }
        };
        if self.issuer.is_none() && self.introspected.is_none() && !at.damaged() {
            let narrows = |name: &str| name == "scopes" && self.consumer.is_some();
            for name in OF_TOKENS.into_iter().filter(|name| at.key(name).present() && !narrows(name)) {
                problems
                    .error(at.key(name).key_place(), format!("`{name}` needs a token"))
                    .help("add `issuer` or `introspected`, or remove it");
            }
        }
        let shows =
            self.certificate.as_ref().and_then(|written| shows(written, at.key("certificate"), policy, problems));
        (problems.len() == before).then_some(Persona { sends, shows })
    }

    /// Reports roles in a token whose issuer has no claim for them.
    fn has_roles(&self, settings: Option<&Settings>, at: At<'_>, problems: &mut Problems) {
        if self.roles.is_some() && settings.is_some_and(|settings| settings.role_claim.is_none()) {
            problems
                .error(at.key_place(), "tokens of this issuer have no roles")
                .help("set `role_claim:` of the issuer in the policy");
        }
    }

    fn claimed(&self, by: &str, at: At<'_>, problems: &mut Problems) -> Option<TokenClaims> {
        let claims = match (&self.claims, at.key("claims").json()) {
            (None, _) => Default::default(),
            (Some(_), serde_json::Value::Object(claims)) => claims,
            (Some(_), _) => {
                problems.error(at.key("claims").place(), "expected a map").help("write `claims: { name: value }`");
                return None;
            }
        };
        let end = match (self.expires, self.expired) {
            (None, None) => TokenExpiry::Usual,
            (Some(Period(left)), None) => TokenExpiry::In(left),
            (None, Some(Period(past))) => TokenExpiry::Ago(past),
            (Some(_), Some(_)) => {
                problems.error(at.key("expired").key_place(), "a token `expires` or has `expired`, not both");
                return None;
            }
        };
        if self.bound == Some(true) && self.certificate.is_none() {
            problems
                .error(at.key("bound").key_place(), "this token has no certificate to be bound to")
                .help("add `certificate:`");
        }
        let Some(id) = &self.id else {
            if !at.damaged() {
                problems
                    .error(at.key("id").key_place(), "`id` is missing")
                    .help("write the subject of the token, as the policy lists it under `identities`");
            }
            return None;
        };
        Some(TokenClaims {
            by: by.to_owned(),
            id: id.clone(),
            scopes: self.scopes.clone().unwrap_or_default(),
            roles: self.roles.clone().unwrap_or_default(),
            claims,
            issued: self.issued.map(|Period(issued)| issued),
            end,
            bound: self.bound.unwrap_or(false),
            dpop: self.dpop.unwrap_or(false),
        })
    }
}

fn shows(written: &str, at: At<'_>, policy: &Policy, problems: &mut Problems) -> Option<ShownCertificate> {
    let requested =
        policy.listeners().iter().filter_map(|listener| listener.tls.as_ref()).any(|tls| tls.trust.is_some());
    if !requested {
        problems
            .error(at.place(), "no listener of the policy requests client certificates")
            .help("write `client_ca:` under the `tls` of a listener");
        return None;
    }
    match ShownCertificate::read(written) {
        Ok(shows) => Some(shows),
        Err(problem) => {
            problems.error(at.place(), problem);
            None
        }
    }
}

/// Reports a name that the policy does not define.
fn known(what: &str, name: &str, names: &[&str], at: At<'_>, problems: &mut Problems) {
    if names.contains(&name) {
        return;
    }
    let help = did_you_mean(name, names.iter().copied()).unwrap_or_else(|| match names.is_empty() {
        true => format!("the policy has no {what}"),
        false => format!("it has {}", names.join(", ")),
    });
    problems.error(at.place(), format!("the policy has no {what} `{name}`")).help(help);
}
