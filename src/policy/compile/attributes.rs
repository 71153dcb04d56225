//! `attributes` of consumers, and the names of all attributes: those of issuers and introspection endpoints, too.

use std::collections::{BTreeMap, BTreeSet};

use super::context::Context;
use crate::policy::document::{AttributeValues, Document};
use crate::policy::tree::At;
use crate::stages::auth::attributes::Values;
use crate::stages::scope::ownership::Owned;

/// The names of all attributes that a consumer or a token may have.
pub(super) fn known(document: &Document) -> BTreeSet<&str> {
    let listed = document.consumers.values().flat_map(|consumer| consumer.attributes.keys());
    let issuers = document.auth.issuers.values().flat_map(|issuer| issuer.attributes.keys());
    let endpoints = document.auth.introspection.values().flat_map(|endpoint| endpoint.attributes.keys());
    listed.chain(issuers).chain(endpoints).map(String::as_str).collect()
}

/// `attributes` of a consumer.
pub(super) fn of_consumer(
    context: &mut Context<'_>,
    written: &BTreeMap<String, AttributeValues>,
    at: At<'_>,
) -> Values {
    let mut attributes = Values::new();
    for (name, AttributeValues(values)) in written {
        let at = at.key(name);
        check_name(context, name, at);
        if values.is_empty() && !at.damaged() {
            context.error(at, "this attribute has no value").help("write one, or a list, or remove it");
        }
        for (position, value) in values.iter().enumerate() {
            let first = values.iter().position(|other| other == value);
            if value.is_empty() {
                context.error(at.index(position), "an empty value is nobody's");
            } else if first != Some(position) {
                context.error(at.index(position), "this value occurs twice");
            }
        }
        attributes.insert(name.as_str().into(), values.iter().map(|value| value.as_str().into()).collect());
    }
    attributes
}

/// Reports a name that no attribute can have.
pub(super) fn check_name(context: &mut Context<'_>, name: &str, at: At<'_>) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || !name.bytes().all(plain) {
        let problem = context.problems.error(at.key_place(), "this cannot be the name of an attribute");
        problem.help("write letters, digits, `_` and `-`");
    } else if !matches!(Owned::read(name), Owned::Attribute(_)) {
        let message = format!("every caller has `caller.{name}` already");
        context.problems.error(at.key_place(), message).help("give the attribute another name");
    }
}
