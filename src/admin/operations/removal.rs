//! Removes a consumer, with all that belongs to its name.

use super::{Completed, Operation, Result};
use crate::state::registry::entry::{Change, Kind, grant_id};

/// How often what was made meanwhile is removed. Once the consumer is gone everywhere, nothing more is made.
const ROUNDS: usize = 3;

impl Operation<'_> {
    pub(super) async fn remove_consumer(&self, name: &str) -> Result<Completed> {
        if self.registry().consumer(name).is_none() {
            self.writable(name)?;
            return Err(self.missing_consumer(name));
        }
        // A consumer of the policy with this name keeps what belongs to the name.
        let keeps = self.directory().listed().contains_key(name);
        let mut changes = if keeps { Vec::new() } else { self.owned(name) };
        changes.push(Change::Remove(Kind::Consumer, name.to_owned()));
        let mut done = self.change(changes, Completed::removed("consumer_removed", name)).await?;
        // It may have replaced a key, or claimed one, while it was removed.
        for _ in 0..ROUNDS {
            let is_more = |change: &Change| !matches!(change, Change::Remove(Kind::Suspension, _));
            let left: Vec<_> = self.owned(name).into_iter().filter(is_more).collect();
            if keeps || left.is_empty() || self.registry().consumer(name).is_some() {
                break;
            }
            done = self.change(left, done).await?;
        }
        Ok(done)
    }

    /// Removes everything a consumer owns, so that a later consumer with the same name does not inherit it.
    fn owned(&self, name: &str) -> Vec<Change> {
        let (keys, grants) = (self.registry().keys_of(name), self.registry().grants());
        let (clients, invitations) = (self.registry().clients_of(name), self.registry().invitations());
        let invitations = invitations.iter().filter(|invitation| *invitation.consumer == *name);
        let grants = grants.iter().filter(|grant| *grant.consumer == *name);
        keys.iter()
            .map(|key| Change::Remove(Kind::Key, key.id.to_string()))
            .chain(clients.iter().map(|client| Change::Remove(Kind::Client, client.id.to_string())))
            .chain(invitations.map(|invitation| Change::Remove(Kind::Invitation, invitation.id.to_string())))
            .chain(grants.map(|grant| Change::Remove(Kind::Grant, grant_id(name, &grant.id))))
            .chain([Change::Remove(Kind::Suspension, name.to_owned())])
            .collect()
    }
}
