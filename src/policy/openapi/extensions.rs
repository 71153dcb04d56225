//! `x-bartizan`: what a description may say in the words of the policy, for the document, a path or an operation.
//!
//! The narrower counts, key by key. It can close further, never open: `public` is the policy's alone.

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde_json::Value;

use super::diagnostics::Diagnostics;
use super::files::{Node, Spot};
use crate::policy::decode_error::renamed;
use crate::policy::diagnostic::did_you_mean;
use crate::policy::source::quote;
use crate::policy::units::{Period, Rate, Size};

/// The keys it has.
const KEYS: [&str; 8] = ["class", "max_age", "max_size", "mode", "only", "proof_of_possession", "rate", "scopes"];

/// What was written, as a route of the policy says it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extensions {
    /// Scopes, instead of those that the description's `security` names.
    pub(crate) scopes: Option<Vec<String>>,
    /// The consumers it is for.
    pub(crate) only: Option<Vec<String>>,
    /// Accepted proofs that the caller holds the key of its credential.
    pub(crate) proof_of_possession: Option<Vec<String>>,
    /// How young a token must be.
    pub(crate) max_age: Option<Period>,
    /// Class of endpoints.
    pub(crate) class: Option<String>,
    /// Limit of its own.
    pub(crate) rate: Option<Rate>,
    /// Largest body.
    pub(crate) max_size: Option<Size>,
    /// `enforce` or `report`.
    pub(crate) mode: Option<String>,
    /// The narrowest place that says anything.
    pub(crate) spot: Option<Spot>,
}

/// What stands in these nodes, the widest first.
pub(super) fn read(nodes: &[&Node<'_>], diagnostics: &mut Diagnostics) -> Extensions {
    let mut all = Extensions::default();
    for written in nodes.iter().filter_map(|node| node.get("x-bartizan")) {
        if !written.value.is_object() {
            diagnostics.error(&written, "`x-bartizan` is a map");
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
        "class" => all.class = text(node, diagnostics),
        "mode" => all.mode = text(node, diagnostics),
        "max_age" => all.max_age = quantity(node, diagnostics),
        "rate" => all.rate = quantity(node, diagnostics),
        "max_size" => all.max_size = quantity(node, diagnostics),
        "public" => {
            diagnostics
                .error(node, "a description cannot open what it describes")
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

/// The same grammar, and the same words, as in the policy.
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
