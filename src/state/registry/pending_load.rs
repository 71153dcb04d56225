//! The contents of a store while they are being read. What was in force stays so until everything has been read.

use std::collections::HashMap;

use ahash::RandomState;

use super::entry::{Entry, Kind, Suspension};
use super::memory::{Entries, Memory};
use super::revocation_key::RevocationKey;
use super::revoked::Coverage;
use super::since::Since;

/// The contents of a store, while they are being read.
pub(super) struct PendingLoad<'a> {
    memory: &'a Memory,
    entries: Entries,
    revoked: HashMap<RevocationKey, Coverage, RandomState>,
}

/// What a merge took from memory, not from the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) revocations: usize,
    pub(super) suspensions: usize,
    pub(super) consumers: usize,
    pub(super) signing_keys: usize,
    /// Keys, clients, grants, consumers and invitations that were removed before, and that the store has again.
    pub(super) ignored: usize,
}

impl<'a> PendingLoad<'a> {
    pub(super) fn new(memory: &'a Memory) -> Self {
        Self { memory, entries: Entries::default(), revoked: HashMap::default() }
    }

    pub(super) fn put(&mut self, entry: Entry) {
        match entry {
            Entry::Revocation(revocation) => {
                let coverage = Coverage::new(revocation.issued_before, revocation.expires);
                self.revoked.insert(revocation.target.revocation_key(), coverage);
            }
            entry => self.entries.put(entry),
        }
    }

    /// Puts it in force in place of what is known.
    pub(super) fn replace(self) {
        self.memory.replace(self.entries, &self.revoked);
    }

    /// Puts it in force together with what is known, for a store that has lost changes.
    ///
    /// What the store has changed `since` counts as it is there. Of the rest, this node has seen the later version:
    /// - restrictions stay: revocations, suspensions, and the roles of a consumer;
    /// - keys, clients, grants and consumers that were removed stay removed, and those that were changed stay as they were;
    /// - keys, clients, grants and invitations that the store has lost are no longer accepted: no other node accepts them either.
    pub(super) fn merge(mut self, since: &Since) -> Kept {
        let mut kept = Kept::default();
        self.memory.revoked.for_each(|key, known| {
            let changed = since.has_changed(Kind::Revocation, &key.id());
            match self.revoked.get_mut(&key) {
                Some(stored) if !changed => *stored = stored.widest(known),
                None if !changed => {
                    self.revoked.insert(key, known);
                    kept.revocations += 1;
                }
                _ => {}
            }
        });
        let mut known = self.memory.entries().all();
        let mut merged = Entries::default();
        for (id, stored) in self.entries.all() {
            let known = known.remove(&id);
            if since.has_changed(id.0, &id.1) {
                merged.put(stored);
                continue;
            }
            match (stored, known) {
                (Entry::Suspension(stored), Some(Entry::Suspension(known))) => {
                    merged.put(Entry::Suspension(longest(stored, known)));
                }
                (stored @ Entry::Suspension(_), _) => merged.put(stored),
                (_, Some(known)) => merged.put(known),
                (_, None) => kept.ignored += 1,
            }
        }
        for ((kind, id), known) in known {
            let count = match kind {
                Kind::Suspension => &mut kept.suspensions,
                Kind::Consumer => &mut kept.consumers,
                // Tokens that were signed with it are in use: nobody gains by refusing them.
                Kind::SigningKey => &mut kept.signing_keys,
                Kind::Key | Kind::Client | Kind::Grant | Kind::Revocation | Kind::Invitation => continue,
            };
            if !since.has_changed(kind, &id) {
                merged.put(known);
                *count += 1;
            }
        }
        self.memory.replace(merged, &self.revoked);
        kept
    }
}

