//! Clients of the token service (RFC 6749 §2).
//!
//! A client has one kind of credential: secrets (two may overlap, so that they can be replaced), keys with which it signs
//! assertions (RFC 7523), or a certificate (RFC 8705 §2). What it may do is what its consumer may do. Clients of the policy take
//! precedence over those that were made at run time.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::caller::{Consumer, CredentialKind};
use super::claims::{OWN_ISSUER, refuse};
use super::key_set::KeySet;
use crate::exchange::networks::Networks;
use crate::refusal::{Reason, Refusal};
use crate::state::registry::Registry;
use crate::state::registry::entry::{self, ClientKey, Digest};
use crate::state::registry::revocation_key::RevocationKey;

/// How many clients of a consumer that were made at run time may be good at once, with those that it is invited for. Of what is
/// made on several nodes at the same moment, none counts for the others.
pub(crate) const MOST_CLIENTS: usize = 100;

/// All clients, by id.
pub(crate) type Clients = HashMap<Box<str>, Arc<Client>>;

/// A client of the token service.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: Box<str>,
    /// The consumer that it belongs to.
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) credential: ClientCredential,
    /// Restricts what the consumer's roles allow.
    pub(crate) scopes: Option<Vec<Box<str>>>,
    /// Where it and its tokens are good from, within what its consumer may.
    pub(crate) networks: Option<Arc<Networks>>,
    /// When it was made; absent: it is of the policy.
    pub(crate) created: Option<Timestamp>,
    /// When its key or certificate was issued, as revocations see it; absent if only a request can say.
    pub(crate) issued: Option<Timestamp>,
    /// It and its tokens are refused from this instant on.
    pub(crate) expires: Option<Timestamp>,
    /// Whether its tokens must be bound to a DPoP key.
    pub(crate) dpop: bool,
    /// The issuers whose tokens it may exchange.
    pub(crate) exchange: Box<[Box<str>]>,
    /// Whether it may introspect the tokens of others: it is an API.
    pub(crate) introspect: bool,
}

impl Client {
    /// A client that was made at run time, which this consumer owns.
    pub(crate) fn of_registry(stored: &entry::Client, consumer: Arc<Consumer>) -> Self {
        let credential = match &stored.credential {
            entry::ClientCredential::Secrets(secrets) => {
                let secrets = secrets.iter().map(|secret| ClientSecret {
                    sha256: secret.sha256,
                    created: Some(secret.created),
                    expires: secret.expires,
                });
                ClientCredential::Secrets(secrets.collect())
            }
            entry::ClientCredential::Key(key) => ClientCredential::Key(key.clone()),
            entry::ClientCredential::Certificate(thumbprint) => ClientCredential::Certificate(*thumbprint),
            // No secret is the right one.
            entry::ClientCredential::Later(_) => ClientCredential::Secrets(Vec::new()),
        };
        Self {
            id: stored.id.clone(),
            consumer,
            credential,
            scopes: stored.scopes.clone(),
            networks: stored.from.clone().map(Arc::new),
            created: Some(stored.created),
            issued: Some(stored.issued.unwrap_or(stored.created)),
            expires: stored.end(),
            dpop: false,
            exchange: Box::default(),
            introspect: false,
        }
    }

    /// What it may do, at most.
    pub(crate) fn ceiling(&self) -> Vec<Box<str>> {
        let all = self.consumer.ceiling().unwrap_or_default().iter();
        all.filter(|scope| self.scopes.as_ref().is_none_or(|scopes| scopes.contains(scope))).cloned().collect()
    }

