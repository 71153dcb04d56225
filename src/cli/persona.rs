//! Who asks, as a policy test and `bartizan explain --as` write it, held against the policy that is to be asked.

use serde::Deserialize;

use crate::policy::diagnostic::{Problems, did_you_mean};
use crate::policy::yaml_file::Anything;
use crate::policy::{At, Period, Policy};
use crate::rehearsal::persona::{Claimed, End, Persona, Sends, Shows};
use crate::stages::auth::claims::Settings;
use crate::stages::auth::introspection::Introspection;
use crate::stages::auth::jwt::Issuer;

/// As written. One of `issuer`, `introspected`, `key`, `consumer`; a certificate alone, or beside one of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asker {
    /// A token of this issuer.
    issuer: Option<String>,
    /// A token that this introspection endpoint knows.
    introspected: Option<String>,
    /// The API key of the policy with this id.
    key: Option<String>,
    /// An API key that an operator makes for this consumer.
    consumer: Option<String>,
    /// A client certificate: a name in it, or `sha256:` and its thumbprint.
    certificate: Option<String>,
    /// Who the token is of.
    id: Option<String>,
    /// Its scopes.
    scopes: Option<Vec<String>>,
    /// Its roles.
    roles: Option<Vec<String>>,
    /// Claims in place of those it would have; `null` takes one out.
    claims: Option<Anything>,
    /// How long ago it was issued.
    issued: Option<Period>,
    /// In how long it ends.
    expires: Option<Period>,
    /// How long ago it ended.
    expired: Option<Period>,
    /// Whether it is bound to the certificate.
    bound: Option<bool>,
    /// Whether it is bound to a key, and comes with proofs of its possession.
    dpop: Option<bool>,
}

/// What only a token has.
const OF_TOKENS: [&str; 9] = ["id", "scopes", "roles", "claims", "issued", "expires", "expired", "bound", "dpop"];

impl Asker {
    /// Who that is under this policy; `None` when something is wrong with it, which is told then.
    pub(super) fn persona(&self, at: At<'_>, policy: &Policy, problems: &mut Problems) -> Option<Persona> {
        let auth = policy.auth();
        let issuers: Vec<&str> = auth.issuers().map(|issuer| issuer.name()).collect();
        let endpoints: Vec<&str> = auth.introspection().iter().map(|endpoint| &*endpoint.settings().name).collect();
        let keys: Vec<&str> = auth.keys().listed().map(|key| &*key.id).collect();

        let before = problems.len();
        let sends = match (&self.issuer, &self.introspected, &self.key, &self.consumer) {
            (Some(issuer), None, None, None) => {
                known("issuer", issuer, &issuers, at.key("issuer"), problems);
                let settings = auth.issuers().map(Issuer::settings).find(|settings| *settings.name == *issuer);
                self.has_roles(settings, at.key("roles"), problems);
                self.claimed(issuer, at, problems).map(Sends::Jwt)
            }
            (None, Some(endpoint), None, None) => {
                known("introspection endpoint", endpoint, &endpoints, at.key("introspected"), problems);
                let mut settings = auth.introspection().iter().map(Introspection::settings);
                self.has_roles(settings.find(|settings| *settings.name == **endpoint), at.key("roles"), problems);
                self.claimed(endpoint, at, problems).map(Sends::Introspected)
            }
            (None, None, None, Some(consumer)) => {
                let consumers: Vec<&str> = auth.directory().listed().keys().map(|name| &**name).collect();
                known("consumer", consumer, &consumers, at.key("consumer"), problems);
                Some(Sends::Made { consumer: consumer.clone(), scopes: self.scopes.clone() })
            }
            (None, None, Some(key), None) => {
                known("API key", key, &keys, at.key("key"), problems);
                Some(Sends::Key(key.clone()))
            }
            (None, None, None, None) if self.certificate.is_some() || at.damaged() => None,
            (None, None, None, None) => {
                let help = "write one of `issuer`, `introspected`, `key`, `consumer`, `certificate`; leave `as` out for nobody";
                problems.error(at.place(), "this does not say what is sent").help(help);
                None
            }
            _ => {
                problems
                    .error(at.place(), "a request brings one credential")
                    .help("write one of `issuer`, `introspected`, `key` and `consumer`");
                None
            }
        };
        if self.issuer.is_none() && self.introspected.is_none() && !at.damaged() {
            let narrows = |name: &str| name == "scopes" && self.consumer.is_some();
            for name in OF_TOKENS.into_iter().filter(|name| at.key(name).present() && !narrows(name)) {
                problems
                    .error(at.key(name).key_place(), format!("`{name}` goes with a token"))
                    .help("write `issuer` or `introspected` with it, or remove it");
            }
        }
        let shows =
            self.certificate.as_ref().and_then(|written| shows(written, at.key("certificate"), policy, problems));
        (problems.len() == before).then_some(Persona { sends, shows })
    }

    /// Whether tokens of the issuer can have roles, if this one does.
    fn has_roles(&self, settings: Option<&Settings>, at: At<'_>, problems: &mut Problems) {
        if self.roles.is_some() && settings.is_some_and(|settings| settings.role_claim.is_none()) {
            problems
                .error(at.key_place(), "tokens of this issuer have no roles")
                .help("the policy names the claim that holds them with `role_claim:`");
        }
    }

    fn claimed(&self, by: &str, at: At<'_>, problems: &mut Problems) -> Option<Claimed> {
        let claims = match (&self.claims, at.key("claims").json()) {
            (None, _) => Default::default(),
            (Some(_), serde_json::Value::Object(claims)) => claims,
            (Some(_), _) => {
                problems.error(at.key("claims").place(), "expected a map").help("write `claims: { name: value }`");
                return None;
            }
        };
        let end = match (self.expires, self.expired) {
            (None, None) => End::Usual,
            (Some(Period(left)), None) => End::In(left),
            (None, Some(Period(past))) => End::Ago(past),
            (Some(_), Some(_)) => {
                problems.error(at.key("expired").key_place(), "a token `expires` or has `expired`, not both");
                return None;
            }
        };
        if self.bound == Some(true) && self.certificate.is_none() {
            problems
                .error(at.key("bound").key_place(), "there is nothing that this token is bound to")
                .help("write `certificate:` with it");
        }
        let Some(id) = &self.id else {
            if !at.damaged() {
                problems
                    .error(at.key("id").key_place(), "`id` is missing")
                    .help("write who the token is of: what the policy lists under `identities`");
            }
            return None;
        };
        Some(Claimed {
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

fn shows(written: &str, at: At<'_>, policy: &Policy, problems: &mut Problems) -> Option<Shows> {
    let asks = policy.listeners().iter().filter_map(|listener| listener.tls.as_ref()).any(|tls| tls.trust.is_some());
    if !asks {
        problems
            .error(at.place(), "no listener of the policy asks for client certificates")
            .help("write `client_ca:` under the `tls` of a listener");
        return None;
    }
    match Shows::read(written) {
        Ok(shows) => Some(shows),
        Err(problem) => {
            problems.error(at.place(), problem);
            None
        }
    }
}

/// Tells a name that the policy does not have.
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
