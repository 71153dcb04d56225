//! Attributes: facts about a caller beside its scopes, such as its tenant, for the objects that it may name (`where`).
//!
//! The policy writes them at a consumer, or names the claims that they are read from. Where both have one, the token narrows what
//! the consumer has: it never adds to it. An attribute that tokens of an issuer should have, and this one lacks, has no value.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::claim_path::ClaimPaths;

/// The claim of exchanged tokens with the attributes of the token that was exchanged.
pub(crate) const ATTRIBUTES: &str = "attributes";
/// Most values of one attribute in a token.
const MAX_VALUES: usize = 256;
/// Longest value in a token, in bytes: they are kept.
const MAX_VALUE: usize = 256;

/// Names, and the values of each.
pub(crate) type Values = BTreeMap<Box<str>, Box<[Box<str>]>>;

/// The attributes that a token says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ClaimedAttributes {
    values: Values,
    /// Whether those that are not among them have no value, even if the consumer has one: it acts for another caller.
    complete: bool,
}

impl ClaimedAttributes {
    /// Reads the attributes that an issuer's tokens have: text, a whole number, or a list of these.
    pub(super) fn read(wanted: &[(Box<str>, ClaimPaths)], claims: &Map<String, Value>) -> Self {
        let values = |paths: &ClaimPaths| paths.find(claims).ok().flatten().and_then(values).unwrap_or_default();
        let values = wanted.iter().map(|(name, paths)| (name.clone(), values(paths))).collect();
        Self { values, complete: false }
    }

    /// Reads the attributes of an exchanged token of the token service; `None` if they are malformed.
    pub(super) fn exchanged(claims: &Map<String, Value>) -> Option<Self> {
        let read = |(name, value): (&String, &Value)| values(value).map(|values| (name.as_str().into(), values));
        let values = match claims.get(ATTRIBUTES) {
            None => Values::new(),
            Some(Value::Object(members)) => members.iter().map(read).collect::<Option<_>>()?,
            Some(_) => return None,
        };
        Some(Self { values, complete: true })
    }

    /// The values of an attribute; `None` if the token says nothing of it.
    fn get(&self, name: &str) -> Option<&[Box<str>]> {
        self.values.get(name).map(|values| &**values).or(self.complete.then_some(&[]))
    }
}

/// The attributes of a caller: those of its consumer, as its token narrows them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(super) listed: &'a Values,
    pub(super) claimed: &'a ClaimedAttributes,
}

impl<'a> Attributes<'a> {
    fn both(self, name: &str) -> [Option<&'a [Box<str>]>; 2] {
        [self.listed.get(name).map(|values| &**values), self.claimed.get(name)]
    }

    /// Whether an attribute has this value.
    pub(crate) fn has(self, name: &str, value: &str) -> bool {
        let both = self.both(name);
        let has = |values: &[Box<str>]| values.iter().any(|one| **one == *value);
        both.iter().any(Option::is_some) && both.into_iter().flatten().all(has)
    }

    /// The values of an attribute.
    pub(crate) fn values(self, name: &str) -> impl Iterator<Item = &'a str> {
        let both = self.both(name);
        let all = both.into_iter().flatten().next().unwrap_or_default();
        all.iter()
            .map(|value| &**value)
            .filter(move |value| both.into_iter().flatten().all(|one| one.iter().any(|other| **other == **value)))
    }

    /// All of them, as a claim of a token that this one is exchanged for.
    pub(crate) fn to_claim(self) -> Value {
        let names = self.listed.keys().chain(self.claimed.values.keys());
        names.map(|name| (name.to_string(), json!(self.values(name).collect::<Vec<_>>()))).collect::<Map<_, _>>().into()
    }
}

