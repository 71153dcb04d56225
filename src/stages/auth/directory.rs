//! Maps external identities to consumers, of the policy and of the registry.
//!
//! The policy takes precedence. A consumer created at run time has roles and a plan by name: a role that the policy no longer
//! has grants nothing, and a consumer whose plan is gone is refused rather than left without limits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::caller::Consumer;
use super::claims::{OWN_ISSUER, refuse};
use crate::exchange::CertificateName;
use crate::refusal::{Reason, Refusal};
use crate::stages::rate_limit::Plan;
use crate::state::registry::Registry;
use crate::state::registry::entry::{self, Identity};

/// All consumers, and how they are found.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Consumers of the policy, by name.
    listed: BTreeMap<Box<str>, Arc<Consumer>>,
    identities: HashMap<Identity, Arc<Consumer>>,
    /// The consumers with a DNS name right below this one, for wildcards in certificates; no more than two, because two
    /// are refused.
    below: HashMap<Box<str>, Vec<Arc<Consumer>>>,
    /// Role → scopes.
    roles: HashMap<Box<str>, Box<[Box<str>]>>,
    plans: BTreeMap<String, Arc<Plan>>,
}

impl Directory {
    /// Assembles it. The compiler has already resolved names and rejected duplicates.
    pub(crate) fn new(
        identities: Vec<(Identity, Arc<Consumer>)>,
        listed: Vec<Arc<Consumer>>,
        roles: HashMap<Box<str>, Box<[Box<str>]>>,
        plans: BTreeMap<String, Arc<Plan>>,
    ) -> Self {
        let listed = listed.into_iter().map(|consumer| (Box::from(&**consumer.name()), consumer)).collect();
        let mut below: HashMap<Box<str>, Vec<Arc<Consumer>>> = HashMap::new();
        for (identity, consumer) in &identities {
            if let Identity::CertificateSan(name) = identity
                && let Some(parent) = name.parent()
            {
                let consumers = below.entry(parent.into()).or_default();
                if consumers.len() < 2 && consumers.iter().all(|known| known.name() != consumer.name()) {
                    consumers.push(Arc::clone(consumer));
                }
            }
        }
        Self { listed, identities: identities.into_iter().collect(), below, roles, plans }
    }

    /// The consumers of the policy, by name.
    pub(crate) fn listed(&self) -> &BTreeMap<Box<str>, Arc<Consumer>> {
        &self.listed
    }

    /// The identities of a consumer in the policy.
    pub(crate) fn identities(&self, consumer: &str) -> Vec<&Identity> {
        self.identities.iter().filter(|(_, of)| **of.name() == *consumer).map(|(identity, _)| identity).collect()
    }

    /// Returns whether the policy has this identity.
    pub(crate) fn lists(&self, identity: &Identity) -> bool {
        self.identities.contains_key(identity)
    }

    /// Whether the policy has this role.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.roles.contains_key(role)
    }

    /// The names of all roles, in no order.
    pub(crate) fn role_names(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(|role| &**role)
    }

    /// All plans.
    pub(crate) fn plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.values()
    }

    /// The names of all plans.
    pub(crate) fn plan_names(&self) -> impl Iterator<Item = &str> {
        self.plans.keys().map(String::as_str)
    }

    /// The scopes of all roles.
    pub(crate) fn role_scopes(&self) -> impl Iterator<Item = &str> {
        self.roles.values().flatten().map(|scope| &**scope)
    }

    /// Whether the policy has this plan.
    pub(crate) fn has_plan(&self, plan: &str) -> bool {
        self.plans.contains_key(plan)
    }

    /// Returns the consumer that an external identity maps to.
    pub(super) fn identified(
        &self,
        identity: &Identity,
        registry: &Registry,
    ) -> Result<Option<Arc<Consumer>>, Refusal> {
        if let Some(listed) = self.identities.get(identity) {
            return Ok(Some(Arc::clone(listed)));
        }
        if let Some(client) = own_client(identity, registry) {
            return self.named(&client.consumer, registry);
        }
        registry.identified(identity).map_or(Ok(None), |added| self.named(&added.name, registry))
    }

    /// Returns the consumers that a name in a client certificate identifies. More than one is an ambiguity.
    ///
    /// A DNS name matches itself, or else the wildcard that covers it. A wildcard in the certificate stands for every name
    /// that it covers (RFC 9525 §6.3).
    pub(super) fn certified(&self, name: &CertificateName, registry: &Registry) -> Result<Vec<Arc<Consumer>>, Refusal> {
        let identified = |name: CertificateName| self.identified(&Identity::CertificateSan(name), registry);
        let mut found: Vec<_> = identified(name.clone())?.into_iter().collect();
        if let Some(parent) = name.covered_parent() {
            found.extend(self.below.get(parent).into_iter().flatten().cloned());
            for added in registry.certified_below(parent) {
                found.extend(self.named(&added, registry)?);
            }
        } else if found.is_empty()
            && let Some(wildcard) = name.wildcard()
        {
            found.extend(identified(wildcard)?);
        }
        Ok(found)
    }

    /// Returns the consumer with this name.
    pub(crate) fn named(&self, name: &str, registry: &Registry) -> Result<Option<Arc<Consumer>>, Refusal> {
        match (self.listed.get(name), registry.consumer(name)) {
            (Some(listed), _) => Ok(Some(Arc::clone(listed))),
            (None, Some(added)) => self.added(&added).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Compiles a consumer created at run time against this policy.
    fn added(&self, written: &entry::Consumer) -> Result<Arc<Consumer>, Refusal> {
        let plan = written.plan.as_ref().map(|plan| {
            self.plans.get(&**plan).cloned().ok_or_else(|| {
                refuse(Reason::LimitsUnavailable, "the limits of this consumer are not known; ask the API's owner")
                    .cause(format!("consumer {} has the plan {plan}, which the policy does not have", written.name))
            })
        });
        let roles = written.roles.as_ref();
        let ceiling = roles.map(|roles| self.scopes(roles));
        let roles = roles.into_iter().flatten().map(|role| role.to_string()).collect();
        let consumer = Consumer::new(&written.name, roles, ceiling, plan.transpose()?);
        let consumer = consumer.of_organization(written.organization.as_deref());
        Ok(Arc::new(consumer.only_from(written.from.clone()).with_attributes(written.attributes.clone())))
    }

    /// Makes the consumer of a token whose subject maps to no other consumer.
    pub(crate) fn unlisted(issuer: &str, id: &str, plan: &Arc<Plan>) -> Arc<Consumer> {
        Arc::new(Consumer::new(&format!("{issuer}:{id}"), Vec::new(), None, Some(Arc::clone(plan))))
    }

    /// The scopes of these roles; an unknown role has none.
    pub(super) fn scopes(&self, roles: &[Box<str>]) -> Vec<Box<str>> {
        roles.iter().filter_map(|role| self.roles.get(role)).flat_map(|scopes| scopes.iter().cloned()).collect()
    }
}

/// The client of the token service that was made at run time, and whose tokens have this identity.
fn own_client(identity: &Identity, registry: &Registry) -> Option<Arc<entry::Client>> {
    match identity {
        Identity::Issuer { issuer, id } if **issuer == *OWN_ISSUER => registry.client(id),
        _ => None,
    }
}