/// The suspension that ends later.
fn longest(one: Suspension, other: Suspension) -> Suspension {
    match (one.until, other.until) {
        (Some(end), Some(other_end)) if other_end > end => other,
        (Some(_), None) => other,
        _ => one,
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::super::entry::{Change, Consumer, Grant, Key, Revocation, grant_id};
    use super::super::revocation_key::RevocationTarget;
    use super::*;
    use crate::state::epoch::Epoch;

    fn at(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
    }

    fn key(id: &str, hour: i64) -> Entry {
        let (created, created_by) = (at(0), "admin".into());
        Entry::Key(Key {
            id: id.into(),
            consumer: "acme".into(),
            sha256: [hour as u8; 32],
            scopes: None,
            from: None,
            not_before: None,
            expires: Some(at(hour)),
            replaced_by: None,
            note: None,
            created,
            created_by,
            rotation: None,
            ends_for_good: false,
        })
    }

    fn grant(id: &str) -> Entry {
        let (consumer, created_by) = ("acme".into(), "admin".into());
        let scopes = vec!["refund".into()];
        Entry::Grant(Grant { id: id.into(), consumer, scopes, until: at(9), reason: None, created: at(0), created_by })
    }

    fn suspension(consumer: &str, until: Option<i64>) -> Entry {
        let (until, created_by) = (until.map(at), "admin".into());
        Entry::Suspension(Suspension { consumer: consumer.into(), until, reason: None, created: at(0), created_by })
    }

    fn revocation(jti: &str, expires: Option<i64>) -> Entry {
        Entry::Revocation(Revocation {
            target: RevocationTarget::Jti(jti.into()),
            issued_before: None,
            expires: expires.map(at),
            reason: None,
            created: at(0),
            created_by: "admin".into(),
        })
    }

    fn consumer(name: &str, role: &str) -> Entry {
        Entry::Consumer(Consumer {
            name: name.into(),
            roles: Some(vec![role.into()]),
            organization: None,
            plan: None,
            from: None,
            attributes: std::collections::BTreeMap::new(),
            identities: Vec::new(),
            note: None,
            created: at(0),
            created_by: "admin".into(),
        })
    }

    fn memory(entries: &[Entry]) -> Memory {
        let memory = Memory::new(Epoch::default());
        entries.iter().for_each(|entry| memory.apply(Change::Put(entry.clone())));
        memory
    }

    fn since(changed: &[&Entry]) -> Since {
        let mut since = Since::new(true);
        changed.iter().for_each(|entry| since.note(entry.kind(), entry.id()));
        since
    }

    /// What a request would find: the entries in force, as text.
    fn in_force(memory: &Memory) -> Vec<String> {
        let entries = memory.entries().all();
        let mut found: Vec<String> = entries.values().map(|entry| String::from_utf8(entry.encode()).unwrap()).collect();
        memory.revoked.for_each(|key, coverage| found.push(format!("{} {coverage:?}", key.id())));
        found.sort();
        found
    }

    /// S5: what a store forgets lifts no restriction and brings back nothing that was removed; what it changes later
    /// counts.
    #[test]
    fn a_store_that_lost_changes_lifts_no_restriction() {
        type Case = (&'static str, Option<Entry>, Option<Entry>, bool, Option<Entry>);
        // What is known here, what the store has, whether the store has changed it since; what is in force then.
        let cases: [Case; 20] = [
            ("a revocation is lost", Some(revocation("a", None)), None, false, Some(revocation("a", None))),
            ("it is undone", Some(revocation("a", None)), None, true, None),
            ("it reached less", Some(revocation("a", None)), Some(revocation("a", Some(5))), false, {
                Some(revocation("a", None))
            }),
            ("it is narrowed", Some(revocation("a", None)), Some(revocation("a", Some(5))), true, {
                Some(revocation("a", Some(5)))
            }),
            ("one is new here", None, Some(revocation("a", None)), false, Some(revocation("a", None))),
            ("a suspension is lost", Some(suspension("a", None)), None, false, Some(suspension("a", None))),
            ("it is lifted", Some(suspension("a", None)), None, true, None),
            ("it was longer", Some(suspension("a", Some(9))), Some(suspension("a", Some(5))), false, {
                Some(suspension("a", Some(9)))
            }),
            ("it was without end", Some(suspension("a", None)), Some(suspension("a", Some(5))), false, {
                Some(suspension("a", None))
            }),
            ("one is new", None, Some(suspension("a", None)), false, Some(suspension("a", None))),
            ("a removed key is back", None, Some(key("a", 9)), false, None),
            ("it is made anew", None, Some(key("a", 9)), true, Some(key("a", 9))),
            ("a key ended earlier", Some(key("a", 5)), Some(key("a", 9)), false, Some(key("a", 5))),
            ("a key is extended", Some(key("a", 5)), Some(key("a", 9)), true, Some(key("a", 9))),
            ("a key is lost", Some(key("a", 9)), None, false, None),
            ("an ended grant is back", None, Some(grant("a")), false, None),
            ("a grant is lost", Some(grant("a")), None, false, None),
            ("a consumer had fewer roles", Some(consumer("a", "reader")), Some(consumer("a", "clerk")), false, {
                Some(consumer("a", "reader"))
            }),
            ("a consumer is lost", Some(consumer("a", "reader")), None, false, Some(consumer("a", "reader"))),
            ("a consumer is removed", Some(consumer("a", "reader")), None, true, None),
        ];
        for (case, known, stored, changed, expected) in cases {
            let memory = memory(known.as_slice());
            let mut load = PendingLoad::new(&memory);
            stored.iter().for_each(|entry| load.put(entry.clone()));
            let named: Vec<&Entry> = known.iter().chain(&stored).filter(|_| changed).collect();
            load.merge(&since(&named));
            assert_eq!(in_force(&memory), in_force(&self::memory(expected.as_slice())), "{case}");
        }
    }

    #[test]
    fn where_the_stream_was_trimmed_the_store_counts_except_for_restrictions() {
        let memory = memory(&[key("old", 9), revocation("a", None), suspension("a", None), grant("old")]);
        let mut load = PendingLoad::new(&memory);
        load.put(key("new", 8));
        let kept = load.merge(&Since::new(false));
        assert_eq!(kept, Kept { revocations: 1, suspensions: 1, ..Kept::default() });
        let expected = self::memory(&[key("new", 8), revocation("a", None), suspension("a", None)]);
        assert_eq!(in_force(&memory), in_force(&expected));
        assert!(!memory.entries().grants.contains_key(&grant_id("acme", "old")));
    }
}
