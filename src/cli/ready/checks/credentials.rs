//! Tokens are short-lived; keys and client secrets expire.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cli::output::counted;
use crate::cli::ready::facts::Facts;
use crate::cli::ready::item::{Check, Finding, Item};
use crate::policy::source::{Place, quote};
use crate::policy::{At, Period};

const LIFETIMES: Check = Check("token_lifetimes", "Token lifetimes are bounded");
const KEYS: Check = Check("keys", "Keys and client secrets expire and rotate");

/// Longest lifetime of a token that counts as bounded: that of the token service's own.
const LONGEST_TOKEN: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest time until a key has to be replaced: that of `rotate.every`.
const LONGEST_KEY: SignedDuration = SignedDuration::from_hours(400 * 24);

/// Introspection asks about every token again, and the token service bounds its own.
pub(super) fn token_lifetimes(facts: &Facts<'_>) -> Item {
    let auth = &facts.document.auth;
    let at = facts.at.key("auth").key("issuers");
    let findings = auth.issuers.iter().filter_map(|(name, issuer)| {
        let at = at.key(name);
        let (message, place) = match issuer.max_lifetime {
            None => (format!("tokens of the issuer {} may live for ever", quote(name)), at.key_place()),
            Some(Period(most)) if most > LONGEST_TOKEN => {
                let message = format!("tokens of the issuer {} may live for more than a day", quote(name));
                (message, at.key("max_lifetime").key_place())
            }
            Some(_) => return None,
        };
        Some(Finding::new(message, "write `max_lifetime: 1h`, or what its tokens need, up to 24h").at(place))
    });
    let findings = findings.collect();
    let (issuers, endpoints) = (auth.issuers.len(), auth.introspection.len());
    let has_service = facts.document.token_service.is_some();
    if issuers + endpoints == 0 && !has_service {
        return LIFETIMES.not_applicable("the policy accepts no tokens");
    }
    let service = if has_service { ", the token service" } else { "" };
    let evidence = format!("{}, {}{service}", counted(issuers, "issuer"), counted(endpoints, "introspection endpoint"));
    LIFETIMES.judged(evidence, findings)
}

/// A key that expires is rotated in time, or stops working; one without an end is neither.
pub(super) fn keys(facts: &Facts<'_>) -> Item {
    let document = facts.document;
    let is_bounded = document.auth.api_keys.max_key_age.is_some();
    let (mut keys, mut clients) = (0, 0);
    let mut findings = Vec::new();
    for (name, consumer) in &document.consumers {
        let at = facts.at.key("consumers").key(name);
        for (position, key) in consumer.keys.iter().enumerate().filter(|(_, key)| key.rotate.is_none()) {
            let what = format!("the key {}", quote(key.id.as_deref().unwrap_or_default()));
            let at = at.key("keys").index(position);
            findings.extend(ending(&what, key.expires.as_deref(), is_bounded, at, facts.now));
        }
        for (position, client) in consumer.clients.iter().enumerate().filter(|(_, one)| one.secret_sha256.is_some()) {
            let what = format!("the secret of the client {}", quote(client.id.as_deref().unwrap_or_default()));
            let at = at.key("clients").index(position);
            findings.extend(ending(&what, client.expires.as_deref(), false, at, facts.now));
        }
        (keys, clients) = (keys + consumer.keys.len(), clients + consumer.clients.len());
    }
    if document.store.is_some() && !is_bounded {
        let help = "write `api_keys: { max_key_age: 90d }` under `auth`";
        findings.push(
            Finding::new("operators can make keys without an end, and the store keeps them", help)
                .at(facts.at.key("store").key_place()),
        );
    }
    for id in facts.node.iter().flat_map(|node| &node.endless_keys).filter(|_| !is_bounded) {
        let message = format!("the key {}, which operators have made, has no end", quote(id));
        findings.push(Finding::new(message, "rotate it with `bartizan key rotate`, so that it ends"));
    }
    for id in facts.node.iter().flat_map(|node| &node.endless_clients) {
        let message = format!("the client {}, which a partner has claimed, has no end", quote(id));
        findings.push(Finding::new(
            message,
            "invite to another with a lifetime, and remove this one: `bartizan client remove`",
        ));
    }
    if keys + clients == 0 && document.store.is_none() {
        return KEYS.not_applicable("the policy has no keys and no clients");
    }
    let limited = if is_bounded { "; `max_key_age` limits every key" } else { "" };
    let evidence = format!("{} and {} in the policy{limited}", counted(keys, "key"), counted(clients, "client"));
    KEYS.judged(evidence, findings)
}

/// What is wrong with the end of a key or secret. `is_bounded`: its age is limited anyway.
fn ending(what: &str, expires: Option<&str>, is_bounded: bool, at: At<'_>, now: Timestamp) -> Option<Finding> {
    let (message, place): (_, Place) = match expires.map(str::parse::<Timestamp>) {
        None if is_bounded => return None,
        None => (format!("{what} has no end"), at.place()),
        Some(Ok(end)) if end.duration_since(now) > LONGEST_KEY && !is_bounded => {
            (format!("{what} is not replaced for more than 400 days"), at.key("expires").place())
        }
        Some(_) => return None,
    };
    Some(Finding::new(message, "write `expires: TIME`, at most 400 days from now").at(place))
}
