//! Entries of the store that the policy in force no longer fits: told when a policy is loaded.

use crate::runtime::InForce;

/// Returns a warning for each name that the store uses and the policy no longer has, and for each that both have.
pub(crate) fn warnings(in_force: &InForce) -> Vec<String> {
    let (auth, registry) = (in_force.policy.auth(), in_force.registry());
    let (directory, mut found) = (&auth.directory, Vec::new());
    for consumer in registry.consumers() {
        let name = &consumer.name;
        if directory.listed().contains_key(name) {
            found.push(format!("the consumer {name} is in the policy and in the store; that of the policy counts"));
            continue;
        }
        if let Some(plan) = consumer.plan.as_ref().filter(|plan| !directory.has_plan(plan)) {
            found.push(format!("the consumer {name} of the store has the plan {plan}, which the policy does not have"));
        }
        for role in consumer.roles.iter().flatten().filter(|role| !directory.has_role(role)) {
            found.push(format!("the consumer {name} of the store has the role {role}, which the policy does not have"));
        }
    }
    for key in registry.keys() {
        let (id, consumer) = (&key.id, &key.consumer);
        if auth.keys.listed().any(|listed| listed.id == *id) {
            found.push(format!("the key {id} is in the policy and in the store; revoking it revokes both"));
        }
        if !directory.listed().contains_key(consumer) && registry.consumer(consumer).is_none() {
            found.push(format!("the key {id} is of the consumer {consumer}, which does not exist any more; remove it"));
        }
    }
    found
}
