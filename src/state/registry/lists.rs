//! Look-ups of many entries at once. None is for the way of a request, except those of one consumer: the others look at all entries, or
//! at a page of them.

use std::sync::Arc;

use super::Registry;
use super::entry::{Client, Consumer, Grant, Invitation, Key, Kind, SigningKey, Suspension};
use super::memory::Part;

impl Registry {
    /// All API keys, by id.
    pub(crate) fn keys(&self) -> Vec<Arc<Key>> {
        self.memory.entries().keys.values().cloned().collect()
    }

    /// Whether there is an API key that was made at run time.
    pub(crate) fn has_keys(&self) -> bool {
        !self.memory.entries().keys.is_empty()
    }

    /// Some of the API keys that are wanted, by id.
    pub(crate) fn some_keys(&self, part: Part<'_>, is_wanted: impl Fn(&Key) -> bool) -> Vec<Arc<Key>> {
        part.of(&self.memory.entries().keys, is_wanted)
    }

    /// The API keys of a consumer, by id.
    pub(crate) fn keys_of(&self, consumer: &str) -> Vec<Arc<Key>> {
        self.memory.entries().keys_of(consumer).cloned().collect()
    }

    /// The API keys that are made on schedule, by id.
    pub(crate) fn rotated_keys(&self) -> Vec<Arc<Key>> {
        self.memory.entries().keys.values().filter(|key| key.rotation.is_some()).cloned().collect()
    }

