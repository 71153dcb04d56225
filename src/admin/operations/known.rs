//! Resolves the names in operators' requests.
//!
//! A name that nothing has is most likely a typing mistake, and "done" would leave a leaked credential in use. So it is
//! refused, with the nearest name; `force` accepts what is not known here yet.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Value, json};

use super::{Operation, Result, input, missing, view};
use crate::policy::Access;
use crate::policy::diagnostic::did_you_mean;
use crate::refusal::Refusal;
use crate::stages::auth::api_key::Key as Listed;
use crate::stages::auth::attributes::Values as Attributes;
use crate::stages::auth::claims::OWN_ISSUER;
use crate::stages::auth::client;
use crate::stages::mask::Mask;
use crate::stages::scope::ownership::Condition;
use crate::state::registry::entry::{Client, Key};
use crate::state::registry::revocation_key::RevocationTarget;

impl Operation<'_> {
    /// Checks a consumer in the path.
    pub(super) fn check_consumer(&self, name: &str, force: bool) -> Result<()> {
        match self.unknown_consumer(name).filter(|_| !force) {
            Some(problem) => Err(missing(problem)),
            None => Ok(()),
        }
    }

    /// Checks scopes in the body: some route or role has each.
    pub(super) fn check_scopes(&self, scopes: &[Box<str>], force: bool) -> Result<()> {
        super::scopes(scopes)?;
        let known = self.known_scopes();
        match scopes.iter().position(|scope| !known.contains(&**scope)).filter(|_| !force) {
            None => Ok(()),
            Some(position) => {
                let wrong = scopes.get(position).map(|scope| &**scope).unwrap_or_default();
                let problem = unknown("no route or role of the policy has this scope", wrong, known.iter().copied());
                Err(input::wrong(&format!("/scopes/{position}"), problem))
            }
        }
    }

    /// Checks the target of a revocation. Ids and subjects of tokens cannot be checked: only their issuers know them. The subjects of the
    /// token service are its clients, and those of exchanged tokens.
    pub(super) fn check_target(&self, target: &RevocationTarget, force: bool) -> Result<()> {
        let (pointer, problem) = match target {
            _ if force => return Ok(()),
            RevocationTarget::Key(id) => ("/key", self.unknown_key(id)),
            RevocationTarget::Consumer(name) => ("/consumer", self.unknown_consumer(name)),
            RevocationTarget::Subject { issuer, subject } if **issuer == *OWN_ISSUER => {
                ("/subject", self.unknown_client(subject))
            }
            _ => return Ok(()),
        };
        problem.map_or(Ok(()), |problem| Err(input::wrong(pointer, problem)))
    }

    /// Returns what a revocation hits, as far as it is known here: the API keys that were accepted, and their last use; and the clients
    /// of the token service that were. It is asked for in an emergency, so it looks at nothing else.
    pub(super) async fn hit(&self, target: &RevocationTarget) -> Option<Value> {
        let (auth, registry) = (self.policy().auth(), self.registry());
        let (keys, clients) = match target {
            RevocationTarget::Consumer(name) => {
                let listed = auth.keys.listed().filter(|key| **key.consumer.name() == **name);
                let made = registry.keys_of(name);
                let keys = listed.map(|key| self.listed_hit(key)).chain(made.iter().map(|key| self.made_hit(key)));
                let listed = auth.clients.values().filter(|client| **client.consumer.name() == **name);
                let good = listed.filter(|client| client.state(registry, self.now) == "active").count();
                let made = registry.clients_of(name);
                (keys.collect(), good + made.iter().filter(|one| self.is_good(one)).count())
            }
            RevocationTarget::Key(id) => {
                let listed = auth.keys.listed().filter(|key| key.id == *id).map(|key| self.listed_hit(key));
                let made = registry.key_by_id(id);
                (listed.chain(made.iter().map(|key| self.made_hit(key))).collect::<Vec<_>>(), 0)
            }
            RevocationTarget::Subject { issuer, subject } if **issuer == *OWN_ISSUER => {
                let listed = auth.clients.get(subject).filter(|client| client.state(registry, self.now) == "active");
                let made = registry.client(subject).filter(|one| self.is_good(one));
                (Vec::new(), usize::from(listed.is_some()) + usize::from(made.is_some()))
            }
            _ => return None,
        };
        // If the uses on other nodes are not known, those on this one are reported.
        let ids: Vec<Box<str>> = keys.iter().map(|(id, _)| id.clone()).collect();
        let _ = registry.refresh_uses(&ids).await;
        let uses = ids.iter().filter_map(|id| registry.usage(id).last()).map(|last| last.at);
        let active = keys.iter().filter(|(_, state)| *state == "active").count();
        let successors = match target {
            RevocationTarget::Key(id) => self.successors(id),
            _ => Vec::new(),
        };
        Some(json!({
            "active_keys": active, "active_clients": clients, "last_used": uses.max(), "successors": successors,
        }))
    }

    /// The id of a key, and whether it is good.
    fn listed_hit(&self, key: &Listed) -> (Box<str>, &'static str) {
        (key.id.clone(), key.state(self.policy().auth().keys.max_age(), self.registry(), self.now))
    }

    fn made_hit(&self, key: &Key) -> (Box<str>, &'static str) {
        (key.id.clone(), view::state_of(key, self.policy(), self.registry(), self.now))
    }

    fn is_good(&self, client: &Client) -> bool {
        !client::has_ended(client, self.registry(), self.now)
    }

    /// The good keys in the place of this one: what was put there in place of a leaked key may have been put there by somebody who had
    /// it, and so on.
    fn successors(&self, id: &str) -> Vec<Box<str>> {
        let next_of = |id: &str| self.registry().key_by_id(id).and_then(|key| key.replaced_by.clone());
        let (mut seen, mut found) = (HashSet::new(), Vec::new());
        let mut next = next_of(id);
        while let Some(id) = next.take().filter(|id| seen.insert(id.clone())) {
            let Some(key) = self.registry().key_by_id(&id) else { break };
            next = key.replaced_by.clone();
            if self.made_hit(&key).1 == "active" {
                found.push(id);
            }
        }
        found
    }

    /// Refuses a request for a consumer that does not exist.
    pub(super) fn missing_consumer(&self, name: &str) -> Refusal {
        let (listed, added) = (self.directory().listed(), self.registry().consumers());
        let known = listed.keys().map(|name| &**name).chain(added.iter().map(|one| &*one.name));
        missing(nearest("there is no consumer with this name", name, known))
    }

    /// Refuses a request for a key that does not exist.
    pub(super) fn missing_key(&self, id: &str) -> Refusal {
        let (listed, made) = (&self.policy().auth().keys, self.registry().keys());
        let known = listed.listed().map(|key| &*key.id).chain(made.iter().map(|key| &*key.id));
        missing(nearest("there is no key with this id", id, known))
    }

    fn unknown_consumer(&self, name: &str) -> Option<String> {
        // `ISSUER:ID` is a caller that is not listed.
        let is_unlisted = name.split_once(':').is_some_and(|(issuer, id)| self.has_issuer(issuer) && !id.is_empty());
        let listed = self.directory().listed();
        if is_unlisted || listed.contains_key(name) || self.registry().consumer(name).is_some() {
            return None;
        }
        let added = self.registry().consumers();
        let known = listed.keys().map(|name| &**name).chain(added.iter().map(|one| &*one.name));
        Some(unknown("there is no consumer with this name", name, known))
    }

    fn unknown_key(&self, id: &str) -> Option<String> {
        if self.registry().key_by_id(id).is_some() || self.is_listed_key(id) {
            return None;
        }
        let (listed, made) = (&self.policy().auth().keys, self.registry().keys());
        let known = listed.listed().map(|key| &*key.id).chain(made.iter().map(|key| &*key.id));
        Some(unknown("there is no key with this id", id, known))
    }

    fn unknown_client(&self, id: &str) -> Option<String> {
        let is_of_exchange = id.split_once(':').is_some_and(|(issuer, _)| self.has_issuer(issuer));
        let listed = &self.policy().auth().clients;
        if is_of_exchange || listed.contains_key(id) || self.registry().client(id).is_some() {
            return None;
        }
        let made = self.registry().clients();
        let known = listed.keys().map(|id| &**id).chain(made.iter().map(|client| &*client.id));
        Some(unknown("there is no client with this id", id, known))
    }

    fn known_scopes(&self) -> BTreeSet<&str> {
        let routes = self.policy().routes().iter();
        let required = routes.filter_map(|route| match &route.access {
            Access::Scoped(requirement) => Some(requirement.alternatives()),
            Access::Public => None,
        });
        let required = required.flatten().flat_map(|alternative| alternative.scopes.iter().map(|scope| &**scope));
        let masks = self.policy().routes().iter().filter_map(|route| route.response.as_ref()?.mask());
        required.chain(masks.flat_map(Mask::scopes)).chain(self.directory().role_scopes()).collect()
    }

    /// Returns whether the policy has an issuer or an introspection endpoint with this name.
    fn has_issuer(&self, name: &str) -> bool {
        self.policy().auth().issuer_names().any(|known| known == name)
    }

    /// Checks the name of a role in the body.
    pub(super) fn check_role(&self, name: &str, pointer: &str) -> Result<()> {
        let directory = self.directory();
        let problem = || not_in_policy("the policy does not define this role", name, directory.role_names());
        if directory.has_role(name) { Ok(()) } else { Err(input::wrong(pointer, problem())) }
    }

    /// Reads attributes in the body: a route compares each with what requests name, and none has an empty value.
    pub(super) fn attributes(&self, written: BTreeMap<Box<str>, Vec<Box<str>>>) -> Result<Attributes> {
        let routes = self.policy().routes().iter();
        let compared = routes.filter_map(|route| match &route.access {
            Access::Scoped(requirement) => requirement.ownership(),
            Access::Public => None,
        });
        let compared: BTreeSet<&str> = compared.flatten().filter_map(Condition::attribute).collect();
        let known = || compared.iter().copied();
        for (name, values) in &written {
            if !known().any(|known| known == &**name) {
                let problem = not_in_policy("no route of the policy compares this attribute", name, known());
                return Err(input::wrong(&format!("/attributes/{name}"), problem));
            }
            if values.is_empty() || values.iter().any(|value| value.is_empty()) {
                return Err(input::wrong(&format!("/attributes/{name}"), "write at least one value, and no empty one"));
            }
        }
        Ok(written.into_iter().map(|(name, values)| (name, values.into())).collect())
    }

    /// Checks the name of a plan in the body.
    pub(super) fn check_plan(&self, name: &str) -> Result<()> {
        let directory = self.directory();
        let problem = || not_in_policy("the policy does not define this plan", name, directory.plan_names());
        if directory.has_plan(name) { Ok(()) } else { Err(input::wrong("/plan", problem())) }
    }

    /// Checks the name of an issuer in the body.
    pub(super) fn check_issuer(&self, name: &str, pointer: &str) -> Result<()> {
        if self.has_issuer(name) {
            return Ok(());
        }
        let known = self.policy().auth().issuer_names();
        Err(input::wrong(pointer, not_in_policy("the policy has no issuer with this name", name, known)))
    }
}

/// Says that the policy does not have a name, and which ones it has.
fn not_in_policy<'n>(problem: &str, name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    /// Maximum number of names in a message.
    const LISTED: usize = 10;
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    match did_you_mean(name, known.iter().copied()) {
        Some(help) => format!("{problem}; {help}"),
        None if known.is_empty() => format!("{problem}; it has none yet"),
        None if known.len() <= LISTED => format!("{problem}; it has {}", known.join(", ")),
        None => problem.to_owned(),
    }
}

pub(super) fn nearest<'n>(problem: &str, name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    did_you_mean(name, known).map_or_else(|| problem.to_owned(), |help| format!("{problem}; {help}"))
}

fn unknown<'n>(problem: &str, name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    match did_you_mean(name, known) {
        Some(help) => format!("{problem}; {help}"),
        None => format!("{problem}; if it is not known here yet, use `\"force\": true` or `--force`"),
    }
}