    /// Whether it is good now: `active`, `expired` or `revoked`.
    pub(crate) fn state(&self, registry: &Registry, now: Timestamp) -> &'static str {
        let keys = self.revocation_keys();
        let is_revoked = |issued: Option<Timestamp>| registry.is_revoked(&keys, issued.map(Timestamp::as_second), now);
        match &self.credential {
            ClientCredential::Secrets(secrets) => {
                let secrets = secrets.iter().map(|secret| (secret.created, secret.expires));
                state_of_secrets(secrets, self.expires, is_revoked, now)
            }
            // Of a client of the policy, only a request says when what it shows was issued: an assertion is of that moment.
            _ => state_of_one(self.issued.or(Some(now)), self.expires, is_revoked, now),
        }
    }

    /// When it ends, if it does: at its own end, or with the last of its secrets.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        let of_secrets = || match &self.credential {
            ClientCredential::Secrets(secrets) => {
                let ends: Option<Vec<_>> = secrets.iter().map(|secret| secret.expires).collect();
                ends.and_then(|ends| ends.into_iter().max())
            }
            _ => None,
        };
        self.expires.or_else(of_secrets)
    }

    /// The keys by which it, and all it was given, can be revoked.
    fn revocation_keys(&self) -> Vec<RevocationKey> {
        let certificate = match &self.credential {
            ClientCredential::Certificate(thumbprint) => Some(thumbprint),
            _ => None,
        };
        revocation_keys(&self.id, self.consumer.name(), certificate)
    }

    /// Decides whether operators have left it, and what `more` names, as they are. `issued`: when that was given, in seconds
    /// since 1970.
    ///
    /// # Errors
    /// It is revoked or has expired, or its consumer is suspended.
    pub(crate) fn check_standing(
        &self,
        registry: &Registry,
        more: &[RevocationKey],
        issued: Option<i64>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let keys = [&self.revocation_keys(), more].concat();
        if registry.is_revoked(&keys, issued, now) {
            return Err(refuse(Reason::Revoked, "the client has been revoked; ask the API's owner"));
        }
        if self.expires.is_some_and(|end| end <= now) {
            return Err(refuse(Reason::InvalidClient, "the client has expired; ask the API's owner for a new one"));
        }
        if registry.consumer_state(self.consumer.name(), now).suspended {
            return Err(refuse(Reason::ConsumerSuspended, "the consumer is suspended; ask the API's owner"));
        }
        Ok(())
    }
}

/// How many of the clients of a consumer that were made at run time are good.
pub(crate) fn good_clients(registry: &Registry, consumer: &str, now: Timestamp) -> usize {
    registry.clients_of(consumer).iter().filter(|one| !has_ended(one, registry, now)).count()
}

/// Whether a client that was made at run time is not good any more, so that nobody uses its key or certificate: see [`Client::state`].
pub(crate) fn has_ended(stored: &entry::Client, registry: &Registry, now: Timestamp) -> bool {
    let certificate = match &stored.credential {
        entry::ClientCredential::Certificate(thumbprint) => Some(thumbprint),
        _ => None,
    };
    let keys = revocation_keys(&stored.id, &stored.consumer, certificate);
    let is_revoked = |issued: Option<Timestamp>| registry.is_revoked(&keys, issued.map(Timestamp::as_second), now);
    let state = match &stored.credential {
        entry::ClientCredential::Secrets(secrets) => {
            let secrets = secrets.iter().map(|secret| (Some(secret.created), secret.expires));
            state_of_secrets(secrets, stored.end(), is_revoked, now)
        }
        // Nobody can authenticate as the client.
        entry::ClientCredential::Later(_) => return true,
        entry::ClientCredential::Key(_) | entry::ClientCredential::Certificate(_) => {
            state_of_one(Some(stored.issued.unwrap_or(stored.created)), stored.end(), is_revoked, now)
        }
    };
    state != "active"
}

/// Decides about a client with secrets, by when each was created and when it ends, the newest last; and by its own end. Each secret is
/// decided by itself, and the client is as good as the best of them.
fn state_of_secrets(
    secrets: impl Iterator<Item = (Option<Timestamp>, Option<Timestamp>)>,
    end: Option<Timestamp>,
    is_revoked: impl Fn(Option<Timestamp>) -> bool,
    now: Timestamp,
) -> &'static str {
    let (mut newest, mut is_over, mut all_revoked) = (None, true, true);
    for (created, expires) in secrets {
        newest = created;
        if !has_passed(expires, now) {
            is_over = false;
            all_revoked &= is_revoked(created);
        }
    }
    let revoked = if is_over { is_revoked(newest) } else { all_revoked };
    named(revoked, is_over || has_passed(end, now))
}

/// Decides about a client with a key or a certificate of its own, issued then.
fn state_of_one(
    issued: Option<Timestamp>,
    end: Option<Timestamp>,
    is_revoked: impl Fn(Option<Timestamp>) -> bool,
    now: Timestamp,
) -> &'static str {
    named(is_revoked(issued), has_passed(end, now))
}

fn has_passed(end: Option<Timestamp>, now: Timestamp) -> bool {
    end.is_some_and(|end| end <= now)
}

fn named(revoked: bool, expired: bool) -> &'static str {
    match (revoked, expired) {
        (true, _) => "revoked",
        (false, true) => "expired",
        (false, false) => "active",
    }
}

