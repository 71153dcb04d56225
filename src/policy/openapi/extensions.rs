//! `x-bartizan`: route settings in a description, for the document, a path or an operation.
//!
//! The innermost setting of each key applies. Settings can only restrict: `public` is allowed in the policy only.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde_json::Value;

use super::diagnostics::Diagnostics;
use super::files::{Node, Spot};
use crate::policy::decode_error::renamed;
use crate::policy::diagnostic::did_you_mean;
use crate::policy::source::quote;
use crate::policy::units::{Period, Rate, Size};

/// The keys of `x-bartizan`.
const KEYS: [&str; 11] =
    ["class", "cost", "from", "max_age", "max_size", "mode", "only", "proof_of_possession", "rate", "scopes", "where"];

/// The settings, as a route of the policy has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extensions {
    /// Scopes, in place of those in the description's `security`.
    pub(crate) scopes: Option<Vec<String>>,
    /// The only consumers that may call it.
    pub(crate) only: Option<Vec<String>>,
    /// The networks that it may be called from.
    pub(crate) from: Option<Vec<String>>,
    /// What a request names that must be the caller's.
    pub(crate) ownership: Option<BTreeMap<String, String>>,
    /// Accepted proofs that the caller holds the key of its credential.
    pub(crate) proof_of_possession: Option<Vec<String>>,
    /// Longest time since the token was issued.
    pub(crate) max_age: Option<Period>,
    /// Class of endpoints.
    pub(crate) class: Option<String>,
    /// What a request takes from each limit.
    pub(crate) cost: Option<u32>,
    /// Rate limit of the route itself.
    pub(crate) rate: Option<Rate>,
    /// Largest body.
    pub(crate) max_size: Option<Size>,
    /// `enforce` or `report`.
    pub(crate) mode: Option<String>,
    /// The innermost `x-bartizan`.
    pub(crate) spot: Option<Spot>,
}

/// Reads `x-bartizan` of these nodes, the outermost first.
pub(super) fn read(nodes: &[&Node<'_>], diagnostics: &mut Diagnostics) -> Extensions {
    let mut all = Extensions::default();
    for written in nodes.iter().filter_map(|node| node.get("x-bartizan")) {
        if !written.value.is_object() {
            diagnostics.error(&written, "`x-bartizan` must be a map");
        }
        all.spot = Some(Spot::of(&written));
        for (key, node) in written.entries() {
            one(key, &node, &mut all, diagnostics);
        }
    }
    all
}

fn one(key: &str, node: &Node<'_>, all: &mut Extensions, diagnostics: &mut Diagnostics) {
    match key {
        "scopes" => all.scopes = names(node, diagnostics),
        "only" => all.only = names(node, diagnostics),
        "proof_of_possession" => all.proof_of_possession = names(node, diagnostics),
        "from" => all.from = names(node, diagnostics),
        "where" => all.ownership = pairs(node, diagnostics),
        "class" => all.class = text(node, diagnostics),
        "cost" => all.cost = count(node, diagnostics),
        "mode" => all.mode = text(node, diagnostics),
        "max_age" => all.max_age = quantity(node, diagnostics),
        "rate" => all.rate = quantity(node, diagnostics),
        "max_size" => all.max_size = quantity(node, diagnostics),
        "public" => {
            diagnostics
                .error(node, "a description cannot make its operations public")
                .at_key()
                .help("the policy can: `routes: { GET /path: { public: true } }`");
        }
        _ => {
            let help = renamed(key, &KEYS)
                .or_else(|| did_you_mean(key, KEYS))
                .unwrap_or_else(|| format!("it has {}", KEYS.join(", ")));
            diagnostics.error(node, format!("unknown key {} in `x-bartizan`", quote(key))).at_key().help(help);
        }
    }
}

fn text(node: &Node<'_>, diagnostics: &mut Diagnostics) -> Option<String> {
    let text = node.value.as_str().map(str::to_owned);
    if text.is_none() {
        diagnostics.error(node, "expected text");
    }
    text
}

fn names(node: &Node<'_>, diagnostics: &mut Diagnostics) -> Option<Vec<String>> {
    let names =
        node.value.as_array().and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    if names.is_none() {
        diagnostics.error(node, "expected a list of names");
    }
    names
}

fn pairs(node: &Node<'_>, diagnostics: &mut Diagnostics) -> Option<BTreeMap<String, String>> {
    let pair = |(key, value): (&String, &Value)| value.as_str().map(|value| (key.clone(), value.to_owned()));
    let pairs = node.value.as_object().and_then(|members| members.iter().map(pair).collect());
    if pairs.is_none() {
        diagnostics.error(node, "expected a map such as `{ path.tenant: caller.tenant }`");
    }
    pairs
}

fn count(node: &Node<'_>, diagnostics: &mut Diagnostics) -> Option<u32> {
    let count = node.value.as_u64().and_then(|count| u32::try_from(count).ok());
    if count.is_none() {
        diagnostics.error(node, "expected a whole number");
    }
    count
}

/// Parses a quantity as the policy does, with the same messages.
fn quantity<'n, Q: Deserialize<'n>>(node: &Node<'n>, diagnostics: &mut Diagnostics) -> Option<Q> {
    let text = match node.value {
        Value::String(text) => text.as_str(),
        _ => {
            diagnostics.error(node, "expected a quantity with its unit");
            return None;
        }
    };
    let parsed = Q::deserialize(StrDeserializer::<serde::de::value::Error>::new(text));
    match parsed {
        Ok(quantity) => Some(quantity),
        Err(error) => {
            let error = error.to_string();
            let (message, help) = error.split_once('\n').unwrap_or((&error, ""));
            let problem = diagnostics.error(node, message);
            if !help.is_empty() {
                problem.help(help);
            }
            None
        }
    }
}
