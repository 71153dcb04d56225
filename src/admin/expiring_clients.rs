//! Clients of the token service that end soon, for a daily warning in the log.
//!
//! Never called while proxying a request, because it iterates over all clients.

use jiff::{SignedDuration, Timestamp};

use crate::stages::auth::client::{self, Clients};
use crate::state::registry::Registry;

/// The log warns of clients that end within this time.
const WARNED: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Most warnings.
const MOST: usize = 100;

/// What the log says of the clients, `listed` and made at run time, that are good and end soon: the next to end first.
pub(crate) fn problems(listed: &Clients, registry: &Registry, now: Timestamp) -> impl Iterator<Item = String> + use<> {
    let horizon = now.checked_add(WARNED).unwrap_or(Timestamp::MAX);
    let listed = listed.values().filter(|one| one.state(registry, now) == "active");
    let listed = listed.filter_map(|one| Some((one.end()?, one.id.clone(), one.consumer.name().clone())));
    let made = registry.clients();
    let made = made.iter().filter(|one| !client::has_ended(one, registry, now));
    let made = made.filter_map(|one| Some((one.end()?, one.id.clone(), one.consumer.clone())));
    let mut ending: Vec<_> = listed.map(|(end, id, name)| (end, id, Box::from(&*name))).chain(made).collect();
    ending.retain(|(end, ..)| now < *end && *end <= horizon);
    ending.sort();
    ending.into_iter().take(MOST).map(|(end, id, consumer)| {
        format!("the client `{id}` of `{consumer}` ends at {end:.0}; replace its secret, or invite its consumer again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::epoch::Epoch;
    use crate::state::ledger::Clock;
    use crate::state::registry::entry::{self, Change, ClientCredential, ClientSecret, Entry, Revocation};
    use crate::state::registry::revocation_key::RevocationTarget;

    #[test]
    fn clients_that_are_good_and_end_soon() {
        let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let registry = Registry::new(None, Epoch::default(), Clock::starting(std::time::Instant::now()));
        for (id, ends) in [
            ("ends", vec![Some(1), Some(14 * 24)]),
            ("first", vec![Some(2)]),
            ("far", vec![Some(14 * 24 + 1)]),
            ("ended", vec![Some(0)]),
            ("next-has-no-end", vec![Some(1), None]),
            ("revoked", vec![Some(1)]),
        ] {
            let secret = |end: Option<i64>| ClientSecret { sha256: [0; 32], created: at(-1), expires: end.map(at) };
            registry.learn(Change::Put(Entry::Client(entry::Client {
                id: id.into(),
                consumer: "acme".into(),
                credential: ClientCredential::Secrets(ends.into_iter().map(secret).collect()),
                scopes: None,
                from: None,
                expires: None,
                issued: None,
                note: None,
                created: at(-1),
                created_by: "admin".into(),
            })));
        }
        registry.learn(Change::Put(Entry::Revocation(Revocation {
            target: RevocationTarget::Subject { issuer: "token_service".into(), subject: "revoked".into() },
            issued_before: None,
            expires: None,
            reason: None,
            created: at(0),
            created_by: "admin".into(),
        })));
        let said: Vec<String> = problems(&Clients::default(), &registry, at(0)).collect();
        assert!(said.len() == 2 && said[0].contains("`first`") && said[1].contains("`ends` of `acme`"), "{said:?}");
    }
}
