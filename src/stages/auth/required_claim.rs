//! Claims that a token must have, beside those that say who sent it: values that the policy requires, and the tenant that an
//! issuer's name has been made for.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::claim_path::ClaimPath;

/// A claim, and the values of which it must have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequiredClaim {
    claim: ClaimPath,
    values: Box<[Box<str>]>,
}

/// The tenant that an `iss` names, which a claim must name, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tenant {
    /// The claim.
    pub(crate) claim: Box<str>,
    /// Its exact value.
    pub(crate) value: Box<str>,
}

impl RequiredClaim {
    /// Requires one of these values; text, a whole number, `true` and `false` as they are written.
    pub(crate) fn new(claim: ClaimPath, values: &[String]) -> Self {
        Self { claim, values: values.iter().map(|value| value.as_str().into()).collect() }
    }

    /// The claim.
    pub(crate) fn claim(&self) -> &ClaimPath {
        &self.claim
    }

    /// The first value that is accepted, for tokens of rehearsals.
    pub(crate) fn example(&self) -> Option<Value> {
        let value = self.values.first()?;
        Some(match &**value {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => Value::String(text.to_owned()),
        })
    }

    /// Decides whether the claim has one of the values; a list has those of its items. The error says what is wrong.
    pub(super) fn check(&self, claims: &Map<String, Value>) -> Result<(), String> {
        let found = match self.claim.find(claims) {
            Ok(Some(value)) => value,
            Ok(None) => {
                return Err(format!("the token lacks the claim `{}`, which is required here", self.claim));
            }
            Err(_) => return Err(self.other()),
        };
        let accepted = |value: &Value| text(value).is_some_and(|text| self.values.iter().any(|one| **one == *text));
        let has_one = match found {
            Value::Array(items) => items.iter().any(accepted),
            value => accepted(value),
        };
        if has_one { Ok(()) } else { Err(self.other()) }
    }

    fn other(&self) -> String {
        format!("the token's `{}` has no value that is accepted here", self.claim)
    }
}

impl Tenant {
    /// Longest value, in bytes: it is part of what names its consumers.
    pub(crate) const MAX: usize = 128;

    /// Names a consumer of this tenant, so that another tenant cannot give the same id to somebody else.
    pub(super) fn name(&self, id: &str) -> String {
        format!("{}/{id}", self.value)
    }

    /// Decides whether a token is of this tenant. A claim of another type names no tenant. The error says what is wrong.
    pub(super) fn check(&self, claims: &Map<String, Value>) -> Result<(), String> {
        if claims.get(&*self.claim).and_then(Value::as_str) == Some(&*self.value) {
            return Ok(());
        }
        Err(format!("the token's tenant (`{}`) is not the one that its issuer (`iss`) names", self.claim))
    }
}

/// A scalar as it is written in a policy; `None`: no policy can require it.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Bool(true) => Some("true".into()),
        Value::Bool(false) => Some("false".into()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn one_of_the_values_must_be_in_the_claim() {
        for (claim, values, token, good) in [
            ("use", &["access"][..], json!({"use": "access"}), true),
            ("use", &["access", "app"], json!({"use": "app"}), true),
            ("use", &["access"], json!({"use": "Access"}), false),
            ("use", &["access"], json!({"use": "access "}), false),
            ("use", &["access"], json!({"use": null}), false),
            ("use", &["access"], json!({}), false),
            ("use", &["access"], json!({"use": {"access": true}}), false),
            ("amr", &["mfa"], json!({"amr": ["pwd", "mfa"]}), true),
            ("amr", &["mfa"], json!({"amr": ["pwd"]}), false),
            ("amr", &["mfa"], json!({"amr": []}), false),
            ("amr", &["mfa"], json!({"amr": [["mfa"]]}), false),
            ("ok", &["true"], json!({"ok": true}), true),
            // Amazon Cognito writes some flags as text.
            ("ok", &["true"], json!({"ok": "true"}), true),
            ("ok", &["true"], json!({"ok": false}), false),
            ("ok", &["true"], json!({"ok": 1}), false),
            ("acr", &["2"], json!({"acr": 2}), true),
            ("acr", &["2"], json!({"acr": 2.0}), false),
            ("/org/kind", &["partner"], json!({"org": {"kind": "partner"}}), true),
            ("/org/kind", &["partner"], json!({"org": {}}), false),
            ("/org/kind", &["partner"], json!({"org": "partner"}), false),
        ] {
            let values: Vec<_> = values.iter().map(ToString::to_string).collect();
            let required = RequiredClaim::new(ClaimPath::parse(claim).unwrap(), &values);
            assert_eq!(required.check(&map(&token)).is_ok(), good, "{claim} {values:?} {token}");
        }
    }

    #[test]
    fn a_token_is_of_the_tenant_that_its_issuer_names() {
        let tenant = Tenant { claim: "tid".into(), value: "t-1".into() };
        for (token, good) in [
            (json!({"tid": "t-1"}), true),
            (json!({"tid": "t-2"}), false),
            (json!({"tid": "T-1"}), false),
            (json!({"tid": ["t-1"]}), false),
            (json!({"tid": null}), false),
            (json!({}), false),
        ] {
            assert_eq!(tenant.check(&map(&token)).is_ok(), good, "{token}");
        }
    }
}