    /// All clients of the token service that were made at run time, by id.
    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        self.memory.entries().clients.values().cloned().collect()
    }

    /// Some of those that are wanted, by id.
    pub(crate) fn some_clients(&self, part: Part<'_>, is_wanted: impl Fn(&Client) -> bool) -> Vec<Arc<Client>> {
        part.of(&self.memory.entries().clients, is_wanted)
    }

    /// The clients of a consumer that were made at run time, by id.
    pub(crate) fn clients_of(&self, consumer: &str) -> Vec<Arc<Client>> {
        self.memory.entries().clients_of(consumer).cloned().collect()
    }

    /// Returns all consumers created at run time, by name.
    pub(crate) fn consumers(&self) -> Vec<Arc<Consumer>> {
        self.memory.entries().consumers.values().cloned().collect()
    }

    /// Some of those that are wanted, by name.
    pub(crate) fn some_consumers(&self, part: Part<'_>, is_wanted: impl Fn(&Consumer) -> bool) -> Vec<Arc<Consumer>> {
        part.of(&self.memory.entries().consumers, is_wanted)
    }

    /// All grants, by consumer and id.
    pub(crate) fn grants(&self) -> Vec<Arc<Grant>> {
        self.memory.entries().grants.values().cloned().collect()
    }

    /// Some of them, by [`grant_id`].
    ///
    /// [`grant_id`]: super::entry::grant_id
    pub(crate) fn some_grants(&self, part: Part<'_>) -> Vec<Arc<Grant>> {
        part.of(&self.memory.entries().grants, |_| true)
    }

    /// Some suspensions, by consumer.
    pub(crate) fn some_suspensions(&self, part: Part<'_>) -> Vec<Arc<Suspension>> {
        part.of(&self.memory.entries().suspensions, |_| true)
    }

    /// All signing keys, by number.
    pub(crate) fn signing_keys(&self) -> Vec<Arc<SigningKey>> {
        self.memory.entries().signing_keys.values().cloned().collect()
    }

    /// All invitations, by id; those that have ended are kept for a time.
    pub(crate) fn invitations(&self) -> Vec<Arc<Invitation>> {
        self.memory.entries().invitations.values().cloned().collect()
    }

    /// Some of them, by id.
    pub(crate) fn some_invitations(&self, part: Part<'_>) -> Vec<Arc<Invitation>> {
        part.of(&self.memory.entries().invitations, |_| true)
    }

    /// The invitations of a consumer, by id.
    pub(crate) fn invitations_of(&self, consumer: &str) -> Vec<Arc<Invitation>> {
        self.memory.entries().invitations_of(consumer).cloned().collect()
    }

    /// Returns the number of entries of each kind; expired ones count until they are swept.
    pub(crate) fn counts(&self) -> [(Kind, usize); Kind::ALL.len()] {
        let entries = self.memory.entries();
        Kind::ALL.map(|kind| {
            let count = match kind {
                Kind::Consumer => entries.consumers.len(),
                Kind::Key => entries.keys.len(),
                Kind::Client => entries.clients.len(),
                Kind::Grant => entries.grants.len(),
                Kind::Suspension => entries.suspensions.len(),
                Kind::Revocation => self.memory.revoked.len(),
                Kind::SigningKey => entries.signing_keys.len(),
                Kind::Invitation => entries.invitations.len(),
            };
            (kind, count)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jiff::Timestamp;

    use super::*;
    use crate::state::epoch::Epoch;
    use crate::state::ledger::Clock;
    use crate::state::registry::entry::{Change, ClientCredential, Digest, Entry};

    fn key(id: &str, consumer: &str) -> Entry {
        Entry::Key(Key {
            id: id.into(),
            consumer: consumer.into(),
            sha256: aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes()).as_ref().try_into().unwrap(),
            scopes: None,
            from: None,
            not_before: None,
            expires: None,
            replaced_by: None,
            note: None,
            created: Timestamp::UNIX_EPOCH,
            created_by: "admin".into(),
            rotation: None,
            ends_for_good: false,
        })
    }

    fn client(id: &str, consumer: &str) -> Entry {
        Entry::Client(Client {
            id: id.into(),
            consumer: consumer.into(),
            credential: ClientCredential::Certificate(Digest::default()),
            scopes: None,
            from: None,
            expires: None,
            issued: None,
            note: None,
            created: Timestamp::UNIX_EPOCH,
            created_by: "admin".into(),
        })
    }

    #[test]
    fn what_a_consumer_has_is_found_without_the_rest_and_pages_are_cut_from_all() {
        let registry = Registry::new(None, Epoch::default(), Clock::starting(Instant::now()));
        for id in ["c", "a", "d"] {
            registry.learn(Change::Put(key(id, "acme")));
            registry.learn(Change::Put(client(id, "acme")));
        }
        registry.learn(Change::Put(key("b", "bank")));
        // It gets another owner, one is written anew, and one goes.
        registry.learn(Change::Put(key("d", "bank")));
        registry.learn(Change::Put(client("c", "acme")));
        registry.learn(Change::Remove(Kind::Client, "d".to_owned()));
        let keys = |keys: Vec<Arc<Key>>| keys.iter().map(|key| key.id.to_string()).collect::<Vec<_>>();
        assert_eq!(
            (keys(registry.keys_of("acme")), keys(registry.keys_of("bank"))),
            (vec!["a".into(), "c".into()], vec!["b".into(), "d".into()])
        );
        let clients: Vec<_> = registry.clients_of("acme").iter().map(|client| client.id.to_string()).collect();
        assert_eq!(clients, ["a", "c"]);
        assert!(registry.keys_of("nobody").is_empty() && registry.clients_of("bank").is_empty());
        for (after, limit, expected) in [
            (None, 2, vec!["a", "b"]),
            (Some("b"), 2, vec!["c", "d"]),
            (Some("bb"), 9, vec!["c", "d"]),
            (Some("d"), 1, vec![]),
        ] {
            assert_eq!(keys(registry.some_keys(Part { after, limit }, |_| true)), expected, "{after:?}");
        }
        // What is left out takes no place.
        let part = Part { after: Some("a"), limit: 2 };
        assert_eq!(keys(registry.some_keys(part, |key| *key.id != *"b")), ["c", "d"]);
    }
}