fn revocation_keys(id: &str, consumer: &str, certificate: Option<&Digest>) -> Vec<RevocationKey> {
    let mut keys =
        vec![RevocationKey::subject(OWN_ISSUER, id), RevocationKey::consumer(consumer), RevocationKey::all()];
    keys.extend(certificate.map(RevocationKey::certificate));
    keys
}

/// What a client proves its identity by.
#[derive(Debug)]
pub(crate) enum ClientCredential {
    Secrets(Vec<ClientSecret>),
    /// It signs assertions with one of these keys.
    Keys(Arc<KeySet>),
    /// It signs assertions with this key, which is read when one comes: it was checked when it was registered.
    Key(ClientKey),
    /// Thumbprint of its certificate.
    Certificate(Digest),
}

impl ClientCredential {
    /// How it authenticates, by the name that records have.
    pub(crate) fn kind(&self) -> CredentialKind {
        match self {
            Self::Secrets(_) => CredentialKind::ClientSecret,
            Self::Keys(_) | Self::Key(_) => CredentialKind::ClientAssertion,
            Self::Certificate(_) => CredentialKind::Certificate,
        }
    }
}

/// A secret of a client.
#[derive(Debug)]
pub(crate) struct ClientSecret {
    pub(crate) sha256: Digest,
    /// When it was created.
    pub(crate) created: Option<Timestamp>,
    /// It is refused from this instant on.
    pub(crate) expires: Option<Timestamp>,
}

/// How a request says which client sends it. Nothing is verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    Secret {
        id: &'a str,
        secret: &'a str,
    },
    Assertion {
        id: Option<&'a str>,
        assertion: &'a str,
    },
    /// By the certificate of its connection, if it has one.
    Id(&'a str),
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::state::epoch::Epoch;
    use crate::state::ledger::Clock;
    use crate::state::registry::entry::{Change, Entry, Revocation};
    use crate::state::registry::revocation_key::RevocationTarget;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    /// Whether a client is listed as good, and whether its place is free for another, is one decision.
    #[test]
    fn what_is_said_of_a_client_is_what_is_decided_by() {
        let secrets = |all: &[(i64, Option<i64>)]| {
            let secret = |&(created, end): &(i64, Option<i64>)| {
                let expires = end.map(at);
                entry::ClientSecret { sha256: Digest::default(), created: at(created), expires }
            };
            entry::ClientCredential::Secrets(all.iter().map(secret).collect())
        };
        let certificate = || entry::ClientCredential::Certificate(Digest::default());
        let later = || entry::ClientCredential::Later(serde_json::json!({"passkey": 1}));
        // What was issued before the hour 5 is revoked, and it is the hour 10.
        for (credential, created, issued, expires, expected) in [
            (secrets(&[(6, None)]), 6, None, None, "active"),
            (secrets(&[(1, None)]), 1, None, None, "revoked"),
            (secrets(&[(1, Some(11)), (6, None)]), 1, None, None, "active"),
            (secrets(&[(1, Some(11)), (6, Some(10))]), 1, None, None, "revoked"),
            (secrets(&[(1, Some(9)), (6, Some(10))]), 1, None, None, "expired"),
            (secrets(&[(1, Some(9)), (2, Some(10))]), 1, None, None, "revoked"),
            (secrets(&[(6, None)]), 6, None, Some(10), "expired"),
            (certificate(), 6, None, None, "active"),
            (certificate(), 6, Some(1), None, "revoked"),
            (certificate(), 1, Some(6), None, "active"),
            (certificate(), 6, None, Some(10), "expired"),
            (later(), 6, None, None, "revoked"),
        ] {
            let registry = Registry::new(None, Epoch::default(), Clock::starting(std::time::Instant::now()));
            registry.learn(Change::Put(Entry::Revocation(Revocation {
                target: RevocationTarget::Consumer("acme".into()),
                issued_before: Some(at(5)),
                expires: None,
                reason: None,
                created: at(9),
                created_by: "admin".into(),
            })));
            let stored = entry::Client {
                id: "acme-1".into(),
                consumer: "acme".into(),
                credential,
                scopes: None,
                from: None,
                expires: expires.map(at),
                issued: issued.map(at),
                note: None,
                created: at(created),
                created_by: "admin".into(),
            };
            let consumer = Arc::new(Consumer::new("acme", Vec::new(), None, None));
            let shown = Client::of_registry(&stored, consumer).state(&registry, at(10));
            let ended = has_ended(&stored, &registry, at(10));
            assert_eq!((shown, ended), (expected, expected != "active"), "{:?}", stored.credential);
        }
    }
}
