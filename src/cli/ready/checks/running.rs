//! A running node has this policy in force.

use crate::cli::ready::facts::Facts;
use crate::cli::ready::item::{Check, Finding, Item};

const POLICY: Check = Check("running_policy", "A running node has this policy in force");

pub(super) fn policy(facts: &Facts<'_>) -> Item {
    let node = match &facts.node {
        Ok(node) => node,
        Err(why) => return POLICY.not_looked_at(why.clone()),
    };
    let (own, there) = (short(facts.policy.digest()), short(&node.digest));
    let finding = (*node.digest != **facts.policy.digest()).then(|| {
        let message = format!("the node has another policy in force ({there}, and this one is {own})");
        Finding::new(message, "reload the node: SIGHUP, or `POST /v1/policy/reload`").at(facts.at.key_place())
    });
    POLICY.judged(format!("policy {there}"), finding.into_iter().collect())
}

/// The beginning of a digest, as far as people compare it.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
