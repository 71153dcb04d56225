//! Consumers are held to a plan, and plans have a quota.

use std::collections::BTreeMap;

use crate::cli::output::counted;
use crate::cli::ready::facts::Facts;
use crate::cli::ready::item::{Check, Finding, Item};
use crate::policy::source::quote;

const PLANS: Check = Check("plans", "Every consumer has a plan with a quota");

/// A rate alone lets a consumer call for ever; a quota is what it can cost in a month.
pub(super) fn plans(facts: &Facts<'_>) -> Item {
    let document = facts.document;
    let mut findings = Vec::new();
    // Each plan in use, and who has it.
    let mut used: BTreeMap<&str, String> = BTreeMap::new();
    for (name, consumer) in &document.consumers {
        match &consumer.plan {
            Some(plan) => drop(used.entry(plan).or_insert_with(|| format!("the consumer {}", quote(name)))),
            None => findings.push(
                Finding::new(format!("the consumer {} has no plan", quote(name)), "write `plan: NAME`").at(facts
                    .at
                    .key("consumers")
                    .key(name)
                    .key_place()),
            ),
        }
    }
    let issuers = document.auth.issuers.iter().map(|(name, issuer)| (name, &issuer.default_plan));
    let endpoints = document.auth.introspection.iter().map(|(name, endpoint)| (name, &endpoint.default_plan));
    for (name, plan) in issuers.chain(endpoints) {
        if let Some(plan) = plan {
            used.entry(plan).or_insert_with(|| format!("every consumer of {} without an entry", quote(name)));
        }
    }
    let node = facts.node.iter().flat_map(|node| &node.consumers);
    for (name, plan) in node {
        match plan.as_ref().and_then(|plan| document.plans.get_key_value(plan)) {
            Some((plan, _)) => drop(used.entry(plan).or_insert_with(|| format!("the consumer {}", quote(name)))),
            None => findings.push(Finding::new(
                format!("the consumer {}, which operators have added, has no plan", quote(name)),
                "give it one with `PATCH /v1/consumers/NAME` of the admin API, or remove it",
            )),
        }
    }
    let without = used.iter().filter(|(plan, _)| document.plans.get(**plan).is_some_and(|plan| plan.quota.is_none()));
    findings.extend(without.map(|(plan, by)| {
        let message = format!("the plan {} has no quota, and {by} has it", quote(plan));
        Finding::new(message, "write what it may use in all, such as `quota: 100000/month`").at(facts
            .at
            .key("plans")
            .key(plan)
            .key_place())
    }));
    if used.is_empty() && findings.is_empty() {
        return PLANS.not_applicable("the policy has no consumers, and no issuer has a default plan");
    }
    let evidence = format!(
        "{} in the policy, {} in use",
        counted(document.consumers.len(), "consumer"),
        counted(used.len(), "plan")
    );
    PLANS.judged(evidence, findings)
}
