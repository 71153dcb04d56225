//! Clients of the token service. They are made when an invitation is claimed; here they are listed and removed.

use serde_json::Value;

use super::known::nearest;
use super::page::Row;
use super::{Completed, Operation, Result, conflict, details, missing, view};
use crate::refusal::Refusal;
use crate::state::registry::entry::{Change, Client, Kind};

impl Operation<'_> {
    pub(super) fn clients(&self, consumer: Option<&str>) -> Result<Completed> {
        let (page, registry) = (self.page()?, self.registry());
        let listed = self.policy().auth().clients.values();
        let listed = listed.filter(|one| consumer.is_none_or(|name| **one.consumer.name() == *name));
        // One of the store that the policy lists as well is not in use.
        let is_used = |one: &Client| !self.policy().auth().clients.contains_key(&one.id);
        let made = match consumer {
            Some(name) => registry.clients_of(name).into_iter().filter(|one| is_used(one)).collect(),
            None => registry.some_clients(page.part(), is_used),
        };
        let listed = listed.map(|one| (&*one.id, Row::Listed(one)));
        let all = listed.chain(made.iter().map(|one| (&*one.id, Row::Made(one))));
        Ok(page.show(all, |one| match one {
            Row::Listed(one) => view::client(one, None, registry, self.now),
            Row::Made(one) => view::made_client(one, registry, self.now),
        }))
    }

    pub(super) fn client(&self, id: &str) -> Result<Value> {
        let registry = self.registry();
        match (self.policy().auth().clients.get(id), registry.client(id)) {
            (Some(listed), _) => Ok(view::client(listed, None, registry, self.now)),
            (None, Some(made)) => Ok(view::made_client(&made, registry, self.now)),
            (None, None) => Err(self.missing_client(id)),
        }
    }

    /// Removes a client: it gets no more tokens, and those that it has are refused.
    pub(super) async fn remove_client(&self, id: &str) -> Result<Completed> {
        let Some(stored) = self.registry().client(id) else {
            return Err(match self.policy().auth().clients.contains_key(id) {
                true => conflict("this client is defined in the policy file; remove it there, or revoke it"),
                false => self.missing_client(id),
            });
        };
        let (target, details) = details::client(&stored);
        let done = Completed::removed("client_removed", target).with(details);
        self.change(vec![Change::Remove(Kind::Client, id.to_owned())], done).await
    }

    fn missing_client(&self, id: &str) -> Refusal {
        let (listed, made) = (&self.policy().auth().clients, self.registry().clients());
        let known = listed.keys().map(|id| &**id).chain(made.iter().map(|client| &*client.id));
        missing(nearest("there is no client with this id", id, known))
    }
}