/// The values of a claim; `None` if it has none.
fn values(claim: &Value) -> Option<Box<[Box<str>]>> {
    let one = |value: &Value| match value {
        Value::String(text) if !text.is_empty() && text.len() <= MAX_VALUE => Some(Box::from(text.as_str())),
        Value::Number(number) => {
            let text = number.as_i64().map(|number| number.to_string());
            text.or_else(|| number.as_u64().map(|number| number.to_string())).map(String::into_boxed_str)
        }
        _ => None,
    };
    match claim {
        Value::Array(items) if items.len() <= MAX_VALUES => items.iter().map(one).collect(),
        other => one(other).map(|value| [value].into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::auth::claim_path::ClaimPath;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    #[test]
    fn claims_are_text_whole_numbers_or_lists_of_these() {
        for (claim, expected) in [
            (json!("t-17"), Some(&["t-17"][..])),
            (json!(["t-17", 18]), Some(&["t-17", "18"])),
            (json!(17), Some(&["17"])),
            (json!(u64::MAX), Some(&["18446744073709551615"])),
            (json!([]), Some(&[])),
            (json!(""), None),
            (json!(["t-17", ""]), None),
            (json!(["t-17", null]), None),
            (json!([["t-17"]]), None),
            (json!(1.5), None),
            (json!(true), None),
            (json!(null), None),
            (json!({"id": "t-17"}), None),
            (json!("x".repeat(MAX_VALUE + 1)), None),
            (json!(vec!["x"; MAX_VALUES + 1]), None),
        ] {
            let found = values(&claim).map(|values| values.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(
                found.as_deref(),
                expected.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>()).as_deref(),
                "{claim}"
            );
        }
    }

    #[test]
    fn a_token_narrows_what_its_consumer_has() {
        let listed =
            |values: &[&str]| Values::from([("tenant".into(), values.iter().map(|value| Box::from(*value)).collect())]);
        let wanted = [("tenant".into(), ClaimPaths::new(vec![ClaimPath::parse("org").unwrap()]))];
        let issuer = |claims: Value| ClaimedAttributes::read(&wanted, &map(claims));
        let exchanged = |claims: Value| ClaimedAttributes::exchanged(&map(claims)).unwrap();
        let none = ClaimedAttributes::default;
        for (listed, claimed, expected) in [
            (Values::new(), none(), &[][..]),
            (listed(&["t-1"]), none(), &["t-1"]),
            (listed(&["t-1", "t-2"]), none(), &["t-1", "t-2"]),
            (Values::new(), issuer(json!({"org": "t-1"})), &["t-1"]),
            (Values::new(), issuer(json!({"org": ["t-1", "t-2"]})), &["t-1", "t-2"]),
            (listed(&["t-1", "t-2"]), issuer(json!({"org": ["t-2", "t-3"]})), &["t-2"]),
            (listed(&["t-1"]), issuer(json!({"org": "t-2"})), &[]),
            // Its issuer says which tenant a token is of: without that, it is of none.
            (listed(&["t-1"]), issuer(json!({})), &[]),
            (listed(&["t-1"]), issuer(json!({"org": null})), &[]),
            // A token that was exchanged is never of more tenants than the one before.
            (listed(&["t-1", "t-2"]), exchanged(json!({"attributes": {"tenant": ["t-2"]}})), &["t-2"]),
            (listed(&["t-1"]), exchanged(json!({"attributes": {}})), &[]),
            (listed(&["t-1"]), exchanged(json!({})), &[]),
            (Values::new(), exchanged(json!({"attributes": {"tenant": "t-2"}})), &["t-2"]),
        ] {
            let attributes = Attributes { listed: &listed, claimed: &claimed };
            assert_eq!(attributes.values("tenant").collect::<Vec<_>>(), expected, "{listed:?} {claimed:?}");
            for value in ["t-1", "t-2", "t-3", ""] {
                assert_eq!(
                    attributes.has("tenant", value),
                    expected.contains(&value),
                    "{value} {listed:?} {claimed:?}"
                );
            }
            let again = exchanged(json!({"attributes": attributes.to_claim()}));
            let again =
                Attributes { listed: &Values::new(), claimed: &again }.values("tenant").collect::<Vec<_>>().len();
            assert_eq!(again, expected.len());
            assert_eq!(attributes.values("region").count(), 0);
        }
        assert!(ClaimedAttributes::exchanged(&map(json!({"attributes": ["tenant"]}))).is_none());
        assert!(ClaimedAttributes::exchanged(&map(json!({"attributes": {"tenant": null}}))).is_none());
    }
}
